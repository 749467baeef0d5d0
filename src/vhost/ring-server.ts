/**
 * Serves some rings of a device, on a thread that is not the session's. The session's thread owns the memory table; what
 * this one uses of it, it uses inside the gate.
 *
 *     enter ─▶ take over what was published ─▶ rings have their turns, or a command is carried out ─▶ leave ─▶ wait
 */
import { signalEventfd } from '../host/eventfd.ts';
import type { TurnGate } from '../host/turn-gate.ts';
import type { GuestMemoryView } from '../guest-memory/guest-memory-view.ts';
import type { Log } from '../log.ts';
import type { VhostDevice } from './device.ts';
import type { Loop } from './kick-watch.ts';
import { carryOut, type RingCommand } from './ring-command.ts';
import { RingSet } from './ring-set.ts';
import { ringFeaturesOf } from './vring-surroundings.ts';

interface Options {
  readonly device: VhostDevice;
  readonly loop: Loop;
  /** Its notes are `ringFeatures` and the descriptor that is signalled when pages were marked dirty. */
  readonly memory: GuestMemoryView;
  readonly log: Log;
  readonly pollMicros: number;
  readonly indexes: readonly number[];
  readonly gate: TurnGate;
}

export class RingServer implements Disposable {
  readonly #device: VhostDevice;
  readonly #memory: GuestMemoryView;
  readonly #gate: TurnGate;
  readonly #rings: RingSet;

  constructor({ device, loop, memory, log, pollMicros, indexes, gate }: Options) {
    this.#device = device;
    this.#memory = memory;
    this.#gate = gate;
    this.#rings = new RingSet({
      device,
      loop,
      memory,
      log,
      pollMicros,
      indexes,
      logCall: { signal: () => void (memory.notes.fd >= 0 && signalEventfd(memory.notes.fd)) },
      isWanted: () => gate.isWanted,
    });
  }

  /** Gives every ready ring a turn. @returns as `RingSet.run` */
  turn(): number {
    this.#enter();
    const wait = this.#rings.run();
    this.#leave();
    return wait;
  }

  /** Carries out what the session's thread has asked for, which waits. @throws {ProtocolError} */
  carryOut(command: RingCommand): number {
    const vring = this.#rings.at(command.index);
    if (vring === undefined) throw new RangeError(`ring ${command.index} is not served here`);
    this.#enter();
    try {
      return carryOut(vring, command);
    } finally {
      this.#leave();
    }
  }

  /** Waits until the kernel has finished with guest memory on behalf of this thread. */
  settle(): void {
    this.#enter();
    this.#rings.settle();
    this.#leave();
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    this.#rings.close();
  }

  #enter(): void {
    this.#gate.enter();
    if (!this.#memory.refresh()) return;
    this.#rings.configure(ringFeaturesOf(this.#memory.notes.flags));
    this.#rings.memoryChanged();
  }

  #leave(): void {
    this.#gate.isBusy = (this.#device.completions?.count ?? 0) > 0;
    this.#gate.leave();
  }
}
