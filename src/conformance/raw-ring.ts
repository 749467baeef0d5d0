/**
 * The driver side of one split virtqueue, word by word: what drivers do, and what they must not.
 *
 * It keeps no rule of its own, unlike virtio/driver-queue.ts: a case decides which descriptor, which head and which
 * index the device sees. Nothing the device writes is believed; it is only read.
 */
import {
  VRING_DESC_F_NEXT,
  VringDesc,
  vringAvailSize,
  vringDescSize,
  vringNeedEvent,
  vringUsedSize,
} from '../../protocol/virtio-ring.ts';
import * as split from '../virtio/split-ring.ts';

export interface Descriptor {
  /** Guest physical address; any 64-bit number. */
  readonly gpa: number | bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

/** An element of the used ring, as the device wrote it. */
export interface UsedElement {
  readonly id: number;
  readonly length: number;
}

/** Guest memory, as `GuestRam` gives it. */
interface Memory {
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

const ALIGNMENT = 64;
const alignUp = (value: number): number => Math.ceil(value / ALIGNMENT) * ALIGNMENT;
const availOffset = (num: number): number => alignUp(vringDescSize(num));
const usedOffset = (num: number): number => alignUp(availOffset(num) + vringAvailSize(num));

/** Octets a ring of `num` entries takes. */
export const rawRingBytes = (num: number): number => alignUp(usedOffset(num) + vringUsedSize(num));

export class RawRing {
  readonly num: number;
  readonly descGpa: number;
  readonly availGpa: number;
  readonly usedGpa: number;
  /** Where the next head goes: free-running, modulo 2^16. */
  next = 0;

  readonly #desc: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #used: Uint32Array;
  readonly #used16: Uint16Array;
  #kickedAt = 0;

  /** @param memory `rawRingBytes(num)` of it or more, aligned to 64 bytes */
  constructor(num: number, memory: Memory) {
    const { gpa, bytes } = memory;
    if (bytes.length < rawRingBytes(num))
      throw new RangeError(`ring of ${num}: ${bytes.length} bytes, allowed ${rawRingBytes(num)} and more`);
    this.num = num;
    this.descGpa = gpa;
    this.availGpa = gpa + availOffset(num);
    this.usedGpa = gpa + usedOffset(num);
    const at = (offset: number): [ArrayBufferLike, number] => [bytes.buffer, bytes.byteOffset + offset];
    this.#desc = new Uint32Array(...at(0), num * split.DESC_WORDS);
    this.#avail = new Uint16Array(...at(availOffset(num)), split.usedEventElement(num) + 1);
    this.#used = new Uint32Array(...at(usedOffset(num)), split.USED_RING + split.USED_WORDS * num);
    this.#used16 = new Uint16Array(...at(usedOffset(num)), split.availEventElement(num) + 1);
  }

  /** As a driver leaves it before it is started. @param base where the avail index starts @param used where used does */
  reset(base = 0, used = base): void {
    this.#desc.fill(0);
    this.#avail.fill(0);
    this.#used16.fill(0);
    this.next = base;
    this.#kickedAt = base;
    this.#avail[split.RING_INDEX] = base;
    this.#used16[split.RING_INDEX] = used;
    this.#avail[split.usedEventElement(this.num)] = used;
    this.#used16[split.availEventElement(this.num)] = base;
  }

  /** Writes one descriptor. */
  write(index: number, { gpa, length, flags, next }: Descriptor): void {
    writeDescriptor(this.#desc, index, gpa, length, flags | (next << 16));
  }

  /** Writes descriptors from `start` on, chained in order. @returns the head */
  chain(start: number, list: readonly Omit<Descriptor, 'next'>[]): number {
    list.forEach((descriptor, i) => {
      const isLast = i + 1 === list.length;
      this.write(start + i, {
        ...descriptor,
        flags: descriptor.flags | (isLast ? 0 : VRING_DESC_F_NEXT),
        next: isLast ? 0 : start + i + 1,
      });
    });
    return start;
  }

  /** Puts a head into the avail ring; the device sees it at the next `publish`. */
  offer(head: number): void {
    this.#avail[split.AVAIL_RING + (this.next % this.num)] = head;
    this.next = (this.next + 1) & 0xffff;
  }

  /** Lets the device see what was offered. @param index another avail index than that: how cases misbehave */
  publish(index = this.next): void {
    Atomics.store(this.#avail, split.RING_INDEX, index & 0xffff);
  }

  /** Whether the device wants a kick for what was published since this was last asked. */
  wantsKick(hasEventIdx: boolean): boolean {
    const before = this.#kickedAt;
    this.#kickedAt = this.next;
    if (!hasEventIdx) return (this.usedFlags & 1) === 0;
    return vringNeedEvent(this.availEvent, this.next, before);
  }

  /** Where the device puts the next element: free-running, modulo 2^16. */
  get usedIndex(): number {
    return Atomics.load(this.#used16, split.RING_INDEX);
  }

  get usedFlags(): number {
    return Atomics.load(this.#used16, split.RING_FLAGS);
  }

  get availEvent(): number {
    return Atomics.load(this.#used16, split.availEventElement(this.num));
  }

  /** @param index free-running */
  used(index: number): UsedElement {
    const word = split.USED_RING + split.USED_WORDS * (index % this.num);
    return { id: this.#used[word]!, length: this.#used[word + 1]! };
  }

  /** VRING_AVAIL_F_NO_INTERRUPT or 0. */
  set availFlags(flags: number) {
    Atomics.store(this.#avail, split.RING_FLAGS, flags);
  }

  /** The driver wants a call when the used index passes this. */
  set usedEvent(index: number) {
    Atomics.store(this.#avail, split.usedEventElement(this.num), index & 0xffff);
  }
}

/** Writes a table of descriptors anywhere in guest memory, at any alignment. */
export function writeTable(bytes: Uint8Array, list: readonly Descriptor[]): void {
  const words = new Uint32Array(list.length * split.DESC_WORDS);
  list.forEach(({ gpa, length, flags, next }, i) =>
    writeDescriptor(words, i, gpa, length, flags | (next << 16)),
  );
  bytes.set(new Uint8Array(words.buffer));
}

export const DESCRIPTOR_BYTES = VringDesc.size;

function writeDescriptor(
  table: Uint32Array,
  index: number,
  gpa: number | bigint,
  length: number,
  flagsAndNext: number,
): void {
  const address = BigInt.asUintN(64, BigInt(gpa));
  const word = index * split.DESC_WORDS;
  table[word] = Number(address & 0xffff_ffffn);
  table[word + 1] = Number(address >> 32n);
  table[word + 2] = length;
  table[word + 3] = flagsAndNext;
}
