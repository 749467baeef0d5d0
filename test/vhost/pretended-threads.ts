/**
 * Queue threads that take turns with everything else in the thread of the test: nothing is left to chance, and what is
 * said between threads goes the way it does between real ones.
 */
import { GuestMemoryView } from '../../src/guest-memory/guest-memory-view.ts';
import type { MemoryReaders } from '../../src/guest-memory/guest-memory.ts';
import { SharedRegions } from '../../src/guest-memory/shared-regions.ts';
import { EventLoop } from '../../src/host/epoll.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { TurnGate } from '../../src/host/turn-gate.ts';
import type { Log } from '../../src/log.ts';
import type { VhostDevice } from '../../src/vhost/device.ts';
import type { QueueThreads } from '../../src/vhost/queue-threads.ts';
import { RemoteRing, type RingThread } from '../../src/vhost/remote-ring.ts';
import type { RingCommand } from '../../src/vhost/ring-command.ts';
import { RingServer } from '../../src/vhost/ring-server.ts';
import { flagsOf, type RingFeatures } from '../../src/vhost/vring-surroundings.ts';

interface Options {
  readonly maxSlots: number;
  readonly log: Log;
  readonly pollMicros: number;
  /** Queues that get a thread each. */
  readonly indexes: readonly number[];
  /** The device, as one of the threads has it. */
  readonly device: (index: number) => VhostDevice;
}

class PretendedThread implements RingThread {
  readonly isStarted = true;
  readonly loop = new EventLoop();
  readonly #server: RingServer;

  constructor(index: number, gate: TurnGate, shared: SharedRegions, { log, pollMicros, device }: Options) {
    this.#server = new RingServer({
      device: device(index),
      loop: this.loop,
      memory: new GuestMemoryView(SharedRegions.at(shared.address, shared.maxSlots)),
      log,
      pollMicros,
      indexes: [index],
      gate,
    });
  }

  call(command: RingCommand): number {
    return this.#server.carryOut(structuredClone(command));
  }

  /** @returns milliseconds it may wait for events: 0 for no wait, −1 for ever */
  run(): number {
    return this.#server.turn();
  }

  [Symbol.dispose](): void {
    this.#server[Symbol.dispose]();
    this.loop.close();
  }
}

export class PretendedThreads implements QueueThreads, MemoryReaders, Disposable {
  readonly shared: SharedRegions;
  readonly #gate: TurnGate;
  readonly #threads: readonly PretendedThread[];
  readonly #rings = new Map<number, RemoteRing>();

  constructor(options: Options) {
    const { indexes } = options;
    const count = 1 + indexes.length;
    const memory = NativeMemory.allocate(TurnGate.bytesFor(count));
    this.shared = SharedRegions.create(options.maxSlots);
    this.#gate = new TurnGate(memory, count, 0);
    this.#threads = indexes.map((index, i) => {
      const gate = new TurnGate(memory, count, 1 + i);
      const thread = new PretendedThread(index, gate, this.shared, options);
      this.#rings.set(index, new RemoteRing(index, thread));
      return thread;
    });
  }

  get isWanted(): boolean {
    return this.#gate.isWanted;
  }
  enter(): void {
    this.#gate.enter();
  }
  leave(): void {
    this.#gate.leave();
  }
  ringOf(index: number): RemoteRing | undefined {
    return this.#rings.get(index);
  }
  configure(features: RingFeatures, logCallFd: number): void {
    this.shared.publishNotes({ flags: flagsOf(features), fd: logCallFd });
    this.#gate.waitForOthers();
  }
  memoryChanged(): void {
    // They look at each turn.
  }
  waitForAll(): void {
    this.#gate.waitForOthers();
  }

  /** Lets each serve its ring. @returns milliseconds all may wait for events: 0 for no wait, −1 for ever */
  run(): number {
    return this.#threads.map((thread) => thread.run()).reduce(shorter, -1);
  }

  /** Lets each see its events. @returns how many there were */
  poll(): number {
    return this.#threads.reduce((sum, { loop }) => sum + loop.runOnce(0), 0);
  }

  /** Descriptors their loops watch. */
  get watched(): number {
    return this.#threads.reduce((sum, { loop }) => sum + loop.addCount, 0);
  }

  [Symbol.dispose](): void {
    for (const thread of this.#threads) thread[Symbol.dispose]();
  }
}

/** The shorter of two waits. */
export const shorter = (a: number, b: number): number => (a < 0 ? b : b < 0 ? a : Math.min(a, b));
