/** The rings that one thread serves, and what they share: how they are scheduled, and the features negotiated for them. */
import { errnoName } from '../../protocol/errno.ts';
import { EPOLLET, EPOLLIN } from '../host/epoll.ts';
import { ProtocolError } from '../errors.ts';
import type { ReachableMemory } from '../guest-memory/reachable-memory.ts';
import type { Log } from '../log.ts';
import type { VhostDevice } from './device.ts';
import type { Loop } from './kick-watch.ts';
import { VringScheduler } from './vring-scheduler.ts';
import type { RingFeatures, VringSurroundings } from './vring-surroundings.ts';
import { Vring } from './vring.ts';

interface Options {
  readonly device: VhostDevice;
  readonly loop: Loop;
  readonly memory: ReachableMemory;
  readonly log: Log;
  readonly pollMicros: number;
  /** Signalled after pages were marked dirty. */
  readonly logCall: { signal(): void };
  /** Which of the device's queues are served here. */
  readonly indexes: readonly number[];
  /** True if the thread is wanted for something else: a turn then ends early. */
  readonly isWanted?: (() => boolean) | undefined;
}

export class RingSet {
  readonly vrings: readonly Vring[];
  readonly #loop: Loop;
  readonly #device: VhostDevice;
  readonly #scheduler: VringScheduler;
  readonly #byIndex: (Vring | undefined)[] = [];
  readonly #features = { eventIdx: false, indirect: false, isLogging: false };

  /** @throws {ProtocolError} SYSTEM if the device's completions cannot be waited for */
  constructor(options: Options) {
    const { device, loop, memory, log, pollMicros, logCall, isWanted } = options;
    const vringAt = (index: number): Vring | undefined => this.#byIndex[index];
    const scheduler = new VringScheduler({ device, memory, log, logCall, pollMicros, vringAt, isWanted });
    const surroundings: VringSurroundings = {
      memory,
      loop,
      log,
      maxQueueSize: device.maxQueueSize,
      ringFeatures: this.#features,
      schedule: (vring) => scheduler.schedule(vring),
      reject: (vring, chain) => scheduler.reject(vring, chain),
      drain: (vring) => scheduler.drain(vring),
    };
    this.#loop = loop;
    this.#device = device;
    this.#scheduler = scheduler;
    this.vrings = options.indexes.map((index) => new Vring(index, surroundings));
    for (const vring of this.vrings) this.#byIndex[vring.index] = vring;
    this.#watchCompletions();
  }

  at(index: number): Vring | undefined {
    return this.#byIndex[index];
  }

  /** Gives every ready ring a turn. @returns milliseconds until this wants to be called again: 0 at once, −1 not before something happens */
  run(): number {
    return this.#scheduler.run();
  }

  /** Regions are about to go: waits until the kernel has finished with guest memory. */
  settle(): void {
    this.#scheduler.settle();
  }

  /** The front-end has negotiated, or switched the log. */
  configure({ eventIdx, indirect, isLogging }: RingFeatures): void {
    const features = this.#features;
    const isChanged = eventIdx !== features.eventIdx || indirect !== features.indirect;
    features.eventIdx = eventIdx;
    features.indirect = indirect;
    features.isLogging = isLogging;
    this.#scheduler.isLogging = isLogging;
    for (const vring of this.vrings) {
      vring.logUsed();
      if (isChanged) vring.featuresChanged();
    }
  }

  /** After every change of the memory table. */
  memoryChanged(): void {
    for (const vring of this.vrings) vring.memoryChanged();
  }

  /** The thread serves no more. Idempotent. */
  close(): void {
    for (const vring of this.vrings) vring.close();
    const { completions } = this.#device;
    if (completions !== undefined) this.#loop.remove(completions.fd);
  }

  /** An edge ends the wait; `run` looks what is finished. */
  #watchCompletions(): void {
    const { completions } = this.#device;
    if (completions === undefined) return;
    const result = this.#loop.add(completions.fd, EPOLLIN | EPOLLET, () => undefined);
    if (result < 0)
      throw new ProtocolError('SYSTEM', `epoll_ctl of the device's completions: ${errnoName(-result)}`);
  }
}
