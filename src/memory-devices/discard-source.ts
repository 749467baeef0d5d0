/** Why a part of some RAM is not there: one reason among perhaps several. Offsets are bytes inside the RAM region. */
import type { BlockBitmap } from './block-bitmap.ts';

/** A run of bytes, [start, end). */
export interface Run {
  readonly start: number;
  readonly end: number;
}

export interface DiscardSource {
  /** What every run of it is aligned to and a multiple of; a power of two. */
  readonly granularity: number;
  /** The first populated run of [start, end), cut to that. */
  nextPopulated(start: number, end: number): Run | undefined;
}

/** Blocks that are there where a bit is set: plugged memory of virtio-mem, shared pages of a confidential guest. */
export class BlockSource implements DiscardSource {
  readonly granularity: number;
  readonly #bitmap: BlockBitmap;

  /** @param bitmap borrowed: its owner changes it, and tells the manager */
  constructor(bitmap: BlockBitmap, blockSize: number) {
    this.#bitmap = bitmap;
    this.granularity = blockSize;
  }

  nextPopulated(start: number, end: number): Run | undefined {
    const { granularity } = this;
    const bitmap = this.#bitmap;
    const endBlock = Math.min(bitmap.blocks, Math.ceil(end / granularity));
    const first = bitmap.nextSet(Math.floor(start / granularity), endBlock);
    if (first >= endBlock) return undefined;
    const last = bitmap.nextClear(first, endBlock);
    return { start: Math.max(start, first * granularity), end: Math.min(end, last * granularity) };
  }
}
