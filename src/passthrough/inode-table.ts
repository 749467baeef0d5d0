/**
 * Every inode the guest knows, in typed arrays: no object per inode, no allocation per lookup.
 *
 * A row (`slot`) is found by nodeid, or by what the host calls the inode: mount, inode number. Pure bookkeeping: no
 * system call is made here; who opens and closes the descriptors is `inode-store.ts`.
 *
 * A nodeid holds the slot in its low 26 bits and above them how often the slot was reused, so no nodeid comes twice:
 * one that the guest has no right to any more is unknown, never another file.
 */

/** The nodeid of the shared directory, and its slot. */
export const ROOT_SLOT = 1;
const SLOT_BITS = 26;
const SLOT_MASK = 2 ** SLOT_BITS - 1;
const MAX_NODEID = 2 ** 52;

/** Row flags. */
export const InodeFlag = {
  /** The file handle was once opened and is of this very inode. */
  VERIFIED: 1,
  /** The descriptor must stay open: the inode cannot be found again without it. */
  KEEP_FD: 2,
  /** An operation under way uses the descriptor. */
  HELD: 4,
} as const;

const INITIAL_ROWS = 256;
/** Words a file handle takes at first: header, type and 16 octets, which ext4, XFS and tmpfs handles fit into. */
const INITIAL_HANDLE_WORDS = 6;

const EMPTY = 0;

export class InodeTable {
  /** 0 in a free row. */
  nodeid = new Float64Array(INITIAL_ROWS);
  /** References the guest holds, exactly. */
  lookups = new Float64Array(INITIAL_ROWS);
  /** References we hold: open files, children that are found again through this directory, locks. */
  pins = new Int32Array(INITIAL_ROWS);
  /** Index of the mount the inode is on. */
  mount = new Int32Array(INITIAL_ROWS);
  inoLo = new Uint32Array(INITIAL_ROWS);
  inoHi = new Uint32Array(INITIAL_ROWS);
  /** When the inode was made: low 32 bits of the second, and nanoseconds. Both 0 where the file system cannot tell. */
  birthSecond = new Uint32Array(INITIAL_ROWS);
  birthNano = new Uint32Array(INITIAL_ROWS);
  /** The format bits of st_mode: they never change. */
  format = new Uint16Array(INITIAL_ROWS);
  flags = new Uint8Array(INITIAL_ROWS);
  /** O_PATH descriptor, or −1. */
  fd = new Int32Array(INITIAL_ROWS).fill(-1);
  /** Where the descriptor stands in the ring of evictable ones; −1 without descriptor. */
  ringAt = new Int32Array(INITIAL_ROWS);
  /** The descriptor was used since the eviction hand came by. */
  isRecent = new Uint8Array(INITIAL_ROWS);
  /** Directory in which the inode was last seen, 0 when not noted; of a free row, the next free one. */
  parent = new Int32Array(INITIAL_ROWS);
  nameAt = new Uint32Array(INITIAL_ROWS);
  nameLength = new Uint8Array(INITIAL_ROWS);

  #handle = new Uint32Array(INITIAL_ROWS * INITIAL_HANDLE_WORDS);
  #handleWords = INITIAL_HANDLE_WORDS;
  #rows = INITIAL_ROWS;
  /** Rows used at least once; row 0 never is. */
  #top = 1;
  #free = 0;
  #count = 0;

  /** Open addressing, linear probing: slots, 0 where empty. Always at most half full. */
  #buckets = new Int32Array(INITIAL_ROWS * 2);
  #bucketMask = INITIAL_ROWS * 2 - 1;
  #probe = 0;
  #wantedMount = 0;
  #wantedLo = 0;
  #wantedHi = 0;

  /** Inodes known. */
  get count(): number {
    return this.#count;
  }

  /** One more than the highest slot ever used. */
  get top(): number {
    return this.#top;
  }

  /** @returns the row of a nodeid the guest sent, or −1 */
  slotOf(nodeid: number): number {
    const slot = (nodeid >>> 0) & SLOT_MASK; // >>> takes the low 32 bits, whatever the size
    return slot < this.#top && slot !== 0 && this.nodeid[slot] === nodeid ? slot : -1;
  }

  /** Starts a search by host identity. @returns a row, or −1; the identity may be in several: see `findNext` */
  find(mount: number, inoLo: number, inoHi: number): number {
    this.#wantedMount = mount;
    this.#wantedLo = inoLo >>> 0;
    this.#wantedHi = inoHi >>> 0;
    this.#probe = hash(mount, inoLo, inoHi) & this.#bucketMask;
    return this.#search();
  }

  /** The next row with the identity of the last `find`, or −1. The table must not have changed in between. */
  findNext(): number {
    this.#probe = (this.#probe + 1) & this.#bucketMask;
    return this.#search();
  }

  #search(): number {
    for (;;) {
      const slot = this.#buckets[this.#probe]!;
      if (slot === EMPTY) return -1;
      if (
        this.inoLo[slot] === this.#wantedLo &&
        this.inoHi[slot] === this.#wantedHi &&
        this.mount[slot] === this.#wantedMount
      )
        return slot;
      this.#probe = (this.#probe + 1) & this.#bucketMask;
    }
  }

  /** Adds an inode: no lookups, no pins, no descriptor. @returns its row, or −1 when 2^26 inodes are known */
  insert(mount: number, inoLo: number, inoHi: number, format: number): number {
    const slot = this.#takeRow();
    if (slot < 0) return -1;
    this.lookups[slot] = 0;
    this.pins[slot] = 0;
    this.mount[slot] = mount;
    this.inoLo[slot] = inoLo;
    this.inoHi[slot] = inoHi;
    this.birthSecond[slot] = 0;
    this.birthNano[slot] = 0;
    this.format[slot] = format;
    this.flags[slot] = 0;
    this.fd[slot] = -1;
    this.ringAt[slot] = -1;
    this.isRecent[slot] = 0;
    this.parent[slot] = 0;
    this.nameLength[slot] = 0;
    this.#handle[slot * this.#handleWords] = 0;
    this.#count += 1;
    this.#index(slot);
    return slot;
  }

  /** Takes the inode out. Its nodeid is unknown from here on. */
  remove(slot: number): void {
    this.unindex(slot);
    this.#count -= 1;
    const next = this.nodeid[slot]! + 2 ** SLOT_BITS;
    this.nodeid[slot] = 0;
    this.fd[slot] = -1;
    if (next > MAX_NODEID) return; // this row has no nodeid left: it is never used again
    this.lookups[slot] = next; // kept for the next one to live here
    this.parent[slot] = this.#free;
    this.#free = slot;
  }

  /** Makes the inode unfindable by host identity: that identity is another file's now. Harmless when repeated. */
  unindex(slot: number): void {
    let at = hash(this.mount[slot]!, this.inoLo[slot]!, this.inoHi[slot]!) & this.#bucketMask;
    while (this.#buckets[at] !== slot) {
      if (this.#buckets[at] === EMPTY) return;
      at = (at + 1) & this.#bucketMask;
    }
    this.#closeGap(at);
  }

  /** Forgets everything: the next inode is the root. Nodeids start over, so the guest must have let go of all. */
  reset(): void {
    this.nodeid.fill(0);
    this.fd.fill(-1);
    this.#buckets.fill(EMPTY);
    this.#top = 1;
    this.#free = 0;
    this.#count = 0;
  }

  /** Whether the row has a file handle. */
  hasHandle(slot: number): boolean {
    return this.#handle[slot * this.#handleWords] !== 0;
  }

  /** Stores the `struct file_handle` that starts at `words[at]`. */
  setHandle(slot: number, words: Uint32Array, at: number): void {
    const size = 2 + Math.ceil(words[at]! / 4);
    if (size > this.#handleWords) this.#widenHandles(size);
    const start = slot * this.#handleWords;
    for (let i = 0; i < size; i += 1) this.#handle[start + i] = words[at + i]!;
  }

  /** Copies the row's `struct file_handle` to `words[at]`. */
  copyHandle(slot: number, words: Uint32Array, at: number): void {
    const start = slot * this.#handleWords;
    const size = 2 + Math.ceil(this.#handle[start]! / 4);
    for (let i = 0; i < size; i += 1) words[at + i] = this.#handle[start + i]!;
  }

  /** Whether the row's file handle is the one at `words[at]`, whose octets beyond its length are 0. */
  isHandle(slot: number, words: Uint32Array, at: number): boolean {
    const start = slot * this.#handleWords;
    const size = 2 + Math.ceil(words[at]! / 4);
    if (size > this.#handleWords) return false;
    for (let i = 0; i < size; i += 1) if (this.#handle[start + i] !== words[at + i]) return false;
    return true;
  }

  #takeRow(): number {
    const reused = this.#free;
    if (reused !== 0) {
      this.#free = this.parent[reused]!;
      this.nodeid[reused] = this.lookups[reused]!;
      return reused;
    }
    if (this.#top > SLOT_MASK) return -1;
    if (this.#top === this.#rows) this.#grow();
    const slot = this.#top;
    this.#top += 1;
    this.nodeid[slot] = slot;
    return slot;
  }

  #index(slot: number): void {
    let at = hash(this.mount[slot]!, this.inoLo[slot]!, this.inoHi[slot]!) & this.#bucketMask;
    while (this.#buckets[at] !== EMPTY) at = (at + 1) & this.#bucketMask;
    this.#buckets[at] = slot;
  }

  /** Empties bucket `hole` and moves up those behind it that would no longer be reached. */
  #closeGap(hole: number): void {
    const mask = this.#bucketMask;
    let gap = hole;
    let at = hole;
    for (;;) {
      at = (at + 1) & mask;
      const slot = this.#buckets[at]!;
      if (slot === EMPTY) break;
      const home = hash(this.mount[slot]!, this.inoLo[slot]!, this.inoHi[slot]!) & mask;
      // Reached from its home without crossing the gap: it may stay.
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      this.#buckets[gap] = slot;
      gap = at;
    }
    this.#buckets[gap] = EMPTY;
  }

  #grow(): void {
    const rows = this.#rows * 2;
    this.nodeid = longer(this.nodeid, new Float64Array(rows));
    this.lookups = longer(this.lookups, new Float64Array(rows));
    this.pins = longer(this.pins, new Int32Array(rows));
    this.mount = longer(this.mount, new Int32Array(rows));
    this.inoLo = longer(this.inoLo, new Uint32Array(rows));
    this.inoHi = longer(this.inoHi, new Uint32Array(rows));
    this.birthSecond = longer(this.birthSecond, new Uint32Array(rows));
    this.birthNano = longer(this.birthNano, new Uint32Array(rows));
    this.format = longer(this.format, new Uint16Array(rows));
    this.flags = longer(this.flags, new Uint8Array(rows));
    this.fd = longer(this.fd, new Int32Array(rows).fill(-1));
    this.ringAt = longer(this.ringAt, new Int32Array(rows));
    this.isRecent = longer(this.isRecent, new Uint8Array(rows));
    this.parent = longer(this.parent, new Int32Array(rows));
    this.nameAt = longer(this.nameAt, new Uint32Array(rows));
    this.nameLength = longer(this.nameLength, new Uint8Array(rows));
    this.#handle = longer(this.#handle, new Uint32Array(rows * this.#handleWords));
    this.#rows = rows;
    this.#rebuildIndex();
  }

  /** Rows that were unindexed stay so. */
  #rebuildIndex(): void {
    const old = this.#buckets;
    this.#buckets = new Int32Array(this.#rows * 2);
    this.#bucketMask = this.#rows * 2 - 1;
    for (const slot of old) if (slot !== EMPTY) this.#index(slot);
  }

  #widenHandles(words: number): void {
    const wide = new Uint32Array(this.#rows * words);
    for (let slot = 1; slot < this.#top; slot += 1)
      wide.set(this.#handle.subarray(slot * this.#handleWords, (slot + 1) * this.#handleWords), slot * words);
    this.#handle = wide;
    this.#handleWords = words;
  }
}

function longer<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** Mixes so that neighbouring inode numbers, the usual case, spread. */
function hash(mount: number, inoLo: number, inoHi: number): number {
  let h = Math.imul(inoLo ^ Math.imul(inoHi, 0x85ebca6b) ^ Math.imul(mount, 0xc2b2ae35), 0x9e3779b1);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
