/**
 * The queue threads of a share, as the device thread sees them: who serves which queue, and what all of them share.
 *
 * A thread is started when a front-end sets up the first of its rings. What is shared lies in native memory that lives
 * as long as the process: the gate, the memory table, the state of the mount.
 */
import { NativeMemory } from '../host/native-memory.ts';
import { TurnGate } from '../host/turn-gate.ts';
import { MOUNT_STATE_SIZE, MountState } from '../fuse/mount-state.ts';
import type { SharedMount } from '../fuse/server.ts';
import type { MemoryReaders } from '../guest-memory/guest-memory.ts';
import type { PassthroughHandover } from '../passthrough/passthrough-fs.ts';
import type { ReachableMemory } from '../guest-memory/reachable-memory.ts';
import { SharedRegions } from '../guest-memory/shared-regions.ts';
import type { QueueThreads } from '../vhost/queue-threads.ts';
import { RemoteRing } from '../vhost/remote-ring.ts';
import { flagsOf, type RingFeatures } from '../vhost/vring-surroundings.ts';
import { queuesOf } from './fs-device.ts';
import type { DaemonOptions } from './options.ts';
import { QueueThreadLink } from './queue-thread-link.ts';
import type { QueueThreadSetup } from './queue-thread-messages.ts';

const DEVICE_THREAD = 0;

export class DaemonQueueThreads implements QueueThreads, MemoryReaders, SharedMount, Disposable {
  readonly shared: SharedRegions;
  readonly gate: TurnGate;
  readonly state: MountState;
  readonly #links: readonly QueueThreadLink[];
  readonly #rings = new Map<number, RemoteRing>();

  /**
   * @param setup its `options.queueThreads` is above 0
   * @param share what `PassthroughFs.attach` takes
   * @param start starts a thread
   */
  constructor(
    { options, pulsesAddress }: { readonly options: DaemonOptions; readonly pulsesAddress: number },
    share: () => PassthroughHandover,
    start: (setup: QueueThreadSetup) => void,
  ) {
    const threads = 1 + options.queueThreads;
    const gateMemory = NativeMemory.allocate(TurnGate.bytesFor(threads));
    const mountMemory = NativeMemory.allocate(MOUNT_STATE_SIZE);
    this.shared = SharedRegions.create(options.maxMemSlots);
    this.gate = new TurnGate(gateMemory, threads, DEVICE_THREAD);
    this.state = new MountState(mountMemory);
    this.#links = Array.from({ length: options.queueThreads }, (_, i) => {
      const thread = 1 + i;
      const indexes = queuesOf(thread, options);
      const link = new QueueThreadLink(thread, indexes, this.gate, (end) =>
        start({
          options,
          share: share(),
          thread,
          threads,
          indexes,
          gateAddress: gateMemory.address,
          mountAddress: mountMemory.address,
          regionsAddress: this.shared.address,
          pulsesAddress,
          ...end,
        }),
      );
      for (const index of indexes) this.#rings.set(index, new RemoteRing(index, link));
      return link;
    });
  }

  get isWanted(): boolean {
    return this.gate.isWanted;
  }

  enter(): void {
    this.gate.enter();
  }

  leave(): void {
    this.gate.leave();
  }

  ringOf(index: number): RemoteRing | undefined {
    return this.#rings.get(index);
  }

  configure(features: RingFeatures, logCallFd: number): void {
    this.shared.publishNotes({ flags: flagsOf(features), fd: logCallFd });
    this.gate.waitForOthers();
    for (const link of this.#started()) link.nudge();
  }

  memoryChanged(memory: Pick<ReachableMemory, 'resolveUva'>): void {
    for (const link of this.#started())
      if (link.indexes.map((index) => this.#rings.get(index)!.hasMoved(memory)).some(Boolean)) link.nudge();
  }

  waitForAll(): void {
    this.gate.waitForOthers();
    for (const link of this.#started()) if (this.gate.isBusyThread(link.thread)) link.ask({ kind: 'settle' });
  }

  /** Ends the threads. All rings are closed. */
  [Symbol.dispose](): void {
    for (const link of this.#started()) link.ask({ kind: 'quit' });
    for (const link of this.#links) link[Symbol.dispose]();
  }

  #started(): readonly QueueThreadLink[] {
    return this.#links.filter((link) => link.isStarted);
  }
}
