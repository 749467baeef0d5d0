/** One bit for each block of a device, and questions about ranges of blocks. */

const ALL = 0xffff_ffff;

/** Bits [from, to) of a word, 0 ≤ from < to ≤ 32. */
const maskOf = (from: number, to: number): number => ((ALL << from) & (ALL >>> (32 - to))) >>> 0;

export class BlockBitmap {
  /** How many blocks there are. */
  readonly blocks: number;
  readonly #words: Uint32Array;

  constructor(blocks: number) {
    this.blocks = blocks;
    this.#words = new Uint32Array(Math.ceil(blocks / 32));
  }

  has(block: number): boolean {
    return ((this.#words[block >>> 5]! >>> (block & 31)) & 1) === 1;
  }

  set(from: number, count: number): void {
    this.#change(from, from + count, true);
  }

  clear(from: number, count: number): void {
    this.#change(from, from + count, false);
  }

  isAllSet(from: number, count: number): boolean {
    return this.nextClear(from, from + count) === from + count;
  }

  isAllClear(from: number, count: number): boolean {
    return this.nextSet(from, from + count) === from + count;
  }

  /** The first set block of [from, end), or `end`. */
  nextSet(from: number, end: number): number {
    return this.#next(from, end, 0);
  }

  /** The first clear block of [from, end), or `end`. */
  nextClear(from: number, end: number): number {
    return this.#next(from, end, ALL);
  }

  /** @param flip 0 to look for ones, all ones to look for zeros */
  #next(from: number, end: number, flip: number): number {
    if (from >= end) return end;
    let index = from >>> 5;
    let word = (this.#words[index]! ^ flip) & maskOf(from & 31, 32);
    const last = (end - 1) >>> 5;
    while (word === 0 && index < last) {
      index += 1;
      word = this.#words[index]! ^ flip;
    }
    if (word === 0) return end;
    const found = index * 32 + 31 - Math.clz32(word & -word);
    return found < end ? found : end;
  }

  #change(from: number, end: number, isSet: boolean): void {
    let at = from;
    while (at < end) {
      const index = at >>> 5;
      const stop = Math.min(end, (index + 1) * 32);
      const mask = maskOf(at & 31, stop - index * 32);
      if (isSet) this.#words[index]! |= mask;
      else this.#words[index]! &= ~mask;
      at = stop;
    }
  }
}
