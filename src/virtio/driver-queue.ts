/**
 * The driver side of a split virtqueue, over memory it shares with a device: what the loopback machine, the benches
 * and the tests put in place of a guest kernel.
 *
 * It trusts itself but not the device: a used element that names no request in flight is an error. Ordering is that
 * of virtqueue.ts, mirrored.
 */
import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_USED_F_NO_NOTIFY,
  VringDesc,
  vringAvailSize,
  vringDescSize,
  vringNeedEvent,
  vringUsedSize,
} from '../../protocol/virtio-ring.ts';
import { GuestError } from '../errors.ts';
import * as ring from './split-ring.ts';

/** Where a driver queue lives. The guest physical addresses are what the device is told. */
export interface DriverQueueSetup {
  readonly num: number;
  readonly eventIdx: boolean;
  /** Descriptors of each request's indirect table; 0 for no indirect tables. */
  readonly indirectEntries: number;
  /** The `driverQueueBytes` octets of shared memory the queue is laid out in, aligned to 16 in guest memory. */
  readonly bytes: Uint8Array;
  /** Guest physical address of `bytes`. */
  readonly gpa: number;
}

/** How a queue lies in its octets. */
interface Layout {
  readonly avail: number;
  readonly used: number;
  readonly tables: number;
  readonly size: number;
}

const alignUp = (value: number, to: number): number => Math.ceil(value / to) * to;

function layoutOf(num: number, indirectEntries: number): Layout {
  const avail = vringDescSize(num);
  const used = alignUp(avail + vringAvailSize(num), 64);
  const tables = alignUp(used + vringUsedSize(num), 64);
  return { avail, used, tables, size: tables + num * indirectEntries * VringDesc.size };
}

/** Octets a queue needs, its indirect tables included. */
export const driverQueueBytes = (num: number, indirectEntries: number): number =>
  layoutOf(num, indirectEntries).size;

export class DriverQueue {
  readonly num: number;
  /** Guest physical addresses of the three areas, for SET_VRING_ADDR. */
  readonly descGpa: number;
  readonly availGpa: number;
  readonly usedGpa: number;
  /** Bytes written into the request that `collect` last answered. */
  lastWritten = 0;

  readonly #mask: number;
  readonly #hasEventIdx: boolean;
  readonly #indirectEntries: number;
  readonly #desc: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #used: Uint32Array;
  readonly #used16: Uint16Array;
  readonly #tables: Uint32Array;
  readonly #tablesGpa: number;
  /** Free descriptors, a list linked through `#next`. */
  readonly #next: Uint16Array;
  /** Descriptors of the request at this head; 0 when no request is in flight there. */
  readonly #taken: Uint16Array;
  #firstFree = 0;
  #free: number;
  #availIndex = 0;
  #publishedAvail = 0;
  /** `avail.idx` when a kick was last considered. */
  #kickedAvail = 0;
  #nextUsed = 0;

  constructor(setup: DriverQueueSetup) {
    const { num, bytes, gpa } = setup;
    const layout = layoutOf(num, setup.indirectEntries);
    if (bytes.byteLength < layout.size)
      throw new RangeError(`queue takes ${layout.size} bytes, ${bytes.byteLength} given`);
    this.num = num;
    this.#mask = num - 1;
    this.#hasEventIdx = setup.eventIdx;
    this.#indirectEntries = setup.indirectEntries;
    this.descGpa = gpa;
    this.availGpa = gpa + layout.avail;
    this.usedGpa = gpa + layout.used;
    this.#tablesGpa = gpa + layout.tables;
    const at = (offset: number): [ArrayBufferLike, number] => [bytes.buffer, bytes.byteOffset + offset];
    this.#desc = new Uint32Array(...at(0), num * ring.DESC_WORDS);
    this.#avail = new Uint16Array(...at(layout.avail), ring.usedEventElement(num) + 1);
    this.#used = new Uint32Array(...at(layout.used), ring.USED_RING + ring.USED_WORDS * num);
    this.#used16 = new Uint16Array(...at(layout.used), ring.availEventElement(num) + 1);
    this.#tables = new Uint32Array(...at(layout.tables), num * setup.indirectEntries * ring.DESC_WORDS);
    this.#next = Uint16Array.from({ length: num }, (_, i) => (i + 1) & 0xffff);
    this.#taken = new Uint16Array(num);
    this.#free = num;
  }

  /** Requests in flight or collected, as a count of avail entries made so far, modulo 65536. */
  get availIndex(): number {
    return this.#availIndex;
  }

  /** Descriptors not in use. */
  get freeDescriptors(): number {
    return this.#free;
  }

  /**
   * Puts the ring back to its first state, for a device that starts over. Requests in flight are forgotten.
   *
   * @param base what both indices start from
   */
  reset(base = 0): void {
    this.#avail.fill(0);
    this.#used16.fill(0);
    this.#taken.fill(0);
    for (let i = 0; i < this.num; i += 1) this.#next[i] = i + 1;
    this.#firstFree = 0;
    this.#free = this.num;
    this.#availIndex = this.#publishedAvail = this.#kickedAvail = this.#nextUsed = base;
    this.#avail[ring.RING_INDEX] = base;
    this.#used16[ring.RING_INDEX] = base;
    if (this.#hasEventIdx) {
      this.#avail[ring.usedEventElement(this.num)] = base;
      this.#used16[ring.availEventElement(this.num)] = base;
    }
  }

  /**
   * Makes a request of `count` buffers available; the device sees it at the next `publish`.
   *
   * @param gpas guest physical address of each buffer, the `readable` ones first
   * @returns its head, or −1 if there are not enough descriptors
   */
  add(gpas: ArrayLike<number>, lengths: ArrayLike<number>, count: number, readable: number): number {
    const isIndirect = count > 1 && count <= this.#indirectEntries;
    const needed = isIndirect ? 1 : count;
    if (needed > this.#free || count === 0) return -1;
    const head = this.#firstFree;
    if (isIndirect) {
      const table = head * this.#indirectEntries;
      for (let i = 0; i < count; i += 1) {
        const flags = (i < readable ? 0 : VRING_DESC_F_WRITE) | (i + 1 < count ? VRING_DESC_F_NEXT : 0);
        writeDescriptor(this.#tables, table + i, gpas[i]!, lengths[i]!, flags | ((i + 1) << 16));
      }
      this.#firstFree = this.#next[head]!;
      const tableGpa = this.#tablesGpa + table * VringDesc.size;
      writeDescriptor(this.#desc, head, tableGpa, count * VringDesc.size, VRING_DESC_F_INDIRECT);
    } else {
      let index = head;
      for (let i = 0; i < count; i += 1) {
        const next = this.#next[index]!;
        const flags = (i < readable ? 0 : VRING_DESC_F_WRITE) | (i + 1 < count ? VRING_DESC_F_NEXT : 0);
        writeDescriptor(this.#desc, index, gpas[i]!, lengths[i]!, flags | (next << 16));
        index = next;
      }
      this.#firstFree = index;
    }
    this.#taken[head] = needed;
    this.#free -= needed;
    this.addRaw(head);
    return head;
  }

  /** Puts `head` into the avail ring as it is, whatever its descriptors say: how tests misbehave. */
  addRaw(head: number): void {
    this.#avail[ring.AVAIL_RING + (this.#availIndex & this.#mask)] = head;
    this.#availIndex = (this.#availIndex + 1) & 0xffff;
  }

  /** Lets the device see what was added. */
  publish(): void {
    this.#publishedAvail = this.#availIndex;
    // Release: entries and descriptors before the index. Full barrier towards `kickNeeded`, as in virtqueue.ts.
    Atomics.store(this.#avail, ring.RING_INDEX, this.#availIndex);
  }

  /** Whether the device wants a kick for what was published since this was last asked. */
  kickNeeded(): boolean {
    const before = this.#kickedAvail;
    const now = this.#publishedAvail;
    if (before === now) return false;
    this.#kickedAvail = now;
    if (!this.#hasEventIdx)
      return (Atomics.load(this.#used16, ring.RING_FLAGS) & VRING_USED_F_NO_NOTIFY) === 0;
    return vringNeedEvent(Atomics.load(this.#used16, ring.availEventElement(this.num)), now, before);
  }

  /**
   * Takes one finished request.
   *
   * @returns its head, with `lastWritten` set, or −1 if there is none
   * @throws {GuestError} BAD_INDEX if the device answers what was not asked
   */
  collect(): number {
    // Acquire: the element, and the data it covers, are loaded after the index.
    if (Atomics.load(this.#used16, ring.RING_INDEX) === this.#nextUsed) return -1;
    const word = ring.USED_RING + ring.USED_WORDS * (this.#nextUsed & this.#mask);
    const head = this.#used[word]!;
    this.lastWritten = this.#used[word + 1]!;
    const taken = head < this.num ? this.#taken[head]! : 0;
    if (taken === 0) throw new GuestError('BAD_INDEX', `used element names ${head}, which is not in flight`);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    this.#taken[head] = 0;
    this.#release(head, taken);
    return head;
  }

  /**
   * Asks the device to call when it finishes requests.
   *
   * @returns true if some were finished before it could see that: collect them, no call will tell
   */
  enableCalls(): boolean {
    if (this.#hasEventIdx) Atomics.store(this.#avail, ring.usedEventElement(this.num), this.#nextUsed);
    else Atomics.store(this.#avail, ring.RING_FLAGS, 0);
    return Atomics.load(this.#used16, ring.RING_INDEX) !== this.#nextUsed;
  }

  /** Tells the device that calls are not needed for now. */
  disableCalls(): void {
    if (this.#hasEventIdx)
      Atomics.store(this.#avail, ring.usedEventElement(this.num), (this.#nextUsed - 1) & 0xffff);
    else Atomics.store(this.#avail, ring.RING_FLAGS, VRING_AVAIL_F_NO_INTERRUPT);
  }

  /** Writes descriptor `index` of the ring's table as told: how tests misbehave. */
  writeDescriptor(index: number, gpa: number, length: number, flags: number, next: number): void {
    writeDescriptor(this.#desc, index, gpa, length, flags | (next << 16));
  }

  /** Gives a request's descriptors back. The links are our own copy: the device cannot have changed them. */
  #release(head: number, taken: number): void {
    let last = head;
    for (let i = 1; i < taken; i += 1) last = this.#next[last]!;
    this.#next[last] = this.#firstFree;
    this.#firstFree = head;
    this.#free += taken;
  }
}

function writeDescriptor(
  table: Uint32Array,
  index: number,
  gpa: number,
  length: number,
  flagsAndNext: number,
): void {
  const word = index * ring.DESC_WORDS;
  table[word] = gpa; // modulo 2^32, as every store into a Uint32Array
  table[word + 1] = gpa / 0x1_0000_0000;
  table[word + 2] = length;
  table[word + 3] = flagsAndNext;
}
