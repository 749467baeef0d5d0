/**
 * Indirect descriptor tables, opened for reading.
 *
 * A table is read where it lies, through the permanent words of the guest memory's arena, when it is in one piece and
 * aligned; that is always so with Linux. Otherwise it is copied out first. Either way nothing is allocated per
 * request in the usual case, and each word is loaded once by the walk.
 */
import { VringDesc } from '../../protocol/virtio-ring.ts';

/** What reading a table needs of guest memory; `GuestMemory` has it. */
export interface TableMemory {
  /** Bytes there are in one piece from `gpa`, at most `size`; 0 if it is not mapped. Sets `lastAddress`. */
  translate(gpa: number, size: number): number;
  /** Host address of what `translate` found. */
  readonly lastAddress: number;
  /**
   * Permanent 32-bit words that include host `address`, which `translate` gave. Sets `lastWordsAddress`.
   * They may end before the memory slot does.
   */
  wordsAround(address: number): Uint32Array;
  /** Host address of the first word that `wordsAround` answered. */
  readonly lastWordsAddress: number;
}

export class IndirectTables {
  /** The words the open table is in. */
  words: Uint32Array;
  /** Index in `words` of the table's first word. */
  start = 0;

  readonly #memory: TableMemory;
  readonly #maxEntries: number;
  /** The words of guest memory used last, and the host addresses they span. They are permanent, so never out of date. */
  #words: Uint32Array = new Uint32Array(0);
  #wordsStart = 0;
  #wordsEnd = 0;
  /** Where tables in several pieces are put together; made when the first one comes. */
  #copy: Uint32Array | undefined;

  constructor(memory: TableMemory, maxEntries: number) {
    this.#memory = memory;
    this.#maxEntries = maxEntries;
    this.words = new Uint32Array(0);
  }

  /**
   * Sets `words` and `start` to the table of `size` bytes at `gpa`, until the next call.
   *
   * @param size a multiple of a descriptor's, at most `maxEntries` of them
   * @returns false if some of it is not mapped
   */
  open(gpa: number, size: number): boolean {
    const memory = this.#memory;
    // Beyond 2^53 the sum of two words is rounded, and no region is there: translate refuses it, or the bound does.
    if (gpa >= Number.MAX_SAFE_INTEGER) return false;
    if (memory.translate(gpa, size) !== size) return this.#openCopy(gpa, size);
    const at = memory.lastAddress;
    if (at < this.#wordsStart || at + size > this.#wordsEnd) {
      this.#words = memory.wordsAround(at);
      this.#wordsStart = memory.lastWordsAddress;
      this.#wordsEnd = this.#wordsStart + 4 * this.#words.length;
      if (at + size > this.#wordsEnd) return this.#openCopy(gpa, size);
    }
    const offset = (at - this.#wordsStart) >>> 0;
    if ((offset & 3) !== 0) return this.#openCopy(gpa, size);
    this.words = this.#words;
    this.start = offset >>> 2;
    return true;
  }

  #openCopy(gpa: number, size: number): boolean {
    const memory = this.#memory;
    this.#copy ??= new Uint32Array((this.#maxEntries * VringDesc.size) / 4);
    const copy = new Uint8Array(this.#copy.buffer);
    let done = 0;
    while (done < size) {
      const mapped = memory.translate(gpa + done, size - done);
      if (mapped === 0) return false;
      const words = memory.wordsAround(memory.lastAddress);
      const from = memory.lastAddress - memory.lastWordsAddress;
      const piece = Math.min(mapped, words.byteLength - from);
      copy.set(new Uint8Array(words.buffer, words.byteOffset + from, piece), done);
      done += piece;
    }
    this.words = this.#copy;
    this.start = 0;
    return true;
  }
}
