/**
 * What requests under way are using: rows of inodes and of open files. A row that is marked keeps what it is, and its
 * descriptor stays open, though another thread takes it out of the tables meanwhile.
 *
 * Each thread has a few words of its own that the others read. To use a row: mark it, then see that it still is what
 * was asked for. To take a row away: make it unknown, then see that nobody has marked it; whose mark was late finds it
 * unknown. What is found marked is a leftover, settled by whoever drops the last mark.
 */
import { loadOrdered, storeFenced } from './ordered.ts';
import { HeaderWord, MARKS_PER_THREAD, MAX_THREADS, type TableMemory } from './table-memory.ts';

/** The last of a thread's words says that they are somebody's. */
const MAX_MARKS = MARKS_PER_THREAD - 1;
const TAKEN = -1;

export class InUse {
  /** Marks of this thread. */
  count = 0;
  readonly #memory: TableMemory;
  readonly #isShared: boolean;
  readonly #words: Int32Array;
  readonly #header: Int32Array;
  readonly #base: number;

  /** @throws {RangeError} if too many threads serve the share */
  constructor(memory: TableMemory) {
    this.#memory = memory;
    this.#isShared = memory.isShared;
    this.#words = memory.marks;
    this.#header = memory.header;
    this.#base = this.#takeWords() * MARKS_PER_THREAD;
  }

  #takeWords(): number {
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      if (Atomics.compareExchange(this.#words, thread * MARKS_PER_THREAD + MAX_MARKS, 0, TAKEN) !== 0)
        continue;
      this.#memory.acquire();
      const threads = Math.max(this.#header[HeaderWord.THREADS]!, thread + 1);
      Atomics.store(this.#header, HeaderWord.THREADS, threads);
      this.#memory.release();
      return thread;
    }
    throw new RangeError(`at most ${MAX_THREADS} threads serve one share`);
  }

  /** This thread serves the share no more. */
  leaveThread(): void {
    Atomics.store(this.#words, this.#base + MAX_MARKS, 0);
  }

  /** Marks an inode's row. Stays until `clear`, or `dropTo`. */
  markInode(slot: number): void {
    this.#mark(slot);
  }

  /** Marks the row of an open file. */
  markHandle(row: number): void {
    this.#mark(~row);
  }

  #mark(value: number): void {
    const { count } = this;
    if (count === MAX_MARKS) throw new RangeError('too many marks');
    const at = this.#base + count;
    if (this.#isShared) this.#memory.follow();
    // Sequentially consistent: what is read of the row after is read after the mark is seen.
    storeFenced(this.#isShared, this.#words, at, value);
    this.count = count + 1;
  }

  /** Drops the marks made since there were `count`. */
  dropTo(count: number): void {
    while (this.count > count) {
      this.count -= 1;
      this.#words[this.#base + this.count] = 0;
    }
  }

  /** Drops all marks. @returns whether leftovers wait to be settled */
  clear(): boolean {
    const base = this.#base;
    for (let i = 1; i < this.count; i += 1) this.#words[base + i] = 0;
    this.count = 0;
    if (!this.#isShared) {
      this.#words[base] = 0;
      return false;
    }
    Atomics.store(this.#words, base, 0);
    return loadOrdered(this.#header, HeaderWord.LEFTOVER_COUNT) !== 0;
  }

  /** Whether any thread, this one too, uses the inode's row. */
  isInodeUsed(slot: number): boolean {
    return this.#isMarkedOwn(slot) || (this.#isShared && this.#isMarkedElsewhere(slot));
  }

  #isMarkedOwn(value: number): boolean {
    for (let i = 0; i < this.count; i += 1) if (this.#words[this.#base + i] === value) return true;
    return false;
  }

  #isMarkedElsewhere(value: number): boolean {
    const end = Math.min(Atomics.load(this.#header, HeaderWord.THREADS), MAX_THREADS) * MARKS_PER_THREAD;
    for (let i = 0; i < end; i += 1)
      if (loadOrdered(this.#words, i) === value && (i < this.#base || i >= this.#base + MARKS_PER_THREAD))
        return true;
    return false;
  }

  /** Leaves an inode's row, unknown by now, to whoever uses it. Under the lock. @returns false if nobody does */
  leaveInode(slot: number): boolean {
    return this.#isShared && this.#leave(slot);
  }

  leaveHandle(row: number): boolean {
    return this.#isShared && this.#leave(~row);
  }

  #leave(value: number): boolean {
    if (!this.#isMarkedElsewhere(value)) return false;
    const { header, leftovers } = this.#memory;
    const count = header[HeaderWord.LEFTOVER_COUNT]!;
    leftovers[count] = value;
    Atomics.store(header, HeaderWord.LEFTOVER_COUNT, count + 1);
    // Who dropped the mark before the count was stored does not know of it.
    if (this.#isMarkedElsewhere(value)) return true;
    Atomics.store(header, HeaderWord.LEFTOVER_COUNT, count);
    return false;
  }

  /** Takes out a leftover that nobody else uses any more. Under the lock. @returns it (≥ 0 an inode, else `~row`), or 0 */
  takeLeftover(): number {
    const { header, leftovers } = this.#memory;
    const count = header[HeaderWord.LEFTOVER_COUNT]!;
    for (let i = 0; i < count; i += 1) {
      const value = leftovers[i]!;
      if (this.#isMarkedElsewhere(value)) continue;
      leftovers[i] = leftovers[count - 1]!;
      Atomics.store(header, HeaderWord.LEFTOVER_COUNT, count - 1);
      return value;
    }
    return 0;
  }
}
