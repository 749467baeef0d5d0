/**
 * Finds rows of inodes by what the host calls the inode: mount, inode number. Under the lock.
 *
 * Linear hashing: as many buckets as rows, one more split with each new row. So nothing is ever rehashed as a whole, and
 * no lookup waits for that.
 */
import type { GrowingWords } from '../host/growing-words.ts';
import { INODE_WORDS, InodeFlag, RowWord } from './inode-row.ts';
import { HeaderWord, type TableMemory } from './table-memory.ts';

const FIRST_BUCKETS = 256;

export class InodeIndex {
  readonly #header: Int32Array;
  readonly #rows: GrowingWords;
  readonly #buckets: GrowingWords;

  constructor({ header, inodes, buckets }: TableMemory) {
    this.#header = header;
    this.#rows = inodes;
    this.#buckets = buckets;
    if (header[HeaderWord.BUCKET_BASE] === 0) header[HeaderWord.BUCKET_BASE] = FIRST_BUCKETS;
  }

  /** The first row with this identity, or −1; there may be several: see `findNext`. */
  find(mount: number, inoLo: number, inoHi: number): number {
    const bucket = this.#bucketOf(hash(mount, inoLo, inoHi));
    return this.#search(this.#buckets.i32[bucket]!, mount, inoLo, inoHi);
  }

  /** The next row with the same identity, or −1. */
  findNext(slot: number): number {
    const row = slot * INODE_WORDS;
    const words = this.#rows.u32;
    return this.#search(
      words[row + RowWord.NEXT]!,
      words[row + RowWord.MOUNT]!,
      words[row + RowWord.INO]!,
      words[row + RowWord.INO + 1]!,
    );
  }

  #search(first: number, mount: number, inoLo: number, inoHi: number): number {
    const words = this.#rows.u32;
    let slot = first;
    while (slot !== 0) {
      const row = slot * INODE_WORDS;
      if (
        words[row + RowWord.INO] === inoLo &&
        words[row + RowWord.INO + 1] === inoHi &&
        words[row + RowWord.MOUNT] === mount
      )
        return slot;
      slot = words[row + RowWord.NEXT]!;
    }
    return -1;
  }

  add(slot: number): void {
    this.#link(slot);
    const base = this.#header[HeaderWord.BUCKET_BASE]!;
    const count = base + this.#header[HeaderWord.BUCKET_SPLIT]!;
    if (this.#header[HeaderWord.INODE_TOP]! > count && count * 4 < this.#buckets.size) this.#splitBucket();
  }

  /** Harmless when repeated. */
  remove(slot: number): void {
    const words = this.#rows.i32;
    const row = slot * INODE_WORDS;
    if ((words[row + RowWord.FLAGS]! & InodeFlag.UNINDEXED) !== 0) return;
    words[row + RowWord.FLAGS]! |= InodeFlag.UNINDEXED;
    const next = words[row + RowWord.NEXT]!;
    const bucket = this.#bucketOf(this.#hashOf(slot));
    let at = this.#buckets.i32[bucket]!;
    if (at === slot) {
      this.#buckets.i32[bucket] = next;
      return;
    }
    while (words[at * INODE_WORDS + RowWord.NEXT] !== slot) at = words[at * INODE_WORDS + RowWord.NEXT]!;
    words[at * INODE_WORDS + RowWord.NEXT] = next;
  }

  #bucketOf(h: number): number {
    const base = this.#header[HeaderWord.BUCKET_BASE]!;
    const bucket = h & (base - 1);
    return bucket < this.#header[HeaderWord.BUCKET_SPLIT]! ? h & (2 * base - 1) : bucket;
  }

  #hashOf(slot: number): number {
    const row = slot * INODE_WORDS;
    const words = this.#rows.u32;
    return hash(words[row + RowWord.MOUNT]!, words[row + RowWord.INO]!, words[row + RowWord.INO + 1]!);
  }

  #link(slot: number): void {
    const bucket = this.#bucketOf(this.#hashOf(slot));
    this.#rows.i32[slot * INODE_WORDS + RowWord.NEXT] = this.#buckets.i32[bucket]!;
    this.#buckets.i32[bucket] = slot;
  }

  #splitBucket(): void {
    const header = this.#header;
    const base = header[HeaderWord.BUCKET_BASE]!;
    const bucket = header[HeaderWord.BUCKET_SPLIT]!;
    this.#buckets.ensure((base + bucket + 1) * 4);
    let slot = this.#buckets.i32[bucket]!;
    this.#buckets.i32[bucket] = 0;
    const isLast = bucket + 1 === base;
    header[HeaderWord.BUCKET_SPLIT] = isLast ? 0 : bucket + 1;
    if (isLast) header[HeaderWord.BUCKET_BASE] = base * 2;
    while (slot !== 0) {
      const next = this.#rows.i32[slot * INODE_WORDS + RowWord.NEXT]!;
      this.#link(slot);
      slot = next;
    }
  }
}

/** Mixes so that neighbouring inode numbers, the usual case, spread. */
function hash(mount: number, inoLo: number, inoHi: number): number {
  let h = Math.imul(inoLo ^ Math.imul(inoHi, 0x85ebca6b) ^ Math.imul(mount, 0xc2b2ae35), 0x9e3779b1);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
