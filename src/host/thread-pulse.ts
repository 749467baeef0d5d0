/**
 * Whether threads go on, for another one to see: where each of them is, in words that it counts up itself.
 *
 *     turns of each thread   even: it waits for events, odd: it works; +1 each time that changes
 *     task of each           what it works on, a number of its own choosing; 0 when it begins
 */
import type { NativeMemory } from './native-memory.ts';

/** Words from one thread's to the next: a cache line, so that threads do not slow each other down. */
const STRIDE = 16;
const TURNS = 0;
const TASK = 1;

export class ThreadPulse {
  readonly #words: Int32Array;
  readonly #first: number;

  /** Bytes of zeroed memory that the pulses of so many threads take. */
  static bytesFor(threads: number): number {
    return 4 * STRIDE * threads;
  }

  /** @param memory `bytesFor` more than `thread` threads; each looks through an object of its own */
  constructor(memory: NativeMemory, thread: number) {
    this.#words = memory.i32;
    this.#first = STRIDE * thread;
  }

  get turns(): number {
    return Atomics.load(this.#words, this.#first + TURNS);
  }

  get isWorking(): boolean {
    return (this.turns & 1) !== 0;
  }

  get task(): number {
    return this.#words[this.#first + TASK]!;
  }

  /** A plain store: it is in every request. */
  set task(task: number) {
    this.#words[this.#first + TASK] = task;
  }

  /** The thread works from here on. Idempotent. */
  work(): void {
    if (this.isWorking) return;
    this.task = 0;
    Atomics.add(this.#words, this.#first + TURNS, 1);
  }

  /** It waits for events. Idempotent. */
  rest(): void {
    if (this.isWorking) Atomics.add(this.#words, this.#first + TURNS, 1);
  }
}
