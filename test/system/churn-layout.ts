/**
 * How a request's octets are cut into descriptors, and where those lie: as drivers do it, and as no driver does, but may.
 *
 * All pieces of a request lie in one window of guest memory, in any order, with gaps between them.
 */
import type { Random } from '../../src/stress/random.ts';

/** More descriptors than this no request has. */
export const MAX_PIECES = 120;
/** Bytes that gaps may take at most. */
export const MAX_GAPS = MAX_PIECES * 64;

const PAGE = 4096;
const STYLES = ['merged', 'linux', 'pages', 'odd', 'tiny', 'shuffled'] as const;

/** One window and the pieces in it. Reused for each request. */
export class Layout {
  style: (typeof STYLES)[number] = 'merged';
  /** Where each piece begins in the window, and its size. The readable ones come first. */
  readonly starts = new Float64Array(MAX_PIECES);
  readonly sizes = new Float64Array(MAX_PIECES);
  readable = 0;
  count = 0;
  windowSize = 0;

  /**
   * @param readable sizes of what a driver would keep apart: header, arguments, data
   * @param writable the same of the reply
   */
  make(random: Random, readable: readonly number[], writable: readonly number[]): void {
    this.style = random.pick(STYLES);
    this.count = 0;
    this.#cut(random, readable);
    this.readable = this.count;
    this.#cut(random, writable);
    this.#place(random);
  }

  /** Puts octets into the window, from octet `at` of the readable or the writable ones on. */
  scatter(window: Uint8Array, isWritable: boolean, at: number, octets: Uint8Array): void {
    let skip = at;
    let done = 0;
    for (let i = isWritable ? this.readable : 0; done < octets.length; i += 1) {
      const size = this.sizes[i]!;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const part = Math.min(size - skip, octets.length - done);
      window.set(octets.subarray(done, done + part), this.starts[i]! + skip);
      done += part;
      skip = 0;
    }
  }

  #cut(random: Random, parts: readonly number[]): void {
    const total = parts.reduce((sum, size) => sum + size, 0);
    const most = this.count + MAX_PIECES / 2;
    switch (this.style) {
      case 'merged':
        this.#add(total);
        return;
      case 'linux':
        for (const size of parts) this.#add(size);
        return;
      case 'pages':
        for (const size of parts) this.#cutEvery(size, size > 64 * PAGE ? 64 * PAGE : PAGE, most);
        return;
      case 'tiny':
        this.#cutEvery(total, 1 + random.below(32), most);
        return;
      default:
        this.#cutAnywhere(random, total, 2 + random.below(14));
    }
  }

  #cutEvery(size: number, step: number, most: number): void {
    let left = size;
    while (left > 0) {
      const piece = this.count + 1 >= most - 2 ? left : Math.min(step, left);
      this.#add(piece);
      left -= piece;
    }
  }

  #cutAnywhere(random: Random, total: number, pieces: number): void {
    let left = total;
    for (let i = 1; i < pieces && left > 1; i += 1) {
      const piece = 1 + random.below(Math.min(left - 1, random.below(3) === 0 ? left - 1 : 64));
      this.#add(piece);
      left -= piece;
    }
    this.#add(left);
  }

  #add(size: number): void {
    if (size === 0) return;
    this.sizes[this.count] = size;
    this.count += 1;
  }

  #place(random: Random): void {
    const order = Array.from({ length: this.count }, (_, i) => i);
    if (this.style === 'shuffled')
      for (let i = order.length - 1; i > 0; i -= 1) {
        const other = random.below(i + 1);
        [order[i], order[other]] = [order[other]!, order[i]!];
      }
    const gaps = random.below(3) === 0 ? 1 : 64;
    let at = 0;
    for (const piece of order) {
      at += random.below(gaps);
      this.starts[piece] = at;
      at += this.sizes[piece]!;
    }
    this.windowSize = at;
  }
}
