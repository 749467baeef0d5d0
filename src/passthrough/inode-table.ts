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
import type { GrowingWords } from '../host/growing-words.ts';
import { InodeIndex } from './inode-index.ts';
import { INODE_WORDS, InodeFlag, RowByte, RowWord, TAIL_WORDS, TailWord } from './inode-row.ts';
import type { OctetPool } from './octet-pool.ts';
import { loadOrdered, storeFenced, storeOrdered } from './ordered.ts';
import { RowHandles } from './row-handles.ts';
import { COLD_ROWS, HeaderWord, type TableMemory } from './table-memory.ts';

/** The slot of the shared directory, and its nodeid. */
export const ROOT_SLOT = 1;
const SLOT_BITS = 26;
const SLOT_MASK = 2 ** SLOT_BITS - 1;
/** A row serves so often. Keeps nodeids below 2^52. */
const MAX_SERIAL = 2 ** 26;

export class InodeTable {
  readonly #isShared: boolean;
  readonly #header: Int32Array;
  /** Words of the rows. */
  readonly #words: GrowingWords;
  readonly #tails: GrowingWords;
  readonly #maxRows: number;
  readonly #cold: Int32Array;
  readonly #index: InodeIndex;
  readonly #handles: RowHandles;

  constructor(memory: TableMemory, pool: OctetPool) {
    this.#isShared = memory.isShared;
    this.#header = memory.header;
    this.#words = memory.inodes;
    this.#tails = memory.tails;
    this.#maxRows = memory.inodeRows;
    this.#cold = memory.cold;
    this.#index = new InodeIndex(memory);
    this.#handles = new RowHandles(memory.tails, pool);
    if (this.#header[HeaderWord.INODE_TOP] === 0) this.#header[HeaderWord.INODE_TOP] = 1;
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
    return slot !== 0 && slot < this.top ? slot : -1;
  }

  /** Whether the row is now the inode of that nodeid. Any time. */
  isNodeid(slot: number, nodeid: number): boolean {
    return (
      loadOrdered(this.#words.i32, slot * INODE_WORDS + RowWord.SERIAL) ===
      Math.floor(nodeid / 2 ** SLOT_BITS) + 1
    );
  }

  /** Both at once. */
  slotOf(nodeid: number): number {
    const slot = this.slotIn(nodeid);
    return slot >= 0 && this.isNodeid(slot, nodeid) ? slot : -1;
  }

  isLive(slot: number): boolean {
    return this.#words.i32[slot * INODE_WORDS + RowWord.SERIAL] !== 0;
  }

  /** What makes a nodeid of the slot; 0 unless the row is live. */
  serial(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RowWord.SERIAL]!;
  }

  lookups(slot: number): number {
    return this.#words.f64[(slot * INODE_WORDS + RowWord.LOOKUPS) / 2]!;
  }

  addLookups(slot: number, count: number): void {
    const at = (slot * INODE_WORDS + RowWord.LOOKUPS) / 2;
    this.#words.f64[at] = Math.max(0, this.#words.f64[at]! + count);
  }

  /** References we hold: open files, children that are found again through this directory, locks. */
  pins(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RowWord.PINS]!;
  }

  addPins(slot: number, count: number): void {
    this.#words.i32[slot * INODE_WORDS + RowWord.PINS]! += count;
  }

  /** Index of the mount the inode is on. Fixed while the row is anyone's. */
  mount(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RowWord.MOUNT]!;
  }

  /** The format bits of st_mode: they never change. */
  format(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RowWord.FORMAT]! & 0xffff;
  }

  flags(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RowWord.FLAGS]!;
  }

  setFlags(slot: number, flags: number): void {
    this.#words.i32[slot * INODE_WORDS + RowWord.FLAGS]! |= flags;
  }

  clearFlags(slot: number, flags: number): void {
    this.#words.i32[slot * INODE_WORDS + RowWord.FLAGS]! &= ~flags;
  }

  /** O_PATH descriptor, or −1. Any time: it stays open while the row is marked. */
  fd(slot: number): number {
    return loadOrdered(this.#words.i32, slot * INODE_WORDS + RowWord.FD);
  }

  setFd(slot: number, fd: number): void {
    storeFenced(this.#isShared, this.#words.i32, slot * INODE_WORDS + RowWord.FD, fd);
  }

  /** Where the descriptor stands in the ring of evictable ones. */
  ringAt(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RowWord.RING_AT]!;
  }

  setRingAt(slot: number, at: number): void {
    this.#words.i32[slot * INODE_WORDS + RowWord.RING_AT] = at;
  }

  /** The descriptor was used since the eviction hand came by. Any time: a lost store does no harm. */
  isRecent(slot: number): boolean {
    return this.#words.u8[slot * INODE_WORDS * 4 + RowByte.RECENT] !== 0;
  }

  setRecent(slot: number, isRecent: number): void {
    this.#words.u8[slot * INODE_WORDS * 4 + RowByte.RECENT] = isRecent;
  }

  /** Directory in which the inode was last seen, 0 when not noted. */
  parent(slot: number): number {
    return this.#words.i32[slot * INODE_WORDS + RowWord.PARENT]!;
  }

  nameAt(slot: number): number {
    return this.#tails.i32[slot * TAIL_WORDS + TailWord.NAME_AT]!;
  }

  nameLength(slot: number): number {
    return this.#words.u8[slot * INODE_WORDS * 4 + RowByte.NAME_LENGTH]!;
  }

  setName(slot: number, parent: number, at: number, length: number): void {
    this.#words.i32[slot * INODE_WORDS + RowWord.PARENT] = parent;
    this.#words.u8[slot * INODE_WORDS * 4 + RowByte.NAME_LENGTH] = length;
    this.#tails.i32[slot * TAIL_WORDS + TailWord.NAME_AT] = at;
  }

  isInode(slot: number, mount: number, inoLo: number, inoHi: number): boolean {
    const row = slot * INODE_WORDS;
    const words = this.#words.u32;
    return (
      words[row + RowWord.INO] === inoLo &&
      words[row + RowWord.INO + 1] === inoHi &&
      words[row + RowWord.MOUNT] === mount
    );
  }

  /** When the inode was made: low 32 bits of the second, and nanoseconds. Both 0 where the file system cannot tell. */
  isBorn(slot: number, second: number, nano: number): boolean {
    const row = slot * INODE_WORDS;
    return (
      this.#words.u32[row + RowWord.BIRTH_SECOND] === second &&
      this.#words.u32[row + RowWord.BIRTH_NANO] === nano
    );
  }

  setBirth(slot: number, second: number, nano: number): void {
    const row = slot * INODE_WORDS;
    this.#words.u32[row + RowWord.BIRTH_SECOND] = second;
    this.#words.u32[row + RowWord.BIRTH_NANO] = nano;
  }

  /** The first row, live or not, with this host identity, or −1; there may be several: see `findNext`. */
  find(mount: number, inoLo: number, inoHi: number): number {
    return this.#index.find(mount, inoLo, inoHi);
  }

  /** The next row with the same identity, or −1. */
  findNext(slot: number): number {
    return this.#index.findNext(slot);
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
    this.#words.f64[(row + RowWord.LOOKUPS) / 2] = 0;
    words[row + RowWord.PINS] = 0;
    words[row + RowWord.MOUNT] = mount;
    words[row + RowWord.INO] = inoLo;
    words[row + RowWord.INO + 1] = inoHi;
    words[row + RowWord.BIRTH_SECOND] = 0;
    words[row + RowWord.BIRTH_NANO] = 0;
    words[row + RowWord.FORMAT] = format;
    words[row + RowWord.FLAGS] = 0;
    words[row + RowWord.FD] = -1;
    words[row + RowWord.RING_AT] = -1;
    words[row + RowWord.PARENT] = 0;
    this.#index.add(slot);
    return slot;
  }

  /** Gives the row a nodeid, one that none had before. */
  publish(slot: number): void {
    const row = slot * INODE_WORDS;
    this.#words.i32[row + RowWord.USED]! += 1;
    this.#header[HeaderWord.INODE_COUNT]! += 1;
    storeOrdered(this.#words.i32, row + RowWord.SERIAL, this.#words.i32[row + RowWord.USED]!);
  }

  /** Takes the nodeid away: unknown from here on. */
  unpublish(slot: number): void {
    storeFenced(this.#isShared, this.#words.i32, slot * INODE_WORDS + RowWord.SERIAL, 0);
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
    return this.#words.i32[slot * INODE_WORDS + RowWord.USED]! < MAX_SERIAL;
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
    this.#handles.drop(slot);
    if (this.#words.i32[row + RowWord.USED]! >= MAX_SERIAL) return; // this row has no nodeid left: it is never used again
    this.#words.i32[row + RowWord.NEXT] = this.#header[HeaderWord.INODE_FREE]!;
    this.#header[HeaderWord.INODE_FREE] = slot;
  }

  /** Makes the inode unfindable by host identity: that identity is another file's now. Harmless when repeated. */
  unindex(slot: number): void {
    this.#index.remove(slot);
  }

  /** Whether the row has a file handle. Fixed while the row is anyone's. */
  hasHandle(slot: number): boolean {
    return (this.flags(slot) & InodeFlag.HAS_HANDLE) !== 0;
  }

  /** Address of the row's `struct file_handle`. Any time while the row is marked. */
  handleAddress(slot: number): number {
    return this.#handles.addressOf(slot);
  }

  /** Stores the `struct file_handle` that starts at `words[0]`. @returns false if there is no room for it */
  setHandle(slot: number, words: Uint32Array): boolean {
    if (!this.#handles.set(slot, words)) return false;
    this.setFlags(slot, InodeFlag.HAS_HANDLE);
    return true;
  }

  /** Whether the row's file handle is the one at `words[0]`, whose octets beyond its length are 0. */
  isHandle(slot: number, words: Uint32Array): boolean {
    return this.#handles.is(slot, words);
  }

  #takeRow(): number {
    const reused = this.#header[HeaderWord.INODE_FREE]!;
    if (reused !== 0) {
      this.#header[HeaderWord.INODE_FREE] = this.#words.i32[reused * INODE_WORDS + RowWord.NEXT]!;
      return reused;
    }
    const slot = this.top;
    if (slot >= this.#maxRows) return -1;
    this.#words.ensure((slot + 1) * INODE_WORDS * 4);
    this.#tails.ensure((slot + 1) * TAIL_WORDS * 4);
    this.#header[HeaderWord.INODE_TOP] = slot + 1;
    return slot;
  }
}

/** The low and high words of a nodeid. */
export const nodeidLow = (slot: number, serial: number): number => slot | ((serial - 1) << SLOT_BITS);
export const nodeidHigh = (serial: number): number => (serial - 1) >>> (32 - SLOT_BITS);
