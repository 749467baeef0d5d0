/**
 * Open files and directories of the guest, in typed arrays. Descriptors are owned by the table's user.
 *
 * A handle (`fh`) is made like a nodeid: row in the low bits, reuse count above, so a stale one is unknown.
 */
const ROW_BITS = 24;
const ROW_MASK = 2 ** ROW_BITS - 1;
const MAX_HANDLE = 2 ** 52;
const INITIAL_ROWS = 64;

export const HandleFlag = {
  DIRECTORY: 1,
  /** A directory was read since it was opened: its position is not 0 any more, whatever the cookie says. */
  STARTED: 2,
  /** The host's descriptor has O_DIRECT. */
  DIRECT: 4,
} as const;

export class HandleTable {
  fh = new Float64Array(INITIAL_ROWS);
  fd = new Int32Array(INITIAL_ROWS);
  /** Row of the inode in the inode table. */
  inode = new Int32Array(INITIAL_ROWS);
  flags = new Uint8Array(INITIAL_ROWS);
  /** Of a directory: the 64-bit position the descriptor is at, as two words. */
  positionLo = new Uint32Array(INITIAL_ROWS);
  positionHi = new Uint32Array(INITIAL_ROWS);

  #next = new Float64Array(INITIAL_ROWS);
  #rows = INITIAL_ROWS;
  #top = 1;
  #free = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get top(): number {
    return this.#top;
  }

  /** @returns the row of a handle the guest sent, or −1 */
  find(fh: number): number {
    const row = (fh >>> 0) & ROW_MASK;
    return row < this.#top && row !== 0 && this.fh[row] === fh ? row : -1;
  }

  /** @returns the row, whose `fh` is what the guest gets; or −1 when 2^24 are open */
  insert(fd: number, inode: number, flags: number): number {
    const row = this.#takeRow();
    if (row < 0) return -1;
    this.fd[row] = fd;
    this.inode[row] = inode;
    this.flags[row] = flags;
    this.positionLo[row] = 0;
    this.positionHi[row] = 0;
    this.#count += 1;
    return row;
  }

  remove(row: number): void {
    const next = this.fh[row]! + 2 ** ROW_BITS;
    this.fh[row] = 0;
    this.#count -= 1;
    if (next > MAX_HANDLE) return;
    this.#next[row] = next;
    this.inode[row] = this.#free;
    this.#free = row;
  }

  #takeRow(): number {
    const reused = this.#free;
    if (reused !== 0) {
      this.#free = this.inode[reused]!;
      this.fh[reused] = this.#next[reused]!;
      return reused;
    }
    if (this.#top > ROW_MASK) return -1;
    if (this.#top === this.#rows) this.#grow();
    const row = this.#top;
    this.#top += 1;
    this.fh[row] = row;
    return row;
  }

  #grow(): void {
    const rows = this.#rows * 2;
    this.fh = longer(this.fh, new Float64Array(rows));
    this.fd = longer(this.fd, new Int32Array(rows));
    this.inode = longer(this.inode, new Int32Array(rows));
    this.flags = longer(this.flags, new Uint8Array(rows));
    this.positionLo = longer(this.positionLo, new Uint32Array(rows));
    this.positionHi = longer(this.positionHi, new Uint32Array(rows));
    this.#next = longer(this.#next, new Float64Array(rows));
    this.#rows = rows;
  }
}

function longer<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
