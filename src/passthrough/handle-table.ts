/**
 * Open files and directories of the guest, in typed arrays over memory that all threads of the share see. Descriptors
 * are owned by the table's user.
 *
 * A handle (`fh`) is made like a nodeid: row in the low bits, how often it was used before above, so a stale one is unknown.
 */
import type { InUse } from './in-use.ts';
import { loadOrdered, storeFenced, storeOrdered } from './ordered.ts';
import { HeaderWord, type TableMemory } from './table-memory.ts';

const ROW_BITS = 24;
const ROW_MASK = 2 ** ROW_BITS - 1;
/** A row serves so often. Keeps handles below 2^52. */
const MAX_SERIAL = 2 ** 28;

export const HandleFlag = {
  DIRECTORY: 1,
  /** A directory was read since it was opened: its position is not 0 any more, whatever the cookie says. */
  STARTED: 2,
  /** The host's descriptor has O_DIRECT. */
  DIRECT: 4,
  /** A file open for reading and nothing else: may serve again. */
  READER: 8,
  /** It has, or had, a flock lock. */
  LOCKED: 16,
  /** The descriptor is the inode's, which was created with it. */
  BORROWED: 32,
} as const;

export class HandleTable {
  readonly fd: Int32Array;
  /** Row of the inode in the inode table. */
  readonly inode: Int32Array;
  readonly flags: Int32Array;
  /** Of a directory: the 64-bit position the descriptor is at, as two words. */
  readonly positionLo: Uint32Array;
  readonly positionHi: Uint32Array;

  /** 0 while nobody's. */
  readonly #serial: Int32Array;
  /** How often the row was used, now included. */
  readonly #used: Int32Array;
  readonly #header: Int32Array;
  readonly #isShared: boolean;
  readonly #inUse: InUse;

  constructor({ header, handleWords, isShared }: TableMemory, inUse: InUse) {
    this.#isShared = isShared;
    const [serial, used, fd, inode, flags, low, high] = handleWords;
    this.#serial = serial!;
    this.#used = used!;
    this.fd = fd!;
    this.inode = inode!;
    this.flags = flags!;
    this.positionLo = unsigned(low!);
    this.positionHi = unsigned(high!);
    this.#header = header;
    this.#inUse = inUse;
    if (header[HeaderWord.HANDLE_TOP] === 0) header[HeaderWord.HANDLE_TOP] = 1;
  }

  get count(): number {
    return this.#header[HeaderWord.HANDLE_COUNT]!;
  }

  get top(): number {
    return this.#header[HeaderWord.HANDLE_TOP]!;
  }

  /** @returns the row of a handle the guest sent, marked as in use; or −1 */
  find(fh: number): number {
    const row = (fh >>> 0) & ROW_MASK;
    if (row >= this.top || row === 0) return -1;
    this.#inUse.markHandle(row);
    return loadOrdered(this.#serial, row) === Math.floor(fh / 2 ** ROW_BITS) + 1 ? row : -1;
  }

  /** Low and high word of the row's handle. */
  low(row: number): number {
    return row | ((this.#serial[row]! - 1) << ROW_BITS);
  }

  high(row: number): number {
    return (this.#serial[row]! - 1) >>> (32 - ROW_BITS);
  }

  isOpen(row: number): boolean {
    return this.#serial[row] !== 0;
  }

  /** Under the lock. @returns the row; or −1 when too many are open */
  insert(fd: number, inode: number, flags: number): number {
    const row = this.#takeRow();
    if (row < 0) return -1;
    this.fd[row] = fd;
    this.inode[row] = inode;
    this.flags[row] = flags;
    this.positionLo[row] = 0;
    this.positionHi[row] = 0;
    this.#used[row]! += 1;
    storeOrdered(this.#serial, row, this.#used[row]!);
    this.#header[HeaderWord.HANDLE_COUNT]! += 1;
    return row;
  }

  /** Makes the handle unknown; all else of the row stays until `recycle`. Under the lock. @returns false if it was so already */
  remove(row: number): boolean {
    if (this.#serial[row] === 0) return false;
    storeFenced(this.#isShared, this.#serial, row, 0);
    this.#header[HeaderWord.HANDLE_COUNT]! -= 1;
    return true;
  }

  /** Lets the row serve again. Under the lock. */
  recycle(row: number): void {
    if (this.#used[row]! >= MAX_SERIAL) return;
    this.inode[row] = this.#header[HeaderWord.HANDLE_FREE]!;
    this.#header[HeaderWord.HANDLE_FREE] = row;
  }

  #takeRow(): number {
    const reused = this.#header[HeaderWord.HANDLE_FREE]!;
    if (reused !== 0) {
      this.#header[HeaderWord.HANDLE_FREE] = this.inode[reused]!;
      return reused;
    }
    const row = this.top;
    if (row === this.fd.length) return -1;
    this.#header[HeaderWord.HANDLE_TOP] = row + 1;
    return row;
  }
}

const unsigned = (words: Int32Array): Uint32Array =>
  new Uint32Array(words.buffer, words.byteOffset, words.length);
