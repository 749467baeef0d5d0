/**
 * Who in the guest holds which range locks, and who waits for whom: what the host's kernel knows only as "another open
 * file". It names the holder's process to F_GETLK, and finds circles of waiting. Pure bookkeeping in the tables' memory,
 * under the locks' lock.
 *
 * A carrier is what carries one owner's locks on a file. Ranges are inclusive at both ends, as in `fuse_file_lock`.
 */
import {
  CARRIER_BUCKETS,
  CARRIER_WORDS,
  HeaderWord,
  MAX_CARRIERS,
  MAX_RANGES,
  RANGE_WORDS,
  type TableMemory,
} from './table-memory.ts';

/** A lock owner of the guest has 64 bits. */
export interface LockOwner {
  readonly ownerLo: number;
  readonly ownerHi: number;
}

export interface LockRange extends LockOwner {
  /** Process in the guest. */
  readonly pid: number;
  readonly isWrite: boolean;
  readonly start: bigint;
  readonly end: bigint;
}

/** Words of a carrier. */
const SLOT = 0;
const OWNER = 1; // two words
const FD = 3;
const HANDLE = 4; // row of the open file that the owner locked through last
const NEXT = 5; // of the same bucket; of a free row, the next free one
const RANGES = 6; // the first
const BLOCKER = 7; // two words: whom the owner waits for
const WAITS = 9;

/** 64-bit words of a range. */
const START = 0;
const END = 1;
const HOLDER = 2; // pid, above it whether it is a write lock
const NEXT_RANGE = 3;
const RANGE_LONGS = RANGE_WORDS / 2;
const WRITE = 1n << 32n;

export class LockRows {
  readonly #header: Int32Array;
  readonly #words: Int32Array;
  readonly #buckets: Int32Array;
  readonly #ranges: BigUint64Array;

  constructor({ header, carriers, carrierBuckets, ranges }: TableMemory) {
    this.#header = header;
    this.#words = carriers;
    this.#buckets = carrierBuckets;
    this.#ranges = new BigUint64Array(ranges.buffer, ranges.byteOffset, ranges.length / 2);
  }

  get count(): number {
    return this.#header[HeaderWord.CARRIER_COUNT]!;
  }

  /** The carrier of an owner's locks on a file, or 0. */
  find(slot: number, { ownerLo, ownerHi }: LockOwner): number {
    let row = this.first(slot);
    while (row !== 0 && !this.#isOwner(row, ownerLo, ownerHi)) row = this.next(row);
    return row;
  }

  #isOwner(row: number, ownerLo: number, ownerHi: number): boolean {
    const at = row * CARRIER_WORDS + OWNER;
    return this.#words[at] === (ownerLo | 0) && this.#words[at + 1] === (ownerHi | 0);
  }

  /** The carriers of a file: the first, or 0. */
  first(slot: number): number {
    return this.#ofSlot(this.#buckets[slot % CARRIER_BUCKETS]!, slot);
  }

  next(row: number): number {
    return this.#ofSlot(this.#words[row * CARRIER_WORDS + NEXT]!, this.slot(row));
  }

  #ofSlot(first: number, slot: number): number {
    let row = first;
    while (row !== 0 && this.slot(row) !== slot) row = this.#words[row * CARRIER_WORDS + NEXT]!;
    return row;
  }

  slot(row: number): number {
    return this.#words[row * CARRIER_WORDS + SLOT]!;
  }

  fd(row: number): number {
    return this.#words[row * CARRIER_WORDS + FD]!;
  }

  handle(row: number): number {
    return this.#words[row * CARRIER_WORDS + HANDLE]!;
  }

  setHandle(row: number, handle: number): void {
    this.#words[row * CARRIER_WORDS + HANDLE] = handle;
  }

  /** @returns the carrier, or 0 when there are too many */
  add(slot: number, { ownerLo, ownerHi }: LockOwner, fd: number, handle: number): number {
    const row = this.#take(
      HeaderWord.CARRIER_FREE,
      HeaderWord.CARRIER_TOP,
      MAX_CARRIERS,
      (free) => this.#words[free * CARRIER_WORDS + NEXT]!,
    );
    if (row === 0) return 0;
    const bucket = slot % CARRIER_BUCKETS;
    const fields = [slot, ownerLo, ownerHi, fd, handle, this.#buckets[bucket]!, 0, 0, 0, 0];
    this.#words.set(fields, row * CARRIER_WORDS);
    this.#buckets[bucket] = row;
    this.#header[HeaderWord.CARRIER_COUNT]! += 1;
    return row;
  }

  /** Takes a carrier out, and all its ranges. */
  remove(row: number): void {
    const words = this.#words;
    this.clearWaiting(row);
    while (this.#firstRange(row) !== 0) this.#removeRange(row, 0, this.#firstRange(row));
    const bucket = this.slot(row) % CARRIER_BUCKETS;
    const next = words[row * CARRIER_WORDS + NEXT]!;
    let at = this.#buckets[bucket]!;
    if (at === row) this.#buckets[bucket] = next;
    else {
      while (words[at * CARRIER_WORDS + NEXT] !== row) at = words[at * CARRIER_WORDS + NEXT]!;
      words[at * CARRIER_WORDS + NEXT] = next;
    }
    words[row * CARRIER_WORDS + SLOT] = 0;
    words[row * CARRIER_WORDS + NEXT] = this.#header[HeaderWord.CARRIER_FREE]!;
    this.#header[HeaderWord.CARRIER_FREE] = row;
    this.#header[HeaderWord.CARRIER_COUNT]! -= 1;
  }

  /** The last carrier there ever was at the same time; one that is not in use is of slot 0. */
  get top(): number {
    return Math.max(this.#header[HeaderWord.CARRIER_TOP]!, 1);
  }

  /** The owner's lock now covers the range, whatever of its own was there. @returns false when there are too many */
  setRange(row: number, { start, end, pid, isWrite }: LockRange): boolean {
    this.clearRange(row, start, end);
    return this.#addRange(row, start, end, BigInt(pid) | (isWrite ? WRITE : 0n));
  }

  /** The owner has no lock on the range any more. */
  clearRange(row: number, start: bigint, end: bigint): void {
    let before = 0;
    let range = this.#firstRange(row);
    while (range !== 0) {
      const next = this.#long(range, NEXT_RANGE);
      const from = this.#ranges[range * RANGE_LONGS + START]!;
      const to = this.#ranges[range * RANGE_LONGS + END]!;
      const holder = this.#ranges[range * RANGE_LONGS + HOLDER]!;
      if (to < start || end < from) before = range;
      else {
        this.#removeRange(row, before, range);
        // What is left of it is put in front of the list, which is not looked at again.
        if (from < start) before = this.#addLeft(row, before, from, start - 1n, holder);
        if (to > end) before = this.#addLeft(row, before, end + 1n, to, holder);
      }
      range = next;
    }
  }

  #addLeft(row: number, before: number, start: bigint, end: bigint, holder: bigint): number {
    const isFirst = before === 0;
    this.#addRange(row, start, end, holder);
    return isFirst ? this.#firstRange(row) : before;
  }

  /** Somebody else's lock that is in the way of this one: its carrier, or 0; `conflictPid` is whose. */
  conflict(slot: number, wanted: LockRange): number {
    for (let row = this.first(slot); row !== 0; row = this.next(row)) {
      if (this.#isOwner(row, wanted.ownerLo, wanted.ownerHi)) continue;
      for (let range = this.#firstRange(row); range !== 0; range = this.#long(range, NEXT_RANGE)) {
        const at = range * RANGE_LONGS;
        const holder = this.#ranges[at + HOLDER]!;
        const isMet = this.#ranges[at + START]! <= wanted.end && wanted.start <= this.#ranges[at + END]!;
        if (!isMet || !(wanted.isWrite || holder >= WRITE)) continue;
        this.conflictPid = Number(holder & 0xffff_ffffn);
        return row;
      }
    }
    return 0;
  }

  conflictPid = 0;

  /** Whether it is noted already that the owner of a carrier waits for the owner of another. */
  isWaiting(row: number, blocker: number): boolean {
    const at = row * CARRIER_WORDS;
    const other = blocker * CARRIER_WORDS + OWNER;
    return (
      this.#words[at + WAITS] !== 0 &&
      this.#words[at + BLOCKER] === this.#words[other] &&
      this.#words[at + BLOCKER + 1] === this.#words[other + 1]
    );
  }

  /** Notes that it does. */
  setWaiting(row: number, blocker: number): void {
    this.clearWaiting(row);
    const words = this.#words;
    words[row * CARRIER_WORDS + BLOCKER] = words[blocker * CARRIER_WORDS + OWNER]!;
    words[row * CARRIER_WORDS + BLOCKER + 1] = words[blocker * CARRIER_WORDS + OWNER + 1]!;
    words[row * CARRIER_WORDS + WAITS] = 1;
    this.#header[HeaderWord.WAITER_COUNT]! += 1;
  }

  clearWaiting(row: number): void {
    if (this.#words[row * CARRIER_WORDS + WAITS] === 0) return;
    this.#words[row * CARRIER_WORDS + WAITS] = 0;
    this.#header[HeaderWord.WAITER_COUNT]! -= 1;
  }

  /** The owner does not wait any more, for whatever it was. */
  stopWaiting({ ownerLo, ownerHi }: LockOwner): void {
    const row = this.waiterCount === 0 ? 0 : this.#waiterOf(ownerLo | 0, ownerHi | 0);
    if (row !== 0) this.clearWaiting(row);
  }

  get waiterCount(): number {
    return this.#header[HeaderWord.WAITER_COUNT]!;
  }

  /**
   * Whether whoever `row`'s owner waits for, waits, by however many steps, for that owner. Each step looks for the next
   * among the carriers that wait.
   */
  isCircle(row: number, blocker: number): boolean {
    const words = this.#words;
    const ownLo = words[row * CARRIER_WORDS + OWNER]!;
    const ownHi = words[row * CARRIER_WORDS + OWNER + 1]!;
    let lo = words[blocker * CARRIER_WORDS + OWNER]!;
    let hi = words[blocker * CARRIER_WORDS + OWNER + 1]!;
    for (let steps = this.waiterCount; steps >= 0; steps -= 1) {
      if (lo === ownLo && hi === ownHi) return true;
      const waiter = this.#waiterOf(lo, hi);
      if (waiter === 0) return false;
      lo = words[waiter * CARRIER_WORDS + BLOCKER]!;
      hi = words[waiter * CARRIER_WORDS + BLOCKER + 1]!;
    }
    return false;
  }

  #waiterOf(lo: number, hi: number): number {
    const words = this.#words;
    for (let row = 1, left = this.waiterCount; left > 0 && row < this.top; row += 1) {
      const at = row * CARRIER_WORDS;
      if (words[at + SLOT] === 0 || words[at + WAITS] === 0) continue;
      if (words[at + OWNER] === lo && words[at + OWNER + 1] === hi) return row;
      left -= 1;
    }
    return 0;
  }

  #firstRange(row: number): number {
    return this.#words[row * CARRIER_WORDS + RANGES]!;
  }

  #long(range: number, field: number): number {
    return Number(this.#ranges[range * RANGE_LONGS + field]!);
  }

  #addRange(row: number, start: bigint, end: bigint, holder: bigint): boolean {
    const range = this.#take(HeaderWord.RANGE_FREE, HeaderWord.RANGE_TOP, MAX_RANGES, (free) =>
      this.#long(free, NEXT_RANGE),
    );
    if (range === 0) return false;
    this.#ranges.set([start, end, holder, BigInt(this.#firstRange(row))], range * RANGE_LONGS);
    this.#words[row * CARRIER_WORDS + RANGES] = range;
    return true;
  }

  #removeRange(row: number, before: number, range: number): void {
    const next = this.#long(range, NEXT_RANGE);
    if (before === 0) this.#words[row * CARRIER_WORDS + RANGES] = next;
    else this.#ranges[before * RANGE_LONGS + NEXT_RANGE] = BigInt(next);
    this.#ranges[range * RANGE_LONGS + NEXT_RANGE] = BigInt(this.#header[HeaderWord.RANGE_FREE]!);
    this.#header[HeaderWord.RANGE_FREE] = range;
  }

  /** A row of a table with a list of free ones. Row 0 is never used. */
  #take(free: number, top: number, max: number, nextOf: (row: number) => number): number {
    const reused = this.#header[free]!;
    if (reused !== 0) {
      this.#header[free] = nextOf(reused);
      return reused;
    }
    const row = Math.max(this.#header[top]!, 1);
    if (row === max) return 0;
    this.#header[top] = row + 1;
    return row;
  }
}
