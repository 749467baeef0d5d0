/**
 * A ring that another thread serves: each call is a command to it, and waits for its answer.
 *
 * The thread need not run before there is something to serve: what a front-end does with every ring of a device,
 * whether its guest uses it or not, is kept until then.
 */
import type { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import { ProtocolError } from '../errors.ts';
import type { ReachableMemory } from '../guest-memory/reachable-memory.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import type { RingControl } from './ring-control.ts';
import { VRING_STATES, type RingCommand } from './ring-command.ts';
import { areSameAreas, resolveAreas, type VringAreas } from './vring-areas.ts';
import type { VringState } from './vring.ts';

/** How commands reach the thread. */
export interface RingThread {
  readonly isStarted: boolean;
  /**
   * Starts the thread if need be, has the command carried out and waits for the answer.
   *
   * @throws {ProtocolError} as the ring does
   */
  call(command: RingCommand): number;
}

export class RemoteRing implements RingControl {
  readonly index: number;
  readonly #thread: RingThread;
  #call: OwnedFd | undefined;
  #err: OwnedFd | undefined;
  #isEnabled = false;
  /** `#call`, `#err` and `#isEnabled` are with the thread, and everything else goes there. */
  #isThere = false;
  #num = 0;
  #addr: VringAddr | undefined;
  #areas: VringAreas | undefined;

  constructor(index: number, thread: RingThread) {
    this.index = index;
    this.#thread = thread;
  }

  get state(): VringState {
    return this.#isThere ? VRING_STATES[this.#do({ name: 'state', index: this.index })]! : 'stopped';
  }

  setNum(value: number): void {
    this.#send({ name: 'setNum', index: this.index, value });
    this.#num = value;
  }
  setBase(value: number): void {
    this.#send({ name: 'setBase', index: this.index, value });
  }
  setAddr(addr: VringAddr): void {
    this.#send({ name: 'setAddr', index: this.index, addr });
    this.#addr = addr;
  }
  setKick(fd: OwnedFd | undefined): void {
    this.#send({ name: 'setKick', index: this.index, fd: fd?.release() ?? -1 });
  }

  setCall(fd: OwnedFd | undefined): void {
    if (this.#isThere) this.#send({ name: 'setCall', index: this.index, fd: fd?.release() ?? -1 });
    else {
      this.#call?.close();
      this.#call = fd;
    }
  }
  setErr(fd: OwnedFd | undefined): void {
    if (this.#isThere) this.#send({ name: 'setErr', index: this.index, fd: fd?.release() ?? -1 });
    else {
      this.#err?.close();
      this.#err = fd;
    }
  }
  setEnabled(isEnabled: boolean): void {
    if (this.#isThere) this.#send({ name: 'setEnabled', index: this.index, isEnabled });
    else this.#isEnabled = isEnabled;
  }

  stop(): number {
    return this.#isThere ? this.#do({ name: 'stop', index: this.index }) : 0;
  }
  reset(): void {
    if (this.#isThere) this.#send({ name: 'reset', index: this.index });
    this.#addr = undefined;
    this.#isEnabled = false;
  }
  close(): void {
    if (this.#isThere) this.#send({ name: 'close', index: this.index });
    this.#isThere = false;
    this.#addr = undefined;
    this.#call?.close();
    this.#err?.close();
    this.#call = undefined;
    this.#err = undefined;
    this.#isEnabled = false;
  }

  /**
   * The memory table has changed.
   *
   * @returns true if the ring has lost its memory, or got it back: its thread is to know soon
   */
  hasMoved(memory: Pick<ReachableMemory, 'resolveUva'>): boolean {
    if (this.#addr === undefined) return false;
    const before = this.#areas;
    this.#areas = findAreas(memory, this.#addr, Math.max(1, this.#num));
    return before === undefined || this.#areas === undefined
      ? before !== this.#areas
      : !areSameAreas(before, this.#areas);
  }

  #send(command: RingCommand): void {
    this.#do(command);
  }

  #do(command: RingCommand): number {
    if (!this.#isThere) this.#moveThere();
    return this.#thread.call(command);
  }

  /** Hands over what was kept. */
  #moveThere(): void {
    this.#isThere = true;
    const { index } = this;
    const call = this.#call?.release() ?? -1;
    const err = this.#err?.release() ?? -1;
    this.#call = undefined;
    this.#err = undefined;
    this.#thread.call({ name: 'setCall', index, fd: call });
    this.#thread.call({ name: 'setErr', index, fd: err });
    this.#thread.call({ name: 'setEnabled', index, isEnabled: this.#isEnabled });
  }
}

function findAreas(
  memory: Pick<ReachableMemory, 'resolveUva'>,
  addr: VringAddr,
  num: number,
): VringAreas | undefined {
  try {
    return resolveAreas(memory, addr, num);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return undefined;
  }
}
