/** What a vring needs of the thread that serves it. */
import type { ReachableMemory } from '../guest-memory/reachable-memory.ts';
import type { Log } from '../log.ts';
import type { Chain } from '../virtio/chain.ts';
import type { Loop } from './kick-watch.ts';
import type { Vring } from './vring.ts';

/** Of the negotiated features, those that concern rings. */
export interface RingFeatures {
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  /** LOG_ALL was negotiated and there is a log. */
  readonly isLogging: boolean;
}

const EVENT_IDX = 1;
const INDIRECT = 2;
const LOGGING = 4;

/** Ring features as one number, for other threads. */
export const flagsOf = ({ eventIdx, indirect, isLogging }: RingFeatures): number =>
  (eventIdx ? EVENT_IDX : 0) | (indirect ? INDIRECT : 0) | (isLogging ? LOGGING : 0);

export const ringFeaturesOf = (flags: number): RingFeatures => ({
  eventIdx: (flags & EVENT_IDX) !== 0,
  indirect: (flags & INDIRECT) !== 0,
  isLogging: (flags & LOGGING) !== 0,
});

/** What the vrings of a thread share. */
export interface VringSurroundings {
  readonly memory: ReachableMemory;
  readonly loop: Loop;
  readonly log: Log;
  readonly maxQueueSize: number;
  readonly ringFeatures: RingFeatures;
  /** The ring may have become servable. */
  schedule(vring: Vring): void;
  /** Answers a chain that breaks the rules. @returns bytes written */
  reject(vring: Vring, chain: Chain): number;
  /** The ring is being stopped: completes its deferred chains. */
  drain(vring: Vring): void;
}
