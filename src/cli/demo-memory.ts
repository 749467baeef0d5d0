/** Virtio-mem that grows and shrinks slot by slot, in waves, and how long each change took. */
import type { GuestVirtioMem } from '../machine/guest-virtio-mem.ts';
import type { MachineDevice } from '../machine/machine-device.ts';

/** Where the waves turn, as parts of all slots. */
const TURNS = [1, 0.25, 0.75, 0.125, 0.875, 0.5, 1, 0.0625, 0.625, 0.375];

export class DemoMemory {
  /** Slots mapped and unmapped so far, and most at the same time. */
  mapped = 0;
  unmapped = 0;
  most = 0;
  /** What each change took, in milliseconds: virtio-mem request, memory model, message, acknowledgement. */
  readonly plugTimes: number[] = [];
  readonly unplugTimes: number[] = [];
  /** Slot that changed last. */
  last = -1;
  readonly slots: number;
  readonly slotSize: number;
  readonly #virtioMem: GuestVirtioMem;
  readonly #device: MachineDevice;
  #turn = 0;
  #target: number;

  /** @param virtioMem as large as `slots` memslots */
  constructor(virtioMem: GuestVirtioMem, device: MachineDevice, slots: number) {
    this.#virtioMem = virtioMem;
    this.#device = device;
    this.slots = slots;
    this.slotSize = virtioMem.maxSize / slots;
    this.#target = this.#targetAt(0);
  }

  /** Slots the guest has. */
  get plugged(): number {
    return this.#virtioMem.size / this.slotSize;
  }

  /** Where the wave goes. */
  get target(): number {
    return this.#target;
  }

  /** Slots whose memory is there before and after the next change. */
  get usable(): number {
    return this.#target < this.plugged ? this.plugged - 1 : this.plugged;
  }

  /** Whether the wave has got where it was going. */
  get isThere(): boolean {
    return this.plugged === this.#target;
  }

  /** The next wave. @returns where it goes */
  turn(): number {
    this.#turn += 1;
    this.#target = this.#targetAt(this.#turn);
    return this.#target;
  }

  /** The last wave: to nothing. */
  ebb(): void {
    this.#target = 0;
  }

  /**
   * One slot more or less.
   *
   * @throws {Error} if the guest does not get there, or what the back-end has is not what the guest has
   */
  step(): void {
    const before = this.plugged;
    if (before === this.#target) return;
    const after = before + Math.sign(this.#target - before);
    const began = performance.now();
    const outcome = this.#virtioMem.resize(after * this.slotSize);
    const took = performance.now() - began;
    if (outcome !== 'done') throw new Error(`virtio-mem stopped at ${before} of ${after} slots: ${outcome}`);
    const { held } = this.#device.frontend.table;
    if (held.length !== after + 1)
      throw new Error(`the back-end has ${held.length} regions, the guest has RAM and ${after} slots`);
    this.last = Math.min(before, after);
    this.most = Math.max(this.most, after);
    if (after > before) this.mapped += 1;
    else this.unmapped += 1;
    (after > before ? this.plugTimes : this.unplugTimes).push(took);
  }

  #targetAt(turn: number): number {
    return Math.max(1, Math.round(this.slots * TURNS[turn % TURNS.length]!));
  }
}
