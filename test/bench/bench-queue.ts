/**
 * The driver side of a queue for benches: chains are written once and offered again and again, so a request costs its
 * driver a store into the avail ring and a look at the used ring.
 *
 * It takes over a queue of the loopback machine on which nothing is in flight, and does not give it back.
 */
import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_USED_F_NO_NOTIFY,
  VringDesc,
  vringNeedEvent,
} from '../../protocol/virtio-ring.ts';
import { drainEventfd, signalEventfd } from '../../src/host/eventfd.ts';
import type { GuestQueue } from '../../src/machine/guest-queue.ts';
import * as ring from '../../src/virtio/split-ring.ts';
import type { BenchMemory } from './bench-memory.ts';

/** One descriptor's buffer. */
export interface Part {
  readonly gpa: number;
  readonly size: number;
  readonly isWritable: boolean;
}

export interface QueueFeatures {
  readonly eventIdx: boolean;
  /** Chains in tables of their own, as Linux makes them; otherwise in the ring's table. */
  readonly isIndirect: boolean;
}

export class BenchQueue {
  readonly callFd: number;
  /** Whose chain it is that begins at this descriptor. */
  readonly laneOf: Uint16Array;
  readonly #memory: BenchMemory;
  readonly #features: QueueFeatures;
  readonly #kickFd: number;
  readonly #num: number;
  readonly #mask: number;
  readonly #desc: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #used: Uint32Array;
  readonly #used16: Uint16Array;
  /** Word in guest memory of each chain's first descriptor. */
  readonly #tableOf: Uint32Array;
  #nextDescriptor = 0;
  #availIndex: number;
  #kickedAvail: number;
  #nextUsed: number;

  constructor(memory: BenchMemory, { driver, kickFd, callFd }: GuestQueue, features: QueueFeatures) {
    const { num } = driver;
    this.#memory = memory;
    this.#features = features;
    this.#kickFd = kickFd;
    this.callFd = callFd;
    this.#num = num;
    this.#mask = num - 1;
    const { buffer } = memory.words;
    this.#desc = new Uint32Array(buffer, driver.descGpa, num * ring.DESC_WORDS);
    this.#avail = new Uint16Array(buffer, driver.availGpa, ring.usedEventElement(num) + 1);
    this.#used = new Uint32Array(buffer, driver.usedGpa, ring.USED_RING + ring.USED_WORDS * num);
    this.#used16 = new Uint16Array(buffer, driver.usedGpa, ring.availEventElement(num) + 1);
    this.laneOf = new Uint16Array(num);
    this.#tableOf = new Uint32Array(num);
    this.#availIndex = this.#kickedAvail = driver.availIndex;
    this.#nextUsed = this.#used16[ring.RING_INDEX]!;
  }

  /** Forgets all chains; nothing may be in flight. */
  clear(): void {
    this.#nextDescriptor = 0;
  }

  /** Writes a chain. @returns its head, to be offered as often as wanted */
  chain(lane: number, parts: readonly Part[]): number {
    const head = this.#nextDescriptor;
    const isTable = this.#features.isIndirect && parts.length > 1;
    this.#nextDescriptor += isTable ? 1 : parts.length;
    if (this.#nextDescriptor > this.#num) throw new RangeError('no free descriptors');
    this.laneOf[head] = lane;
    if (!isTable) {
      this.#tableOf[head] = this.#desc.byteOffset / 4 + head * ring.DESC_WORDS;
      parts.forEach((part, i) =>
        this.#write(this.#desc, head + i, part, i + 1 < parts.length ? head + i + 1 : 0),
      );
      return head;
    }
    const size = parts.length * VringDesc.size;
    const gpa = this.#memory.allocate(size, 16);
    this.#tableOf[head] = gpa / 4;
    const table = this.#memory.words.subarray(gpa / 4, (gpa + size) / 4);
    parts.forEach((part, i) => this.#write(table, i, part, i + 1 < parts.length ? i + 1 : 0));
    this.#write(this.#desc, head, { gpa, size, isWritable: false }, 0);
    this.#desc[head * ring.DESC_WORDS + 3] = VRING_DESC_F_INDIRECT;
    return head;
  }

  /** Lets descriptor `index` of a chain point elsewhere. */
  move(head: number, index: number, gpa: number): void {
    const word = this.#tableOf[head]! + index * ring.DESC_WORDS;
    this.#memory.words[word] = gpa; // modulo 2^32
    this.#memory.words[word + 1] = gpa / 0x1_0000_0000;
  }

  /** Offers a chain; the device sees it at the next `publish`. */
  offer(head: number): void {
    this.#avail[ring.AVAIL_RING + (this.#availIndex & this.#mask)] = head;
    this.#availIndex = (this.#availIndex + 1) & 0xffff;
  }

  /** Lets the device see what was offered, and kicks it if it wants that. */
  publish(): void {
    const now = this.#availIndex;
    Atomics.store(this.#avail, ring.RING_INDEX, now);
    const wantsKick = this.#features.eventIdx
      ? vringNeedEvent(Atomics.load(this.#used16, ring.availEventElement(this.#num)), now, this.#kickedAvail)
      : (Atomics.load(this.#used16, ring.RING_FLAGS) & VRING_USED_F_NO_NOTIFY) === 0;
    this.#kickedAvail = now;
    if (wantsKick) this.kick();
  }

  /** Kicks the device, whether it wants that or not. */
  kick(): void {
    signalEventfd(this.#kickFd);
  }

  /** How many answered requests there are to `take`. */
  arrived(): number {
    return (Atomics.load(this.#used16, ring.RING_INDEX) - this.#nextUsed) & 0xffff;
  }

  /** Takes an answered request; there is one. @returns its head */
  take(): number {
    const head = this.#used[ring.USED_RING + ring.USED_WORDS * (this.#nextUsed & this.#mask)]!;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    return head;
  }

  /** Asks to be called at the next answer. @returns false if there is one already */
  wantCall(): boolean {
    drainEventfd(this.callFd);
    if (this.#features.eventIdx) Atomics.store(this.#avail, ring.usedEventElement(this.#num), this.#nextUsed);
    else Atomics.store(this.#avail, ring.RING_FLAGS, 0);
    return this.arrived() === 0;
  }

  /** Calls are not wanted. */
  refuseCalls(): void {
    if (this.#features.eventIdx)
      Atomics.store(this.#avail, ring.usedEventElement(this.#num), (this.#nextUsed - 1) & 0xffff);
    else Atomics.store(this.#avail, ring.RING_FLAGS, VRING_AVAIL_F_NO_INTERRUPT);
  }

  /** Plays a device that does nothing: gives back all that was offered. @returns how many */
  answerAll(): number {
    const from = this.#used16[ring.RING_INDEX]!;
    const count = (Atomics.load(this.#avail, ring.RING_INDEX) - from) & 0xffff;
    for (let i = 0; i < count; i += 1) {
      const at = (from + i) & this.#mask;
      this.#used[ring.USED_RING + ring.USED_WORDS * at] = this.#avail[ring.AVAIL_RING + at]!;
    }
    Atomics.store(this.#used16, ring.RING_INDEX, from + count);
    return count;
  }

  #write(table: Uint32Array, index: number, { gpa, size, isWritable }: Part, next: number): void {
    const word = index * ring.DESC_WORDS;
    table[word] = gpa; // modulo 2^32
    table[word + 1] = gpa / 0x1_0000_0000;
    table[word + 2] = size;
    table[word + 3] =
      (isWritable ? VRING_DESC_F_WRITE : 0) | (next === 0 ? 0 : VRING_DESC_F_NEXT) | (next << 16);
  }
}
