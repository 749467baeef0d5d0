/** What a device is to the session that serves it: chains in, octets written out. It knows neither rings nor messages. */
import type { Chain } from '../virtio/chain.ts';

/** Answer of `VhostDevice.handle`: the device keeps the chain and completes it later. */
export const DEFERRED = -1;

/**
 * Gives a deferred chain back.
 *
 * @param head `Chain.head` of the chain
 * @param written bytes written into its writable segments, from the first on
 */
export type CompleteChain = (queueIndex: number, head: number, written: number) => void;

/** Deferred chains that the kernel works on, and how it says that it has finished some. */
export interface Completions {
  /** An eventfd that is signalled when some may be finished. Watched by edges, never read. Lent. */
  readonly fd: number;
  /** How many there are, of all queues. A driver may offer one chain several times: each counts. */
  readonly count: number;
  /** Lets the kernel begin what was deferred since. Called at the end of each turn of a ring. */
  submit(): void;
  /** Completes what is finished. Called at each turn while chains are deferred, so it costs little when nothing is. */
  run(complete: CompleteChain): void;
  /**
   * Waits for all, and completes them. After it the kernel does not touch guest memory for the device any more; called
   * before regions go out of the memory table.
   */
  settle(complete: CompleteChain): void;
}

export interface VhostDevice {
  /** Device feature bits; ring and transport bits are the session's. */
  readonly features: bigint;
  /** Queues, numbered from 0. At most 256: that is how many SET_VRING_KICK can name. */
  readonly queueCount: number;
  /** Entries a queue may have: a power of two, at most 32768. */
  readonly maxQueueSize: number;
  /**
   * Whether a driver waits for the answers of this queue, so that looking out for its next request may pay. Of all queues, for a device without this function.
   */
  isWaitedFor?(queueIndex: number): boolean;
  /** The device's configuration space. Without it VHOST_USER_PROTOCOL_F_CONFIG is not offered. */
  readConfig?(): Uint8Array;
  /**
   * Serves one chain. The object is reused for the next one: a device that defers copies what it needs, and translates
   * addresses again from `Chain.gpa` before it uses them later, because the memory table may have changed.
   *
   * @returns ≥ 0: bytes written, from the first writable byte on, and the chain is done; or DEFERRED
   * @throws {GuestError} only for what the whole ring should fail on
   */
  handle(queueIndex: number, chain: Chain): number;
  /**
   * Answers a chain that breaks the rules of the ring: see `Chain.fault`. Only sound segments are in it.
   *
   * @returns bytes written; a device without this function writes none
   */
  reject?(queueIndex: number, chain: Chain): number;
  /**
   * Completes what has become possible. Called every few milliseconds while chains are deferred.
   *
   * @returns true if some want to be tried again
   */
  retryDeferred?(complete: CompleteChain): boolean;
  /**
   * What can be put off until there is nothing else to do: called before the thread sleeps, and now and then while it
   * does not.
   *
   * @param now milliseconds of the machine's monotonic clock
   * @returns milliseconds after which to call again even if no request has come; −1 for not before one has
   */
  upkeep?(now: number): number;
  /** For a device that hands work to the kernel and goes on meanwhile. */
  readonly completions?: Completions | undefined;
  /** The queue is being stopped: every deferred chain of it must be completed before this returns. */
  drain?(queueIndex: number, complete: CompleteChain): void;
  /** RESET_DEVICE, or the front-end has gone: back to the first state. All queues are stopped and drained. */
  reset(): void;
}
