/** Plugs the devices of a plan one after the other into a model of the machine, and says what became of each. */
import { MemoryDeviceError, type MemoryDeviceErrorCode } from '../../errors.ts';
import { HvBalloon } from '../hv-balloon.ts';
import type { MemoryDevice } from '../memory-device.ts';
import { UNLIMITED_MEMSLOTS, vhostUserMemslotLimit } from '../memslot-budget.ts';
import { Nvdimm, PcDimm } from '../pc-dimm.ts';
import { PcMemory, type PcPhase } from '../pc-memory.ts';
import { createRamBackend } from '../ram-backend.ts';
import type { VhostSlotCounter } from '../vhost-sections.ts';
import { VirtioMem } from '../virtio-mem.ts';
import type { PlanConfig, PlannedDevice, PlanPhase } from './config.ts';

/** Memslots after a step. */
export interface SlotCounts {
  /** Of the smallest table; undefined: there is none. */
  readonly limit: number | undefined;
  /** In the fullest table, RAM included. */
  readonly used: number;
  /** Of memory devices, used or not. */
  readonly required: number;
  /** Of memory devices, not used yet. */
  readonly reserved: number;
  /** In the table with the least room, reserved ones included; undefined: no limit. */
  readonly free: number | undefined;
}

export type StepOutcome =
  | {
      readonly kind: 'plugged';
      /** Guest physical address; undefined for a back-end and an empty device. */
      readonly address: bigint | undefined;
      /** How many memslots it may use, and the size of all but the last of them; undefined for a back-end. */
      readonly memslots: number | undefined;
      readonly memslotSize: bigint | undefined;
    }
  | {
      readonly kind: 'refused';
      readonly code: MemoryDeviceErrorCode;
      readonly reason: string;
      /** Entries of the table that is too small; undefined: it is not for want of memslots. */
      readonly limit: number | undefined;
    };

export interface PlanStep {
  readonly device: PlannedDevice;
  readonly outcome: StepOutcome;
  readonly counts: SlotCounts;
}

/** Takes back what a successful plug did. */
type Undo = () => void;

/** A machine that devices of a plan are plugged into, and out of in reverse order. */
export class PlanMachine {
  readonly memory: PcMemory;
  readonly #hypervisorSlots: number | undefined;

  /** @throws {MemoryDeviceError} BAD_PROPERTY */
  constructor(config: PlanConfig) {
    this.#hypervisorSlots = config.hypervisorSlots;
    this.memory = new PcMemory({
      ram: config.ram,
      dimmSlots: config.dimmSlots,
      ...(config.maxmem === undefined ? {} : { maxmem: config.maxmem }),
      ...(config.hypervisorSlots === undefined ? {} : { hypervisorLimit: config.hypervisorSlots }),
    });
  }

  /** @returns how to take it back; undefined for a device that was refused, which is not there */
  plug(device: PlannedDevice): { readonly outcome: StepOutcome; readonly undo: Undo | undefined } {
    this.memory.setPhase(PHASES[device.plugged]);
    try {
      return device.driver === 'vhost-user-fs' ? this.#connect(device) : this.#add(this.#make(device));
    } catch (error) {
      if (!(error instanceof MemoryDeviceError)) throw error;
      const { code, message: reason } = error;
      const limit = this.#limitBehind(code, device);
      return { outcome: { kind: 'refused', code, reason, limit }, undo: undefined };
    }
  }

  get counts(): SlotCounts {
    const { budget, observer } = this.memory;
    const { required, reserved, limit, free } = budget;
    const isLimited = limit < UNLIMITED_MEMSLOTS;
    return {
      limit: isLimited ? limit : undefined,
      used: Math.max(observer.used, ...budget.consumers.map(({ used }) => used)),
      required,
      reserved,
      free: isLimited ? free : undefined,
    };
  }

  #limitBehind(code: MemoryDeviceErrorCode, device: PlannedDevice): number | undefined {
    if (device.driver === 'vhost-user-fs') return vhostUserMemslotLimit(device);
    if (code === 'HYPERVISOR_SLOTS') return this.#hypervisorSlots;
    if (code !== 'VHOST_SLOTS') return undefined;
    const [fullest] = this.memory.budget.consumers.toSorted((a, b) => a.limit - a.used - (b.limit - b.used));
    return fullest?.limit;
  }

  #connect(device: Extract<PlannedDevice, { driver: 'vhost-user-fs' }>) {
    const counter: VhostSlotCounter = this.memory.connect(device.id, vhostUserMemslotLimit(device));
    const outcome: StepOutcome = {
      kind: 'plugged',
      address: undefined,
      memslots: undefined,
      memslotSize: undefined,
    };
    return { outcome, undo: () => this.memory.disconnect(counter) };
  }

  #add(device: MemoryDevice) {
    this.memory.devices.add(device);
    const region = device.region();
    const slots =
      device instanceof VirtioMem || device instanceof HvBalloon ? device.dynamicMemslots : undefined;
    const outcome: StepOutcome = {
      kind: 'plugged',
      address: region === undefined ? undefined : device.address,
      memslots: device.memslots?.() ?? 1,
      memslotSize: slots === undefined ? region?.size : BigInt(slots.layout.memslotSize),
    };
    return { outcome, undo: () => this.memory.devices.unplug(device) };
  }

  #make(planned: Exclude<PlannedDevice, { driver: 'vhost-user-fs' }>): MemoryDevice {
    const { id, size, pageSize, address } = planned;
    const backend = createRamBackend(this.memory.topology, {
      id: `${id}-memory`,
      size,
      pageSize,
      block: { fd: 0, isShared: true }, // any descriptor: only that there is one counts
    });
    const common = { id, backend, address };
    if (planned.driver === 'hv-balloon') return new HvBalloon(common);
    if (planned.driver === 'virtio-mem') {
      const { blockSize, dynamicMemslots } = planned;
      return new VirtioMem({ ...common, dynamicMemslots, ...(blockSize === undefined ? {} : { blockSize }) });
    }
    const { slot, labelSize } = planned;
    const inSlot = { ...common, slots: this.memory.dimmSlots, ...(slot === undefined ? {} : { slot }) };
    return planned.driver === 'nvdimm' ? new Nvdimm({ ...inSlot, labelSize }) : new PcDimm(inSlot);
  }
}

const PHASES: Readonly<Record<PlanPhase, PcPhase>> = {
  start: 'created',
  paused: 'paused',
  running: 'booted',
};

/** Every device in turn. One that is refused is left out, as when it is plugged at run time; at the start QEMU would end there. */
export function runSteps(config: PlanConfig, devices = config.devices): PlanStep[] {
  const machine = new PlanMachine(config);
  return devices.map((device) => {
    const { outcome } = machine.plug(device);
    return { device, outcome, counts: machine.counts };
  });
}
