/** The virtio-fs device: joins the vhost session, which knows rings, with the FUSE server, which knows requests. */
import { VirtioFsConfig, VIRTIO_FS_TAG_SIZE } from '../../protocol/virtio-fs.ts';
import type { FuseServer } from '../fuse/server.ts';
import type { Chain } from '../virtio/chain.ts';
import type { DaemonOptions } from './options.ts';
import type { CompleteChain, Completions, VhostDevice } from '../vhost/device.ts';

/** Queue 0 is hiprio (FORGET and INTERRUPT), the others carry requests. virtio spec § File System Device. */
const HIPRIO_QUEUE = 0;
const HIPRIO_QUEUES = 1;
const MAX_QUEUE_SIZE = 32768;

/** The queue thread that serves hiprio, too: on a thread of its own it would wake up for every few FORGETs. */
const HIPRIO_THREAD = 1;

/** Queues that a queue thread, numbered from 1, serves: request queues are dealt out in turn. */
export function queuesOf(
  thread: number,
  { requestQueues, queueThreads }: Pick<DaemonOptions, 'requestQueues' | 'queueThreads'>,
): readonly number[] {
  const queues = Array.from({ length: requestQueues }, (_, i) => HIPRIO_QUEUES + i);
  const own = queues.filter((_, i) => 1 + (i % queueThreads) === thread);
  return thread === HIPRIO_THREAD ? [HIPRIO_QUEUE, ...own] : own;
}

export class FsDevice implements VhostDevice {
  readonly features = 0n;
  readonly queueCount: number;
  readonly maxQueueSize = MAX_QUEUE_SIZE;
  readonly readConfig?: () => Uint8Array;
  readonly #server: FuseServer;

  /** @param tag offers a configuration space with this mount tag */
  constructor(server: FuseServer, requestQueues: number, tag: string | undefined) {
    this.#server = server;
    this.queueCount = HIPRIO_QUEUES + requestQueues;
    if (tag !== undefined) {
      const config = encodeConfig(tag, requestQueues);
      this.readConfig = () => config;
    }
  }

  handle(queueIndex: number, chain: Chain): number {
    return this.#server.handle(chain, queueIndex);
  }

  /** Nobody waits for a FORGET. */
  isWaitedFor(queueIndex: number): boolean {
    return queueIndex >= HIPRIO_QUEUES;
  }

  /** Reads of data that the host has not cached. */
  get completions(): Completions | undefined {
    return this.#server.inFlight;
  }

  reject(_queueIndex: number, chain: Chain): number {
    return this.#server.reject(chain);
  }

  retryDeferred(complete: CompleteChain): boolean {
    return this.#server.retryDeferred(complete);
  }

  upkeep(now: number): number {
    return this.#server.upkeep(now);
  }

  drain(queueIndex: number, complete: CompleteChain): void {
    this.#server.drain(queueIndex, complete);
  }

  reset(): void {
    this.#server.reset();
  }
}

function encodeConfig(tag: string, requestQueues: number): Uint8Array {
  const octets = new Uint8Array(VIRTIO_FS_TAG_SIZE);
  new TextEncoder().encodeInto(tag, octets);
  return VirtioFsConfig.encode({ tag: octets, numRequestQueues: requestQueues });
}
