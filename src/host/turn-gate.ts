/**
 * Which threads are in the middle of something, and waiting until they are not.
 *
 * A thread serves in turns. Between `enter` and `leave` it uses what it finds in shared tables; outside it keeps
 * nothing of them. So who changes a table changes it first, then calls `waitForOthers`, and knows when it returns that
 * nobody uses what was there before: all who enter later see the change. This is what RCU calls a grace period.
 *
 * `exclusively` also keeps the others out meanwhile.
 *
 *     word of each thread   even: outside, odd: inside; +1 each time it passes the gate
 *     wanted of each        how many wait for it to leave; it should soon
 *     holder                1 + the thread that has the gate for itself, or 0
 */
import { futexWait, futexWakeAll } from './futex.ts';
import type { NativeMemory } from './native-memory.ts';

/** Words from one thread's to the next: a cache line, so that threads do not slow each other down. */
const STRIDE = 16;
const TURN = 0;
const WANTED = 1;
const BUSY = 2;
const DEAD = 3;
/** Looks before sleeping. */
const SPINS = 400;
/** Milliseconds after which a sleeper looks whether whom it waits for has died. */
const LOOK_AGAIN_MS = 50;

export class TurnGate {
  readonly #words: Int32Array;
  readonly #address: number;
  readonly #threads: number;
  readonly #first: number;

  /** Bytes of zeroed memory that the gate of so many threads takes. */
  static bytesFor(threads: number): number {
    return 4 * STRIDE * (1 + threads);
  }

  /**
   * @param memory `bytesFor(threads)` bytes; each thread makes its own object over the same memory
   * @param self number of the calling thread, from 0
   */
  constructor(memory: NativeMemory, threads: number, self: number) {
    if (memory.size < TurnGate.bytesFor(threads) || self < 0 || self >= threads)
      throw new RangeError(`gate of ${threads} threads in ${memory.size} bytes, thread ${self}`);
    this.#words = memory.i32;
    this.#address = memory.address;
    this.#threads = threads;
    this.#first = firstWord(self);
  }

  /** Goes in; waits while another thread has the gate for itself. */
  enter(): void {
    const words = this.#words;
    for (;;) {
      // Full barrier between this store and the loads of `holder` and of what the gate protects: see `waitForOthers`.
      Atomics.add(words, this.#first + TURN, 1);
      const holder = Atomics.load(words, 0);
      if (holder === 0) return;
      this.leave();
      futexWait(this.#address, holder, LOOK_AGAIN_MS);
    }
  }

  leave(): void {
    Atomics.add(this.#words, this.#first + TURN, 1);
    if (Atomics.load(this.#words, this.#first + WANTED) !== 0) futexWakeAll(this.#wordOf(this.#first + TURN));
  }

  /** Whether somebody waits for this thread to leave. */
  get isWanted(): boolean {
    return this.#words[this.#first + WANTED] !== 0;
  }

  /** Waits until every other thread is outside, or has been since this was called. */
  waitForOthers(): void {
    for (let first = STRIDE; first <= STRIDE * this.#threads; first += STRIDE)
      if (first !== this.#first) this.#waitFor(first);
  }

  /**
   * Runs `action` while every other thread is outside, and stays there. The caller may be inside.
   *
   * @returns false, and nothing has run, if another thread has the gate for itself
   */
  exclusively(action: () => void): boolean {
    const words = this.#words;
    const self = this.#first / STRIDE;
    if (Atomics.compareExchange(words, 0, 0, self) !== 0) return false;
    try {
      this.waitForOthers();
      action();
    } finally {
      Atomics.store(words, 0, 0);
      futexWakeAll(this.#address);
    }
    return true;
  }

  /** Waits until no other thread has the gate for itself. The caller is outside. */
  waitForHolder(): void {
    for (let holder = Atomics.load(this.#words, 0); holder !== 0; holder = Atomics.load(this.#words, 0))
      futexWait(this.#address, holder, LOOK_AGAIN_MS);
  }

  /** Asks a thread to leave soon, until `unwant`. */
  want(thread: number): void {
    Atomics.add(this.#words, firstWord(thread) + WANTED, 1);
  }

  unwant(thread: number): void {
    Atomics.sub(this.#words, firstWord(thread) + WANTED, 1);
  }

  /** Notes for the others that this thread has work in the kernel, which goes on while it is outside. Set inside. */
  set isBusy(isBusy: boolean) {
    this.#words[this.#first + BUSY] = isBusy ? 1 : 0;
  }

  /** Whether a thread has noted that it has work in the kernel. It is outside, or `waitForOthers` has just seen it there. */
  isBusyThread(thread: number): boolean {
    return Atomics.load(this.#words, firstWord(thread) + BUSY) !== 0;
  }

  /** A thread has died: it is outside for ever, and holds nothing. */
  bury(thread: number): void {
    const words = this.#words;
    const turn = firstWord(thread) + TURN;
    Atomics.store(words, firstWord(thread) + DEAD, 1);
    if ((Atomics.load(words, turn) & 1) !== 0) Atomics.add(words, turn, 1);
    Atomics.compareExchange(words, 0, 1 + thread, 0);
    futexWakeAll(this.#wordOf(turn));
    futexWakeAll(this.#address);
  }

  isDeadThread(thread: number): boolean {
    return Atomics.load(this.#words, firstWord(thread) + DEAD) !== 0;
  }

  #waitFor(first: number): void {
    const words = this.#words;
    const turn = Atomics.load(words, first + TURN);
    if ((turn & 1) === 0) return;
    // Before the next look at the turn, and the thread looks here after it has left: one of the two sees the other.
    Atomics.add(words, first + WANTED, 1);
    for (let i = 0; i < SPINS && Atomics.load(words, first + TURN) === turn; i += 1);
    while (Atomics.load(words, first + TURN) === turn)
      futexWait(this.#wordOf(first + TURN), turn, LOOK_AGAIN_MS);
    Atomics.sub(words, first + WANTED, 1);
  }

  #wordOf(index: number): number {
    return this.#address + 4 * index;
  }
}

const firstWord = (thread: number): number => STRIDE * (1 + thread);
