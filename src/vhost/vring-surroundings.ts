/** What a vring needs of its session. */
import type { GuestMemory } from '../guest-memory/guest-memory.ts';
import type { Log } from '../log.ts';
import type { Chain } from '../virtio/chain.ts';
import type { Loop } from './kick-watch.ts';
import type { Vring } from './vring.ts';

/** What all vrings of a session share. */
export interface VringSurroundings {
  readonly memory: GuestMemory;
  readonly loop: Loop;
  readonly log: Log;
  readonly maxQueueSize: number;
  /** Of the negotiated features, those that concern rings. */
  readonly ringFeatures: {
    readonly eventIdx: boolean;
    readonly indirect: boolean;
    readonly isLogging: boolean;
  };
  /** The ring may have become servable. */
  schedule(vring: Vring): void;
  /** Answers a chain that breaks the rules. @returns bytes written */
  reject(vring: Vring, chain: Chain): number;
}
