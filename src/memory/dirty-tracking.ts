/** Whether writes are logged everywhere, for whom, and how that begins and ends. */
import { MemoryError } from '../errors.ts';
import type { Registered } from './notify.ts';

/** Who wants all migratable memory logged. Bits. */
export const TrackingReason = { MIGRATION: 1, DIRTY_RATE: 2, DIRTY_LIMIT: 4 } as const;
const ALL_REASONS = 7;

/** What of the topology a change of tracking needs. */
export interface TrackedTopology {
  readonly listeners: readonly Registered[];
  /** Calls listeners; the topology cannot be edited meanwhile. */
  notifying(call: () => void): void;
  /** Renders everything anew: the dirty masks changed. */
  refresh(): void;
}

export class DirtyTracking {
  readonly #topology: TrackedTopology;
  #reasons = 0;
  #isRunning = true;
  #postponed = 0;

  constructor(topology: TrackedTopology) {
    this.#topology = topology;
  }

  get reasons(): number {
    return this.#reasons;
  }

  /**
   * Logs writes for these reasons, too. Listeners are told at once, also inside a transaction; the masks of the ranges change with
   * the transaction.
   *
   * @returns a text if a listener could not: nothing changed then
   */
  start(reasons: number): string | undefined {
    checkReasons(reasons);
    if (this.#postponed !== 0) {
      this.#postponed &= ~reasons;
      this.#stopPostponed();
    }
    const added = reasons & ~this.#reasons;
    if (added === 0) return undefined;
    const isFirst = this.#reasons === 0;
    this.#reasons |= added;
    if (!isFirst) return undefined;
    const refusal = this.#tellStart();
    if (refusal === undefined) this.#topology.refresh();
    else this.#reasons &= ~added;
    return refusal;
  }

  /** Ends the given reasons; while the machine is stopped that waits until it runs. @throws {MemoryError} BAD_STATE */
  stop(reasons: number): void {
    checkReasons(reasons);
    if ((this.#reasons & reasons) !== reasons) {
      throw new MemoryError('BAD_STATE', `dirty tracking for ${reasons} is not all on: ${this.#reasons}`);
    }
    if (this.#isRunning) this.#stopNow(reasons);
    else this.#postponed |= reasons;
  }

  /** Whether the machine runs. Starting it performs what `stop` postponed. */
  setRunning(isRunning: boolean): void {
    this.#isRunning = isRunning;
    if (isRunning) this.#stopPostponed();
  }

  #stopPostponed(): void {
    const reasons = this.#postponed;
    this.#postponed = 0;
    if (reasons !== 0) this.#stopNow(reasons);
  }

  #stopNow(reasons: number): void {
    this.#reasons &= ~reasons;
    if (this.#reasons !== 0) return;
    this.#topology.refresh();
    const { listeners } = this.#topology;
    this.#topology.notifying(() => {
      for (let index = listeners.length - 1; index >= 0; index -= 1)
        listeners[index]!.listener.logGlobalStop?.();
    });
  }

  #tellStart(): string | undefined {
    const { listeners } = this.#topology;
    let refusal: string | undefined;
    this.#topology.notifying(() => {
      let told = 0;
      for (const { listener } of listeners) {
        refusal = listener.logGlobalStart?.() ?? undefined;
        if (refusal !== undefined) break;
        told += 1;
      }
      if (refusal === undefined) return;
      for (let index = told - 1; index >= 0; index -= 1) listeners[index]!.listener.logGlobalStop?.();
    });
    return refusal;
  }
}

function checkReasons(reasons: number): void {
  if (reasons === 0 || (reasons & ~ALL_REASONS) !== 0) {
    throw new MemoryError('BAD_STATE', `dirty tracking for ${reasons}: a set of 1, 2 and 4 is possible`);
  }
}
