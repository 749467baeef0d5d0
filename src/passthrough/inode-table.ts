/**
 * Every inode the guest knows: one row of words each, in memory that all threads of the share see.
 *
 * A row (`slot`) is found by nodeid, or by what the host calls the inode: mount, inode number. Pure bookkeeping, under
 * the tables' lock unless said otherwise: no system call is made here; who opens and closes the descriptors is
 * `inode-store.ts`.
 *
 * A nodeid holds the slot in its low 26 bits and above them how often the slot was used before, so no nodeid comes
 * twice: one that the guest has no right to any more is unknown, never another file.
 *
 * A row is live; or cold: forgotten by the guest, but its file handle is kept for when the name is looked up again; or
 * free. What is cold is the row the guest forgot last, up to `COLD_ROWS` of them.
 */
import type { GrowingWords } from './growing-words.ts';
import type { OctetPool } from './octet-pool.ts';
import { loadOrdered, storeFenced, storeOrdered } from './ordered.ts';
import { COLD_ROWS, HeaderWord, INODE_WORDS, type TableMemory } from './table-memory.ts';

/** The slot of the shared directory, and its nodeid. */
export const ROOT_SLOT = 1;
const SLOT_BITS = 26;
const SLOT_MASK = 2 ** SLOT_BITS - 1;
/** A row serves so often. Keeps nodeids below 2^52. */
const MAX_SERIAL = 2 ** 26;

/** Row flags. */
export const InodeFlag = {
  /** The file handle was once opened and is of this very inode. */
  VERIFIED: 1,
  /** The descriptor must stay open: the inode cannot be found again without it. */
  KEEP_FD: 2,
  /** Not to be found by host identity. */
  UNINDEXED: 4,
  COLD: 8,
  /** No nodeid, but another thread uses the row: it waits to be settled. */
  LEFT: 16,
  /** Descriptor, mount and name are given up already. */
  BARE: 32,
} as const;

/** Words of a row. */
const SERIAL = 0; // 0 unless live
const USED = 1; // how often the row was used, now included
const LOOKUPS = 2; // references the guest holds, exactly: 64 bits
const PINS = 4;
const MOUNT = 5;
const INO = 6; // two words
const BIRTH_SECOND = 8;
const BIRTH_NANO = 9;
const FORMAT = 10; // st_mode's format in the low half, above it the length of the name noted
const FLAGS = 11;
const FD = 12;
const RING_AT = 13; // of a cold row, its place among the cold
const PARENT = 14;
const NAME_AT = 15;
const NEXT = 16; // in its bucket; of a free row, the next free one
const RECENT = 17;
const HANDLE = 18; // struct file_handle: octets, type, then up to 16 octets, or where in the pool all of it is
const ROW_HANDLE_OCTETS = 16;

const FIRST_BUCKETS = 256;

export class InodeTable {
  readonly #isShared: boolean;
  readonly #header: Int32Array;
  /** Words of the rows. */
  readonly #words: GrowingWords;
  readonly #maxRows: number;
  readonly #buckets: GrowingWords;
  readonly #cold: Int32Array;
  readonly #pool: OctetPool;

  constructor(memory: TableMemory, pool: OctetPool) {
    this.#isShared = memory.isShared;
    this.#header = memory.header;
    this.#words = memory.inodes;
    this.#maxRows = memory.inodeRows;
    this.#buckets = memory.buckets;
    this.#cold = memory.cold;
    this.#pool = pool;
    if (this.#header[HeaderWord.INODE_TOP] !== 0) return;
    this.#header[HeaderWord.INODE_TOP] = 1;
    this.#header[HeaderWord.BUCKET_BASE] = FIRST_BUCKETS;
  }

  /** Inodes known. Any time. */
  get count(): number {
    return this.#header[HeaderWord.INODE_COUNT]!;
  }

  /** One more than the highest slot ever used. Any time. */
  get top(): number {
    return this.#header[HeaderWord.INODE_TOP]!;
  }

  /** The row a nodeid is of if it is anyone's: `isNodeid` tells. Any time. @returns −1 if there is no such row */
  slotIn(nodeid: number): number {
    const slot = (nodeid >>> 0) & SLOT_MASK; // >>> takes the low 32 bits, whatever the size
    if (slot === 0 || slot >= this.top) return -1;
    this.#words.ensure((slot + 1) * INODE_WORDS * 4); // another thread may have added it
    return slot;
  }

  /** Whether the row is now the inode of that nodeid. Any time. */
  isNodeid(slot: number, nodeid: number): boolean {
    return (
      loadOrdered(this.#words.i32, slot * INODE_WORDS + SERIAL) === Math.floor(nodeid / 2 ** SLOT_BITS) + 1
    );
  }

  /** Both at once. */
  slotOf(nodeid: number): number {
    const slot = this.slotIn(nodeid);
    return slot >= 0 && this.isNodeid(slot, nodeid) ? slot : -1;
  }

  isLive(slot: number): boolean {
    return this.#words.i32[slot * INODE_WORDS + SERIAL] !== 0;
  }

  /** What makes a nodeid of the slot; 0 unless the row is live. */
  serial(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + SERIAL]!;
  }

  lookups(slot: number): number {
    return this.#words.f64[(slot * INODE_WORDS + LOOKUPS) / 2]!;
  }

  addLookups(slot: number, count: number): void {
    const at = (slot * INODE_WORDS + LOOKUPS) / 2;
    this.#words.f64[at] = Math.max(0, this.#words.f64[at]! + count);
  }

  /** References we hold: open files, children that are found again through this directory, locks. */
  pins(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + PINS]!;
  }

  addPins(slot: number, count: number): void {
    this.#words.i32[slot * INODE_WORDS + PINS]! += count;
  }

  /** Index of the mount the inode is on. Fixed while the row is anyone's. */
  mount(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + MOUNT]!;
  }

  /** The format bits of st_mode: they never change. */
  format(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + FORMAT]! & 0xffff;
  }

  flags(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + FLAGS]!;
  }

  setFlags(slot: number, flags: number): void {
    this.#words.i32[slot * INODE_WORDS + FLAGS]! |= flags;
  }

  clearFlags(slot: number, flags: number): void {
    this.#words.i32[slot * INODE_WORDS + FLAGS]! &= ~flags;
  }

  /** O_PATH descriptor, or −1. Any time: it stays open while the row is marked. */
  fd(slot: number): number {
    return loadOrdered(this.#words.i32, slot * INODE_WORDS + FD);
  }

  setFd(slot: number, fd: number): void {
    storeFenced(this.#isShared, this.#words.i32, slot * INODE_WORDS + FD, fd);
  }

  /** Where the descriptor stands in the ring of evictable ones. */
  ringAt(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RING_AT]!;
  }

  setRingAt(slot: number, at: number): void {
    this.#words.i32[slot * INODE_WORDS + RING_AT] = at;
  }

  /** The descriptor was used since the eviction hand came by. Any time: a lost store does no harm. */
  isRecent(slot: number): boolean {
    return this.#words.i32[slot * INODE_WORDS + RECENT] !== 0;
  }

  setRecent(slot: number, isRecent: number): void {
    this.#words.i32[slot * INODE_WORDS + RECENT] = isRecent;
  }

  /** Directory in which the inode was last seen, 0 when not noted. */
  parent(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + PARENT]!;
  }

  nameAt(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + NAME_AT]!;
  }

  nameLength(slot: number): number {
    return this.#words.u32[slot * INODE_WORDS + FORMAT]! >>> 16;
  }

  setName(slot: number, parent: number, at: number, length: number): void {
    const row = slot * INODE_WORDS;
    this.#words.i32[row + PARENT] = parent;
    this.#words.i32[row + NAME_AT] = at;
    this.#words.u32[row + FORMAT] = (this.#words.u32[row + FORMAT]! & 0xffff) | (length << 16);
  }

  isInode(slot: number, mount: number, inoLo: number, inoHi: number): boolean {
    const row = slot * INODE_WORDS;
    const words = this.#words.u32;
    return words[row + INO] === inoLo && words[row + INO + 1] === inoHi && words[row + MOUNT] === mount;
  }

  /** When the inode was made: low 32 bits of the second, and nanoseconds. Both 0 where the file system cannot tell. */
  isBorn(slot: number, second: number, nano: number): boolean {
    const row = slot * INODE_WORDS;
    return this.#words.u32[row + BIRTH_SECOND] === second && this.#words.u32[row + BIRTH_NANO] === nano;
  }

  setBirth(slot: number, second: number, nano: number): void {
    const row = slot * INODE_WORDS;
    this.#words.u32[row + BIRTH_SECOND] = second;
    this.#words.u32[row + BIRTH_NANO] = nano;
  }

  /** The first row, live or cold, with this host identity, or −1; there may be several: see `findNext`. */
  find(mount: number, inoLo: number, inoHi: number): number {
    return this.#search(this.#buckets.i32[this.#bucketOf(hash(mount, inoLo, inoHi))]!, mount, inoLo, inoHi);
  }

  /** The next row with the same identity, or −1. */
  findNext(slot: number): number {
    const row = slot * INODE_WORDS;
    const words = this.#words.u32;
    return this.#search(
      this.#words.i32[row + NEXT]!,
      words[row + MOUNT]!,
      words[row + INO]!,
      words[row + INO + 1]!,
    );
  }

  #search(first: number, mount: number, inoLo: number, inoHi: number): number {
    let slot = first;
    while (slot !== 0) {
      if (this.isInode(slot, mount, inoLo, inoHi)) return slot;
      slot = this.#words.i32[slot * INODE_WORDS + NEXT]!;
    }
    return -1;
  }

  /**
   * Adds an inode: no lookups, no pins, no descriptor, no file handle. It has no nodeid before `publish`.
   *
   * @returns its row, or −1 when the table is full
   */
  insert(mount: number, inoLo: number, inoHi: number, format: number): number {
    const slot = this.#takeRow();
    if (slot < 0) return -1;
    const row = slot * INODE_WORDS;
    const words = this.#words.i32;
    this.#words.f64[(row + LOOKUPS) / 2] = 0;
    words[row + PINS] = 0;
    words[row + MOUNT] = mount;
    words[row + INO] = inoLo;
    words[row + INO + 1] = inoHi;
    words[row + BIRTH_SECOND] = 0;
    words[row + BIRTH_NANO] = 0;
    words[row + FORMAT] = format;
    words[row + FLAGS] = 0;
    words[row + FD] = -1;
    words[row + RING_AT] = -1;
    words[row + RECENT] = 0;
    words[row + PARENT] = 0;
    words[row + HANDLE] = 0;
    this.#link(slot);
    if (this.top > this.#bucketCount) this.#splitBucket();
    return slot;
  }

  /** Gives the row a nodeid, one that none had before. */
  publish(slot: number): void {
    const row = slot * INODE_WORDS;
    this.#words.i32[row + USED]! += 1;
    this.#header[HeaderWord.INODE_COUNT]! += 1;
    storeOrdered(this.#words.i32, row + SERIAL, this.#words.i32[row + USED]!);
  }

  /** Takes the nodeid away: unknown from here on. */
  unpublish(slot: number): void {
    storeFenced(this.#isShared, this.#words.i32, slot * INODE_WORDS + SERIAL, 0);
    this.#header[HeaderWord.INODE_COUNT]! -= 1;
  }

  /** Keeps a row without nodeid, descriptor and name among the cold. @returns the row that had its place, or 0 */
  chill(slot: number): number {
    const hand = (this.#header[HeaderWord.COLD_HAND]! + 1) % COLD_ROWS;
    this.#header[HeaderWord.COLD_HAND] = hand;
    const before = this.#cold[hand]!;
    this.#cold[hand] = slot;
    this.setRingAt(slot, hand);
    this.setFlags(slot, InodeFlag.COLD);
    if (before !== 0) this.clearFlags(before, InodeFlag.COLD);
    return before;
  }

  /** Whether the row may be used once more. */
  canWarm(slot: number): boolean {
    return this.#words.i32[slot * INODE_WORDS + USED]! < MAX_SERIAL;
  }

  /** Makes a cold row live again, with a nodeid of its own. */
  warm(slot: number): void {
    this.#leaveCold(slot);
    this.publish(slot);
  }

  #leaveCold(slot: number): void {
    this.#cold[this.ringAt(slot)] = 0;
    this.setRingAt(slot, -1);
    this.clearFlags(slot, InodeFlag.COLD);
  }

  /** Takes a cold row on that mount out of the cold, or any for −1. @returns 0 when there is none at `place` */
  takeCold(place: number, mount: number): number {
    const slot = this.#cold[place]!;
    if (slot === 0 || (mount >= 0 && this.mount(slot) !== mount)) return 0;
    this.#leaveCold(slot);
    return slot;
  }

  /** Frees a row that is neither live nor cold. */
  recycle(slot: number): void {
    this.unindex(slot);
    const row = slot * INODE_WORDS;
    this.#dropHandle(slot);
    if (this.#words.i32[row + USED]! >= MAX_SERIAL) return; // this row has no nodeid left: it is never used again
    this.#words.i32[row + NEXT] = this.#header[HeaderWord.INODE_FREE]!;
    this.#header[HeaderWord.INODE_FREE] = slot;
  }

  /** Makes the inode unfindable by host identity: that identity is another file's now. Harmless when repeated. */
  unindex(slot: number): void {
    if ((this.flags(slot) & InodeFlag.UNINDEXED) !== 0) return;
    this.setFlags(slot, InodeFlag.UNINDEXED);
    const bucket = this.#bucketOf(this.#hashOf(slot));
    const next = this.#words.i32[slot * INODE_WORDS + NEXT]!;
    let at = this.#buckets.i32[bucket]!;
    if (at === slot) {
      this.#buckets.i32[bucket] = next;
      return;
    }
    for (;;) {
      const after = this.#words.i32[at * INODE_WORDS + NEXT]!;
      if (after === slot) break;
      at = after;
    }
    this.#words.i32[at * INODE_WORDS + NEXT] = next;
  }

  /** Whether the row has a file handle. Fixed while the row is anyone's. */
  hasHandle(slot: number): boolean {
    return this.#words.i32[slot * INODE_WORDS + HANDLE] !== 0;
  }

  /** Address of the row's `struct file_handle`. Any time while the row is marked. */
  handleAddress(slot: number): number {
    const at = slot * INODE_WORDS + HANDLE;
    return this.#words.u32[at]! <= ROW_HANDLE_OCTETS
      ? this.#words.address + at * 4
      : this.#pool.addressOf(this.#words.u32[at + 2]!);
  }

  /** Stores the `struct file_handle` that starts at `words[0]`. @returns false if there is no room for it */
  setHandle(slot: number, words: Uint32Array): boolean {
    const octets = words[0]!;
    const at = slot * INODE_WORDS + HANDLE;
    const size = handleWords(octets);
    if (octets > ROW_HANDLE_OCTETS) {
      const place = this.#pool.allocate(size * 4);
      if (place === 0) return false;
      this.#pool.setWords(place, words, 0, size);
      this.#words.u32[at + 2] = place;
    } else for (let i = 2; i < size; i += 1) this.#words.u32[at + i] = words[i]!;
    this.#words.u32[at + 1] = words[1]!;
    this.#words.u32[at] = octets;
    return true;
  }

  /** Whether the row's file handle is the one at `words[0]`, whose octets beyond its length are 0. */
  isHandle(slot: number, words: Uint32Array): boolean {
    const octets = words[0]!;
    const at = slot * INODE_WORDS + HANDLE;
    if (this.#words.u32[at] !== octets || this.#words.u32[at + 1] !== words[1]) return false;
    const size = handleWords(octets);
    if (octets > ROW_HANDLE_OCTETS) return this.#pool.areWords(this.#words.u32[at + 2]!, words, 0, size);
    for (let i = 2; i < size; i += 1) if (this.#words.u32[at + i] !== words[i]) return false;
    return true;
  }

  #dropHandle(slot: number): void {
    const at = slot * INODE_WORDS + HANDLE;
    const octets = this.#words.u32[at]!;
    if (octets > ROW_HANDLE_OCTETS) this.#pool.free(this.#words.u32[at + 2]!, handleWords(octets) * 4);
    this.#words.u32[at] = 0;
  }

  #takeRow(): number {
    const reused = this.#header[HeaderWord.INODE_FREE]!;
    if (reused !== 0) {
      this.#header[HeaderWord.INODE_FREE] = this.#words.i32[reused * INODE_WORDS + NEXT]!;
      return reused;
    }
    const slot = this.top;
    if (slot >= this.#maxRows) return -1;
    this.#words.ensure((slot + 1) * INODE_WORDS * 4);
    this.#header[HeaderWord.INODE_TOP] = slot + 1;
    return slot;
  }

  /** Linear hashing: as many buckets as rows, one more split with each new row; nothing is ever rehashed as a whole. */
  get #bucketCount(): number {
    return this.#header[HeaderWord.BUCKET_BASE]! + this.#header[HeaderWord.BUCKET_SPLIT]!;
  }

  #bucketOf(h: number): number {
    const base = this.#header[HeaderWord.BUCKET_BASE]!;
    const bucket = h & (base - 1);
    return bucket < this.#header[HeaderWord.BUCKET_SPLIT]! ? h & (2 * base - 1) : bucket;
  }

  #hashOf(slot: number): number {
    const row = slot * INODE_WORDS;
    return hash(this.#words.u32[row + MOUNT]!, this.#words.u32[row + INO]!, this.#words.u32[row + INO + 1]!);
  }

  #link(slot: number): void {
    const bucket = this.#bucketOf(this.#hashOf(slot));
    this.#words.i32[slot * INODE_WORDS + NEXT] = this.#buckets.i32[bucket]!;
    this.#buckets.i32[bucket] = slot;
  }

  #splitBucket(): void {
    const header = this.#header;
    const base = header[HeaderWord.BUCKET_BASE]!;
    const bucket = header[HeaderWord.BUCKET_SPLIT]!;
    if ((base + bucket) * 4 >= this.#buckets.size) return;
    this.#buckets.ensure((base + bucket + 1) * 4);
    let slot = this.#buckets.i32[bucket]!;
    this.#buckets.i32[bucket] = 0;
    const isLast = bucket + 1 === base;
    header[HeaderWord.BUCKET_SPLIT] = isLast ? 0 : bucket + 1;
    if (isLast) header[HeaderWord.BUCKET_BASE] = base * 2;
    while (slot !== 0) {
      const next = this.#words.i32[slot * INODE_WORDS + NEXT]!;
      this.#link(slot);
      slot = next;
    }
  }
}

const handleWords = (octets: number): number => 2 + ((octets + 3) >>> 2);

/** The low and high words of a nodeid. */
export const nodeidLow = (slot: number, serial: number): number => slot | ((serial - 1) << SLOT_BITS);
export const nodeidHigh = (serial: number): number => (serial - 1) >>> (32 - SLOT_BITS);

/** Mixes so that neighbouring inode numbers, the usual case, spread. */
function hash(mount: number, inoLo: number, inoHi: number): number {
  let h = Math.imul(inoLo ^ Math.imul(inoHi, 0x85ebca6b) ^ Math.imul(mount, 0xc2b2ae35), 0x9e3779b1);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
