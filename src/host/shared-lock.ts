/**
 * A lock that threads share: one word of native memory, spun on briefly, then slept on with futex(2).
 *
 * `Atomics.wait` wants a SharedArrayBuffer, which has no address to give to system calls and cannot lie inside another
 * table; any aligned word of `NativeMemory` will do here. Who blocks does so in a system call: the time of a section
 * must be short, or the other thread is deaf for as long. Not recursive, not fair. A thread that ends while it holds
 * the lock leaves it taken, so an error in a section must end the process.
 */
import { futexWait, futexWakeOne } from './futex.ts';
import type { NativeMemory } from './native-memory.ts';

/** Values of the word. `CONTENDED`: taken, and somebody may sleep until it is free. */
const FREE = 0;
const TAKEN = 1;
const CONTENDED = 2;

/** Looks at a taken lock before sleeping: some 2 us, the length of a short section. */
const SPINS = 200;

export class SharedLock {
  readonly #words: Int32Array;
  readonly #index: number;
  readonly #address: number;

  /**
   * The lock at byte `offset` of `memory`, a multiple of 4. Its word is 0 at first, and nobody else's; each thread makes
   * its own object over the same word.
   */
  constructor(memory: NativeMemory, offset: number) {
    if (offset < 0 || offset % 4 !== 0 || offset + 4 > memory.size)
      throw new RangeError(`lock at ${offset}, allowed multiples of 4 within ${memory.size} bytes`);
    this.#words = memory.i32;
    this.#index = offset / 4;
    this.#address = memory.address + offset;
  }

  /** Takes the lock; sleeps while another thread has it. What that thread stored before its `release` is visible after. */
  acquire(): void {
    if (Atomics.compareExchange(this.#words, this.#index, FREE, TAKEN) !== FREE) this.#wait();
  }

  /** Takes the lock if it is free. @returns whether it was */
  tryAcquire(): boolean {
    return Atomics.compareExchange(this.#words, this.#index, FREE, TAKEN) === FREE;
  }

  /** Gives the lock back. The caller has it. */
  release(): void {
    if (Atomics.exchange(this.#words, this.#index, FREE) === CONTENDED) futexWakeOne(this.#address);
  }

  #wait(): void {
    const words = this.#words;
    const index = this.#index;
    for (let i = 0; i < SPINS; i += 1)
      if (Atomics.load(words, index) === FREE && Atomics.compareExchange(words, index, FREE, TAKEN) === FREE)
        return;
    // Whoever has slept takes it as contended: others may sleep still. EAGAIN and EINTR mean to look again.
    while (Atomics.exchange(words, index, CONTENDED) !== FREE) futexWait(this.#address, CONTENDED);
  }
}
