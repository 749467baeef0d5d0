/**
 * Iovecs over the segments of a chain, in native memory, for preadv and pwritev. Neighbours in memory become one.
 */
import type { Chain } from '../virtio/chain.ts';
import type { HostMemory, Scratch } from './scratch.ts';

/** IOV_MAX: more make preadv fail with EINVAL. */
const MAX_IOVECS = 1024;
/** `struct iovec`: base and length, 64 bits each. */
const IOVEC_WORDS = 4;
const TWO_32 = 0x1_0000_0000;

export class Iovecs {
  /** Entries made by the last call. */
  count = 0;
  /** Where the first of them starts. */
  base = 0;
  readonly #memory: Scratch;

  constructor(host: Pick<HostMemory, 'allocate'>) {
    this.#memory = host.allocate(MAX_IOVECS * IOVEC_WORDS * 4);
  }

  get address(): number {
    return this.#memory.address;
  }

  /** Copies the entries to word `at` of other memory. */
  copyTo(words: Uint32Array, at: number): void {
    const from = this.#memory.u32;
    for (let i = 0; i < this.count * IOVEC_WORDS; i += 1) words[at + i] = from[i]!;
  }

  /** Covers `size` readable bytes of the chain from byte `start`. Returns the bytes covered. */
  readable(chain: Chain, start: number, size: number): number {
    return this.#cover(chain, 0, chain.readableCount, start, size);
  }

  /** Covers `size` writable bytes of the chain from byte `start`. Returns the bytes covered. */
  writable(chain: Chain, start: number, size: number): number {
    return this.#cover(chain, chain.readableCount, chain.readableCount + chain.writableCount, start, size);
  }

  #cover(chain: Chain, first: number, end: number, start: number, size: number): number {
    const words = this.#memory.u32;
    let count = 0;
    let covered = 0;
    let skip = start;
    let lastEnd = -1;
    let lastLength = 0;
    for (let i = first; i < end && covered < size; i += 1) {
      const length = chain.length[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const base = chain.address[i]! + skip;
      const piece = Math.min(length - skip, size - covered);
      skip = 0;
      if (base === lastEnd) {
        lastLength += piece;
        count -= 1;
      } else {
        if (count === MAX_IOVECS) break;
        lastLength = piece;
        if (count === 0) this.base = base;
        words[count * IOVEC_WORDS] = base; // stores modulo 2^32
        words[count * IOVEC_WORDS + 1] = base / TWO_32;
      }
      words[count * IOVEC_WORDS + 2] = lastLength;
      words[count * IOVEC_WORDS + 3] = lastLength / TWO_32;
      lastEnd = base + piece;
      covered += piece;
      count += 1;
    }
    this.count = count;
    return covered;
  }
}
