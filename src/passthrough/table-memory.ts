/**
 * The memory that the tables of a share lie in: reserved once, as large as it may ever get, so that nothing moves. Queue
 * threads each have views of the same memory. What is not touched costs nothing.
 *
 * One lock guards what is written by more than one step. It is held for table operations only, never across a system
 * call that may wait. A share that one thread serves takes no lock at all.
 */
import { GrowingWords } from '../host/growing-words.ts';
import { NativeMemory } from '../host/native-memory.ts';
import { Cleanup } from '../host/owned-fd.ts';
import { SharedLock } from '../host/shared-lock.ts';
import { INODE_WORDS, TAIL_WORDS } from './inode-row.ts';

/** Threads that may serve one share, this many marks each; see `in-use.ts`. */
export const MAX_THREADS = 64;
export const MARKS_PER_THREAD = 16;

/** Words of the header, which all threads read and write. */
export const HeaderWord = {
  LOCK: 0,
  LOCKS_LOCK: 1,
  THREADS: 2,
  /** What INIT agreed on: `ShareFlag`. */
  FLAGS: 3,
  /** How inodes are held: index in `HELD_BY`. */
  HELD_BY: 4,
  FDS_USED: 5,
  FRESH_COUNT: 6,
  /** When the period of `lingering.ts` began. */
  LINGER_SINCE: 7,
  INODE_COUNT: 8,
  INODE_TOP: 9,
  INODE_FREE: 10,
  BUCKET_BASE: 11,
  BUCKET_SPLIT: 12,
  COLD_HAND: 13,
  RING_COUNT: 14,
  RING_HAND: 15,
  NAME_COUNT: 16,
  HANDLE_COUNT: 17,
  HANDLE_TOP: 18,
  HANDLE_FREE: 19,
  MOUNT_TOP: 20,
  LEFTOVER_COUNT: 21,
  CARRIER_COUNT: 22,
  CARRIER_TOP: 23,
  CARRIER_FREE: 24,
  RANGE_TOP: 25,
  RANGE_FREE: 26,
  WAITER_COUNT: 27,
  LINGER_HEAD: 28,
  LINGER_TAIL: 29,
  /** Where the tail was when the period began. */
  LINGER_MARK: 30,
  OCTETS_TOP: 31,
  /** Then one for each size of chunk. */
  OCTETS_FREE: 32,
} as const;

/** Rows tried for, the most first: under strict overcommit or a limit on address space less may have to do. */
const INODE_ROWS = [2 ** 25, 2 ** 22, 2 ** 19];
const OCTETS_PER_ROW = 32;
const MAX_RING = 2 ** 20;

const HEADER_WORDS = 64;
const HANDLE_ARRAYS = 7;
const MAX_HANDLES = 2 ** 20;
export const MAX_MOUNTS = 2 ** 12;
export const COLD_ROWS = 2 ** 15;
/** A power of two. */
export const MAX_LINGERING = 64;
const LINGERING_WORDS = 2 * MAX_LINGERING;
export const MAX_LEFTOVERS = 4 * MAX_THREADS * MARKS_PER_THREAD;
export const MAX_CARRIERS = 2 ** 16;
export const CARRIER_WORDS = 12;
export const CARRIER_BUCKETS = 1024;
export const MAX_RANGES = 2 ** 18;
export const RANGE_WORDS = 8;
export const MOUNT_WORDS = 8;

/** Numbers by which another thread of this process reaches the same memory. */
export interface TableHandover {
  readonly inodeRows: number;
  readonly fdLimit: number;
  readonly inodes: number;
  readonly tails: number;
  readonly octets: number;
  readonly buckets: number;
  readonly rest: number;
}

interface Pieces {
  readonly inodes: GrowingWords;
  readonly tails: GrowingWords;
  readonly octets: GrowingWords;
  readonly buckets: GrowingWords;
  readonly rest: NativeMemory;
}

export class TableMemory implements Disposable {
  readonly isShared: boolean;
  readonly inodeRows: number;
  readonly fdLimit: number;
  /** Rows of inodes, and of each what is rarely used. */
  readonly inodes: GrowingWords;
  readonly tails: GrowingWords;
  /** Names, and file handles longer than a row has room for. */
  readonly octets: GrowingWords;
  readonly header: Int32Array;
  readonly marks: Int32Array;
  readonly leftovers: Int32Array;
  readonly mounts: Uint32Array;
  readonly cold: Int32Array;
  readonly ring: Int32Array;
  readonly lingering: Int32Array;
  /** First rows of the chains of inodes with the same hash. */
  readonly buckets: GrowingWords;
  /** One word of each handle's row after the other: an array each. */
  readonly handleWords: readonly Int32Array[];
  readonly carriers: Int32Array;
  readonly carrierBuckets: Int32Array;
  readonly ranges: Uint32Array;
  readonly #rest: NativeMemory;
  readonly #lock: SharedLock;
  readonly #locksLock: SharedLock;

  private constructor(
    { inodes, tails, octets, buckets, rest }: Pieces,
    inodeRows: number,
    fdLimit: number,
    isShared: boolean,
  ) {
    this.isShared = isShared;
    this.inodeRows = inodeRows;
    this.fdLimit = fdLimit;
    this.inodes = inodes;
    this.tails = tails;
    this.octets = octets;
    this.buckets = buckets;
    this.#rest = rest;
    this.#lock = new SharedLock(rest, HeaderWord.LOCK * 4);
    this.#locksLock = new SharedLock(rest, HeaderWord.LOCKS_LOCK * 4);
    let at = 0;
    const words = (count: number): Int32Array => {
      const piece = rest.i32.subarray(at, at + count);
      at += pages(count * 4) / 4;
      return piece;
    };
    const unsigned = (count: number): Uint32Array => {
      const piece = words(count);
      return new Uint32Array(piece.buffer, piece.byteOffset, piece.length);
    };
    this.header = words(HEADER_WORDS);
    this.marks = words(MAX_THREADS * MARKS_PER_THREAD);
    this.leftovers = words(MAX_LEFTOVERS);
    this.mounts = unsigned(MAX_MOUNTS * MOUNT_WORDS);
    this.cold = words(COLD_ROWS);
    this.ring = words(ringSize(fdLimit));
    this.lingering = words(LINGERING_WORDS);
    this.handleWords = Array.from({ length: HANDLE_ARRAYS }, () => words(handleRows(fdLimit)));
    this.carrierBuckets = words(CARRIER_BUCKETS);
    this.carriers = words(MAX_CARRIERS * CARRIER_WORDS);
    this.ranges = unsigned(MAX_RANGES * RANGE_WORDS);
  }

  /** @throws {RangeError} if there is not even address space for few inodes */
  static reserve(fdLimit: number, isShared: boolean): TableMemory {
    for (const rows of INODE_ROWS)
      try {
        return TableMemory.#reserve(rows, fdLimit, isShared);
      } catch (error) {
        if (rows === INODE_ROWS.at(-1)) throw error;
      }
    throw new RangeError('no table size to try');
  }

  static #reserve(inodeRows: number, fdLimit: number, isShared: boolean): TableMemory {
    using undo = new Cleanup();
    const pieces = {
      inodes: undo.use(GrowingWords.reserve(inodeRows * INODE_WORDS * 4)),
      tails: undo.use(GrowingWords.reserve(inodeRows * TAIL_WORDS * 4)),
      octets: undo.use(GrowingWords.reserve(inodeRows * OCTETS_PER_ROW)),
      buckets: undo.use(GrowingWords.reserve(inodeRows * 4)),
      rest: undo.use(NativeMemory.reserve(restSize(fdLimit))),
    };
    undo.keep();
    return new TableMemory(pieces, inodeRows, fdLimit, isShared);
  }

  /** The memory another thread reserved, and unmaps, shared from both sides. */
  static attach({ inodeRows, fdLimit, inodes, tails, octets, buckets, rest }: TableHandover): TableMemory {
    const pieces = {
      inodes: GrowingWords.at(inodes, inodeRows * INODE_WORDS * 4),
      tails: GrowingWords.at(tails, inodeRows * TAIL_WORDS * 4),
      octets: GrowingWords.at(octets, inodeRows * OCTETS_PER_ROW),
      buckets: GrowingWords.at(buckets, inodeRows * 4),
      rest: NativeMemory.at(rest, restSize(fdLimit)),
    };
    return new TableMemory(pieces, inodeRows, fdLimit, true);
  }

  get handover(): TableHandover {
    const { inodeRows, fdLimit } = this;
    return {
      inodeRows,
      fdLimit,
      inodes: this.inodes.address,
      tails: this.tails.address,
      octets: this.octets.address,
      buckets: this.buckets.address,
      rest: this.#rest.address,
    };
  }

  /** Takes the tables' lock. Not recursive. */
  acquire(): void {
    if (!this.isShared) return;
    this.#lock.acquire();
    this.follow();
  }

  /** Other threads may have made the tables longer: sees to it that what they have told of is within our views. */
  follow(): void {
    const rows = this.header[HeaderWord.INODE_TOP]!;
    this.inodes.ensure(rows * INODE_WORDS * 4);
    this.tails.ensure(rows * TAIL_WORDS * 4);
    this.octets.ensure(this.header[HeaderWord.OCTETS_TOP]! * 16);
    this.buckets.ensure((this.header[HeaderWord.BUCKET_BASE]! + this.header[HeaderWord.BUCKET_SPLIT]!) * 4);
  }

  release(): void {
    if (this.isShared) this.#lock.release();
  }

  /** Takes the lock of what is known of file locks; `acquire` may follow inside, never the other way round. */
  acquireLocks(): void {
    if (this.isShared) this.#locksLock.acquire();
  }

  releaseLocks(): void {
    if (this.isShared) this.#locksLock.release();
  }

  /** Unmaps what this thread reserved, when no other thread uses it any more. No table may be touched after. */
  [Symbol.dispose](): void {
    this.inodes[Symbol.dispose]();
    this.tails[Symbol.dispose]();
    this.octets[Symbol.dispose]();
    this.buckets[Symbol.dispose]();
    this.#rest.unmap();
  }
}

/** Each array starts on a page of its own, whatever the size of pages is. */
const pages = (bytes: number): number => Math.ceil(bytes / 65536) * 65536;

function restSize(fdLimit: number): number {
  const arrays = [
    HEADER_WORDS,
    MAX_THREADS * MARKS_PER_THREAD,
    MAX_LEFTOVERS,
    MAX_MOUNTS * MOUNT_WORDS,
    COLD_ROWS,
    ringSize(fdLimit),
    LINGERING_WORDS,
    ...Array.from({ length: HANDLE_ARRAYS }, () => handleRows(fdLimit)),
    CARRIER_BUCKETS,
    MAX_CARRIERS * CARRIER_WORDS,
    MAX_RANGES * RANGE_WORDS,
  ];
  return arrays.reduce((sum, words) => sum + pages(words * 4), 0);
}

/** Each takes a descriptor; some are open for a moment beyond the limit. */
const handleRows = (fdLimit: number): number => Math.min(fdLimit + 1024, MAX_HANDLES);

const ringSize = (fdLimit: number): number => Math.min(fdLimit, MAX_RING) + 1;
