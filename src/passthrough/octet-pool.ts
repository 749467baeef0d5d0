/**
 * Chunks of a few octets in the tables' memory: names of inodes that can only be found again by name, and file handles
 * too long for a row. What is given back is used again for the same size. Under the lock.
 */
import type { GrowingWords } from '../host/growing-words.ts';
import { HeaderWord, type TableMemory } from './table-memory.ts';

/** Chunks are multiples of this. */
const GRANULE = 16;
const MAX_OCTETS = 17 * GRANULE;

export class OctetPool {
  readonly #header: Int32Array;
  readonly #octets: GrowingWords;

  constructor({ header, octets }: TableMemory) {
    this.#header = header;
    this.#octets = octets;
  }

  /** @param size up to 272 octets. @returns where, never 0; 0 when there is no room left */
  allocate(size: number): number {
    if (size > MAX_OCTETS) return 0;
    const granules = granulesOf(size);
    const list = HeaderWord.OCTETS_FREE + granules;
    const free = this.#header[list]!;
    if (free !== 0) {
      this.#header[list] = this.#octets.u32[free * (GRANULE / 4)]!;
      return free;
    }
    const at = Math.max(this.#header[HeaderWord.OCTETS_TOP]!, 1);
    const end = (at + granules) * GRANULE;
    if (end > this.#octets.size) return 0;
    this.#octets.ensure(end);
    this.#header[HeaderWord.OCTETS_TOP] = at + granules;
    return at;
  }

  /** Gives back what `allocate` gave for so many octets. */
  free(at: number, size: number): void {
    const list = HeaderWord.OCTETS_FREE + granulesOf(size);
    this.#octets.u32[at * (GRANULE / 4)] = this.#header[list]!;
    this.#header[list] = at;
  }

  /** Address of a chunk. */
  addressOf(at: number): number {
    return this.#octets.address + at * GRANULE;
  }

  /** Stores words into a chunk. */
  setWords(at: number, from: Uint32Array, start: number, count: number): void {
    const to = at * (GRANULE / 4);
    for (let i = 0; i < count; i += 1) this.#octets.u32[to + i] = from[start + i]!;
  }

  areWords(at: number, other: Uint32Array, start: number, count: number): boolean {
    const from = at * (GRANULE / 4);
    for (let i = 0; i < count; i += 1) if (this.#octets.u32[from + i] !== other[start + i]) return false;
    return true;
  }

  /** Stores octets into a chunk. */
  set(at: number, from: Uint8Array, start: number, length: number): void {
    const to = at * GRANULE;
    for (let i = 0; i < length; i += 1) this.#octets.u8[to + i] = from[start + i]!;
  }

  /** Copies octets with a NUL behind them to `to[0]`. */
  copy(at: number, length: number, to: Uint8Array): void {
    const from = at * GRANULE;
    for (let i = 0; i < length; i += 1) to[i] = this.#octets.u8[from + i]!;
    to[length] = 0;
  }

  are(at: number, length: number, other: Uint8Array, start: number): boolean {
    const from = at * GRANULE;
    for (let i = 0; i < length; i += 1) if (this.#octets.u8[from + i] !== other[start + i]) return false;
    return true;
  }
}

const granulesOf = (size: number): number => Math.max(1, Math.ceil(size / GRANULE));
