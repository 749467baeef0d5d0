/** Other threads that serve some of a device's queues, as the session sees them. */
import type { ReachableMemory } from '../guest-memory/reachable-memory.ts';
import type { RingControl } from './ring-control.ts';
import type { RingFeatures } from './vring-surroundings.ts';

export interface QueueThreads {
  /** The session's own thread serves its rings between `enter` and `leave`, so that the others know when it does not. */
  enter(): void;
  leave(): void;
  /** One of them waits for the session's thread to leave. */
  readonly isWanted: boolean;
  /** The ring of a queue that one of them serves; undefined for a queue of the session's own thread. */
  ringOf(index: number): RingControl | undefined;
  /**
   * Features were negotiated, or the dirty log was switched. Holds for everything that is served after this returns.
   *
   * @param logCallFd signalled after pages were marked dirty, or −1; the one before is not used any more
   */
  configure(features: RingFeatures, logCallFd: number): void;
  /** The memory table has changed: rings may have lost their memory or got it back. Waits for nobody. */
  memoryChanged(memory: Pick<ReachableMemory, 'resolveUva'>): void;
}
