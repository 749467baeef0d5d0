/** Memory slots that come and go beside requests that use others: who uses which, and that nobody touches one that is gone. */
import type { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import type { Random } from '../../src/stress/random.ts';

/** What memory that nobody shall write to is filled with. */
export const CANARY = 0xa5;

export class ChurnSlots {
  /** Memory of all slots, there or not. */
  readonly bytes: Uint8Array;
  /** Guest physical address of the first. */
  readonly gpa: number;
  /** Slots added and removed so far. */
  changes = 0;

  readonly #machine: LoopbackMachine;
  readonly #random: Random;
  readonly #slotSize: number;
  readonly #least: number;
  /** Requests in flight with a buffer in the slot. */
  readonly #users: Uint16Array;
  readonly #untouched: Uint8Array;
  /** The slot that goes as soon as its last request is answered; −1 for none. No new request uses it. */
  #leaving = -1;

  /** @param least slots that are always there */
  constructor(machine: LoopbackMachine, random: Random, least: number) {
    const { slots, slotSize } = machine.ram.layout;
    this.#machine = machine;
    this.#random = random;
    this.#slotSize = slotSize;
    this.#least = least;
    this.#users = new Uint16Array(slots);
    this.#untouched = new Uint8Array(slotSize).fill(CANARY);
    const { gpa, bytes } = machine.ram.slotBuffer(0, 0, slots * slotSize);
    this.gpa = gpa;
    this.bytes = bytes.fill(CANARY);
    for (let slot = 0; slot < slots; slot += 1) machine.plug(slot);
  }

  /** Where a window of that size may lie, more often than not across the edge of a slot; −1 if nowhere was found. */
  findWindow(size: number): number {
    const end = this.bytes.length - size;
    for (let attempt = 0; attempt < 32; attempt += 1) {
      const edge = this.#slotSize * this.#random.below(this.#users.length);
      const at =
        this.#random.below(2) === 0 ? edge - this.#random.below(size + 1) : this.#random.below(end + 1);
      if (at >= 0 && at <= end && this.#isThere(at, size)) return at;
    }
    return -1;
  }

  use(at: number, size: number, users: 1 | -1): void {
    for (let slot = this.#slotOf(at); slot <= this.#slotOf(at + size - 1); slot += 1)
      this.#users[slot]! += users;
  }

  /**
   * Adds a slot, or removes one, which may have to wait until no request uses it.
   *
   * @throws {Error} if one was written to while it was away
   */
  change(): void {
    if (this.#leaving < 0) {
      const slot = this.#random.below(this.#users.length);
      if (!this.#machine.isPlugged(slot)) {
        this.#checkUntouched(slot);
        this.#machine.plug(slot);
        this.changes += 1;
      } else if (this.#machine.pluggedSlots > this.#least) this.#leaving = slot;
    }
    if (this.#leaving < 0 || this.#users[this.#leaving] !== 0) return;
    this.#machine.unplug(this.#leaving);
    this.#octetsOf(this.#leaving).fill(CANARY);
    this.#leaving = -1;
    this.changes += 1;
  }

  /** Removes all that are there, and checks all. */
  removeAll(): void {
    for (let slot = 0; slot < this.#users.length; slot += 1) {
      if (this.#users[slot] !== 0) throw new Error(`slot ${slot} is still in use`);
      if (this.#machine.isPlugged(slot)) this.#machine.unplug(slot);
      else this.#checkUntouched(slot);
    }
  }

  #isThere(at: number, size: number): boolean {
    for (let slot = this.#slotOf(at); slot <= this.#slotOf(at + size - 1); slot += 1)
      if (!this.#machine.isPlugged(slot) || slot === this.#leaving) return false;
    return true;
  }

  #slotOf(at: number): number {
    return Math.floor(at / this.#slotSize);
  }

  #octetsOf(slot: number): Uint8Array {
    return this.bytes.subarray(slot * this.#slotSize, (slot + 1) * this.#slotSize);
  }

  #checkUntouched(slot: number): void {
    const octets = this.#octetsOf(slot);
    if (Buffer.compare(octets, this.#untouched) === 0) return;
    const first = octets.findIndex((octet) => octet !== CANARY);
    throw new Error(`slot ${slot} was written to while it was away, from octet ${first} on`);
  }
}
