/**
 * Load generators: so many requests in flight on each queue, or one at a time with its latency. One thread, nothing
 * allocated per request. Answers are checked for their error field only; whether data is right is what tests are for.
 */
import { EPOLLET, EPOLLIN, EventLoop } from '../../src/host/epoll.ts';
import { waitReadable } from '../../src/host/poll.ts';
import type { BenchMemory } from './bench-memory.ts';
import type { BenchQueue } from './bench-queue.ts';

/** How the generator learns of answers: it looks all the time, or it sleeps until it is called. */
export type Mode = 'polling' | 'interrupt';

export interface Workload {
  readonly name: string;
  /** Requests in flight. */
  readonly depth: number;
  /** Writes the chains of one lane into the queue. */
  prepare(lane: number): void;
  /** Fills in the lane's next request; the reply of the last one, if any, is still there. @returns its head */
  next(lane: number): number;
  /** @returns how many operations the answered request completes, usually 1 */
  done(lane: number): number;
}

/** A workload on its queue. */
export interface Stream {
  readonly queue: BenchQueue;
  readonly memory: BenchMemory;
  readonly workload: Workload;
}

export interface Measured {
  readonly operations: number;
  readonly ms: number;
}

const STALLED_MS = 10_000;
/** Looks without an answer between two looks at the clock. */
const LOOKS = 256;

/** Writes a stream's chains. To be called before `run`, once. */
export function prepare({ queue, workload }: Stream): void {
  queue.clear();
  for (let lane = 0; lane < workload.depth; lane += 1) workload.prepare(lane);
}

/** Runs prepared streams for so long, and then until nothing is in flight. */
export function run(streams: readonly Stream[], ms: number, mode: Mode): Measured {
  using sleeper = new Sleeper(streams, mode);
  let inFlight = 0;
  for (const { queue, workload } of streams) {
    queue.refuseCalls();
    for (let lane = 0; lane < workload.depth; lane += 1) queue.offer(workload.next(lane));
    inFlight += workload.depth;
    queue.publish();
  }
  const began = performance.now();
  let now = began;
  let lastAnswer = began;
  let total = 0;
  let totalThen = 0;
  let operations = 0;
  let looks = 0;
  let isEnding = false;
  while (inFlight > 0) {
    let answers = 0;
    for (let i = 0; i < streams.length; i += 1) {
      const stream = streams[i]!;
      const count = stream.queue.arrived();
      if (count === 0) continue;
      answers += count;
      operations += serve(stream, count, isEnding);
    }
    looks += 1;
    total += answers;
    if (isEnding) inFlight -= answers;
    if (answers === 0 && mode === 'interrupt') sleeper.sleep();
    else if (looks % LOOKS !== 0) continue;
    now = performance.now();
    if (total !== totalThen || mode === 'interrupt') lastAnswer = now;
    totalThen = total;
    isEnding = now - began >= ms;
    if (now - lastAnswer > STALLED_MS) throw new Error(`${streams[0]!.workload.name}: no answer`);
  }
  return { operations, ms: performance.now() - began };
}

/** Takes so many answers and asks on. @returns operations completed */
function serve({ queue, memory, workload }: Stream, count: number, isEnding: boolean): number {
  let operations = 0;
  for (let i = 0; i < count; i += 1) {
    const lane = queue.laneOf[queue.take()]!;
    if (memory.errorOf(lane) !== 0) throw new Error(`${workload.name}: errno ${-memory.errorOf(lane)}`);
    operations += workload.done(lane);
    if (!isEnding) queue.offer(workload.next(lane));
  }
  if (!isEnding) queue.publish();
  return operations;
}

/** One request after the other for so long. @returns microseconds of each operation, sorted */
export function latencies(stream: Stream, ms: number, mode: Mode): Float64Array {
  const { queue, memory, workload } = stream;
  const samples = new Float64Array(1_000_000);
  let count = 0;
  const began = performance.now();
  let start = began;
  queue.refuseCalls();
  while (count < samples.length && start - began < ms) {
    queue.offer(workload.next(0));
    queue.publish();
    while (queue.arrived() === 0)
      if (mode === 'interrupt' && queue.wantCall()) waitReadable(queue.callFd, STALLED_MS);
    queue.take();
    const now = performance.now();
    if (memory.errorOf(0) !== 0) throw new Error(`${workload.name}: errno ${-memory.errorOf(0)}`);
    if (workload.done(0) === 0) continue; // one half of a pair
    samples[count] = 1000 * (now - start);
    count += 1;
    start = now;
  }
  return samples.subarray(0, count).sort();
}

/**
 * What a request costs the generator itself: it plays the device too, one that does nothing.
 *
 * @returns nanoseconds
 */
export function ownCost({ queue, workload }: Stream, ms: number): number {
  for (let lane = 0; lane < workload.depth; lane += 1) queue.offer(workload.next(lane));
  const began = performance.now();
  let operations = 0;
  let now = began;
  while (now - began < ms) {
    for (let i = 0; i < LOOKS; i += 1) {
      queue.publish();
      queue.answerAll();
      const count = queue.arrived();
      for (let k = 0; k < count; k += 1) {
        const lane = queue.laneOf[queue.take()]!;
        workload.done(lane);
        queue.offer(workload.next(lane));
      }
      operations += count;
    }
    now = performance.now();
  }
  return (1e6 * (now - began)) / operations;
}

/** Waits for the call of any stream. */
class Sleeper implements Disposable {
  readonly #loop = new EventLoop();
  readonly #streams: readonly Stream[];

  constructor(streams: readonly Stream[], mode: Mode) {
    this.#streams = streams;
    if (mode === 'interrupt')
      for (const { queue } of streams) this.#loop.add(queue.callFd, EPOLLIN | EPOLLET, () => undefined);
  }

  sleep(): void {
    let isQuiet = true;
    for (const { queue } of this.#streams) isQuiet = queue.wantCall() && isQuiet;
    if (isQuiet && this.#loop.runOnce(STALLED_MS) === 0) throw new Error('no call');
    for (const { queue } of this.#streams) queue.refuseCalls();
  }

  [Symbol.dispose](): void {
    this.#loop.close();
  }
}
