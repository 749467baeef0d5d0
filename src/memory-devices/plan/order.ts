/** Looks for an order in which all devices of a plan can be plugged. */
import { PLAN_PHASES, type PlanConfig, type PlannedDevice } from './config.ts';
import { PlanMachine } from './plan.ts';

/** After so many attempts the question is left open. */
const MAX_ATTEMPTS = 5_000;

/** An order that works; `none`: there is none; `unknown`: none was found in reasonable time. */
export type WorkingOrder = readonly PlannedDevice[] | 'none' | 'unknown';

/**
 * The devices of each phase may change places among themselves. The order found first differs little from the one given: back-ends
 * come first, which most refusals call for.
 */
export function findWorkingOrder(config: PlanConfig): WorkingOrder {
  const search = new Search(config);
  const found = search.from(0);
  if (found) return search.order;
  return search.isExhausted ? 'none' : 'unknown';
}

class Search {
  readonly order: PlannedDevice[] = [];
  isExhausted = true;
  readonly #machine: PlanMachine;
  /** Devices that differ in their name only, which it is no use to exchange. */
  readonly #kinds: { readonly shape: string; readonly devices: PlannedDevice[] }[] = [];
  /** Situations from which nothing was found. */
  readonly #hopeless = new Set<string>();
  #attempts = 0;

  constructor(config: PlanConfig) {
    this.#machine = new PlanMachine(config);
    for (const device of sorted(config.devices)) {
      const shape = shapeOf(device);
      const kind = this.#kinds.find((each) => each.shape === shape);
      if (kind === undefined) this.#kinds.push({ shape, devices: [device] });
      else kind.devices.push(device);
    }
  }

  /** @param phase devices of earlier phases are all plugged */
  from(phase: number): boolean {
    const open = this.#kinds.filter(
      ({ devices: [device] }) => device !== undefined && PLAN_PHASES.indexOf(device.plugged) === phase,
    );
    if (open.length === 0) return phase + 1 === PLAN_PHASES.length || this.from(phase + 1);
    const situation = this.#situation(phase);
    if (this.#hopeless.has(situation)) return false;
    for (const { devices } of open) {
      if (this.#attempts >= MAX_ATTEMPTS) {
        this.isExhausted = false;
        return false;
      }
      this.#attempts += 1;
      const device = devices.shift()!;
      const { undo } = this.#machine.plug(device);
      if (undo !== undefined) {
        this.order.push(device);
        if (this.from(phase)) return true;
        this.order.pop();
        undo();
      }
      devices.unshift(device);
    }
    this.#hopeless.add(situation);
    return false;
  }

  /** What is left to plug, and all of the machine that decides what becomes of it. */
  #situation(phase: number): string {
    const { budget, devices } = this.#machine.memory;
    const left = this.#kinds.map((kind) => kind.devices.length).join(',');
    const placed = devices.devices.map(({ address }) => address.toString(36)).join(',');
    return `${phase} ${left} ${budget.required} ${budget.mapped} ${budget.isDecisionActive} ${placed}`;
  }
}

const sorted = (devices: readonly PlannedDevice[]): PlannedDevice[] => [
  ...devices.filter(({ driver }) => driver === 'vhost-user-fs'),
  ...devices.filter(({ driver }) => driver !== 'vhost-user-fs'),
];

const shapeOf = (device: PlannedDevice): string =>
  JSON.stringify({ ...device, id: undefined }, (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
