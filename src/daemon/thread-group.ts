/**
 * The threads that serve: the device thread, and the queue threads it asks for.
 *
 * All are started here, on the main thread, because only an event loop hears of a thread's end, and theirs never run. One
 * that fails takes the process with it: the others are woken, and what does not end then is ended.
 */
import { Worker } from 'node:worker_threads';
import { ConfigError } from '../errors.ts';
import { signalEventfd } from '../host/eventfd.ts';
import { NativeMemory } from '../host/native-memory.ts';
import { TurnGate } from '../host/turn-gate.ts';
import type { Log } from '../log.ts';
import type { DeviceThreadReport, DeviceThreadSetup } from './device-thread.ts';
import type { QueueThreadSetup } from './queue-thread-messages.ts';

/**
 * The data path allocates nothing, so little garbage comes up. Left alone, V8 lets it pile up: resident memory and
 * mappings then go up and down by half, which looks like a leak.
 */
const YOUNG_GENERATION_MIB = 2;
/** Milliseconds the other threads have to end after one has failed. */
const PATIENCE_MS = 2000;

interface Options {
  readonly log: Log;
  /** Ends the device thread when it is signalled; lent. */
  readonly stopFd: number;
  /** A thread has failed and others do not end: has to end the process. */
  readonly onStuck: () => void;
  /** Where `device-thread.js` and `queue-thread.js` are: here, unless for a test. */
  readonly directory?: URL;
  readonly patienceMs?: number;
}

export class ThreadGroup {
  readonly #options: Options;
  #running = 0;
  #hasFailed = false;
  #refusal: ConfigError | undefined;
  #onEnd: () => void = () => undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * Runs the device thread, and what it asks for, until all have ended.
   *
   * @returns 0 when they ended by themselves, 1 after an error that nobody handled
   * @throws {ConfigError} what the device thread found wrong with the options
   */
  async run(setup: DeviceThreadSetup): Promise<number> {
    const allEnded = new Promise<void>((resolve) => (this.#onEnd = resolve));
    const thread = this.#start('device-thread', setup);
    if (thread === undefined) return 1;
    thread.on('message', (report: DeviceThreadReport) => {
      if (report.kind === 'refused') this.#refusal = new ConfigError(report.code, report.message);
      else this.#startQueueThread(report.setup);
    });
    await allEnded;
    if (this.#refusal !== undefined) throw this.#refusal;
    return this.#hasFailed ? 1 : 0;
  }

  #startQueueThread(setup: QueueThreadSetup): void {
    const { thread: number, threads, gateAddress, answerFd } = setup;
    this.#start('queue-thread', setup, () => {
      // Whoever waits for it, or for its turn to end, waits no more.
      const gateMemory = NativeMemory.at(gateAddress, TurnGate.bytesFor(threads));
      new TurnGate(gateMemory, threads, number).bury(number);
      signalEventfd(answerFd);
    });
  }

  /** @param onFailure called once the thread is no more, if it did not end by itself */
  #start(
    name: 'device-thread' | 'queue-thread',
    setup: DeviceThreadSetup | QueueThreadSetup,
    onFailure: () => void = () => undefined,
  ): Worker | undefined {
    const fail = (error: unknown): void => {
      // What follows from the first failure is no news.
      if (!this.#hasFailed) this.#options.log.fatal({ err: error, thread: name }, 'thread_failed');
    };
    let thread: Worker;
    try {
      thread = new Worker(new URL(`./${name}.js`, this.#options.directory ?? import.meta.url), {
        workerData: setup,
        transferList: 'port' in setup ? [setup.port] : [],
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
      });
    } catch (error) {
      // The kernel gives no more threads.
      fail(error);
      onFailure();
      this.#failed();
      return undefined;
    }
    this.#running += 1;
    // A thread that fails before its first line of code ends with status 0.
    let hasFailed = false;
    thread.on('error', (error) => {
      hasFailed = true;
      fail(error);
    });
    thread.on('exit', (status) => {
      this.#running -= 1;
      if (hasFailed || status !== 0) {
        onFailure();
        this.#failed();
      }
      if (this.#running === 0) this.#onEnd();
    });
    return thread;
  }

  #failed(): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    if (this.#running === 0) return;
    const { stopFd, onStuck, patienceMs = PATIENCE_MS } = this.#options;
    signalEventfd(stopFd);
    setTimeout(onStuck, patienceMs).unref();
  }
}
