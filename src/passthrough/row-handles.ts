/** The file handles that rows of inodes have. Under the lock, unless the row is marked. */
import type { GrowingWords } from '../host/growing-words.ts';
import { TAIL_WORDS, TailWord } from './inode-row.ts';
import type { OctetPool } from './octet-pool.ts';

/** Those of ext4, XFS and tmpfs fit into the row. */
const ROW_OCTETS = 16;

export class RowHandles {
  readonly #tails: GrowingWords;
  readonly #pool: OctetPool;

  constructor(tails: GrowingWords, pool: OctetPool) {
    this.#tails = tails;
    this.#pool = pool;
  }

  /** Address of the row's `struct file_handle`, which it has. */
  addressOf(slot: number): number {
    const at = slot * TAIL_WORDS + TailWord.HANDLE;
    const words = this.#tails.u32;
    return words[at]! <= ROW_OCTETS ? this.#tails.address + at * 4 : this.#pool.addressOf(words[at + 2]!);
  }

  /** Stores the `struct file_handle` that starts at `words[0]`. @returns false if there is no room for it */
  set(slot: number, words: Uint32Array): boolean {
    const octets = words[0]!;
    const at = slot * TAIL_WORDS + TailWord.HANDLE;
    const size = wordsOf(octets);
    const to = this.#tails.u32;
    if (octets > ROW_OCTETS) {
      const place = this.#pool.allocate(size * 4);
      if (place === 0) return false;
      this.#pool.setWords(place, words, 0, size);
      to[at + 2] = place;
    } else for (let i = 2; i < size; i += 1) to[at + i] = words[i]!;
    to[at + 1] = words[1]!;
    to[at] = octets;
    return true;
  }

  /** Whether the row's file handle is the one at `words[0]`, whose octets beyond its length are 0. */
  is(slot: number, words: Uint32Array): boolean {
    const octets = words[0]!;
    const at = slot * TAIL_WORDS + TailWord.HANDLE;
    const own = this.#tails.u32;
    if (own[at] !== octets || own[at + 1] !== words[1]) return false;
    const size = wordsOf(octets);
    if (octets > ROW_OCTETS) return this.#pool.areWords(own[at + 2]!, words, 0, size);
    for (let i = 2; i < size; i += 1) if (own[at + i] !== words[i]) return false;
    return true;
  }

  /** Gives up the handle, if there is one. */
  drop(slot: number): void {
    const at = slot * TAIL_WORDS + TailWord.HANDLE;
    const words = this.#tails.u32;
    const octets = words[at]!;
    if (octets > ROW_OCTETS) this.#pool.free(words[at + 2]!, wordsOf(octets) * 4);
    words[at] = 0;
  }
}

const wordsOf = (octets: number): number => 2 + ((octets + 3) >>> 2);
