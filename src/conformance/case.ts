/** What a conformance case is: one sentence of a specification, and how to find out whether a back-end keeps it. */
import type { ProtocolFeatureName } from '../../protocol/vhost-user.ts';
import type { Rig } from './rig.ts';

/**
 * - `must`: the specification demands it, or a front-end that keeps the specification cannot work without it;
 * - `should`: the specification recommends it, or says what happens without a word of obligation;
 * - `robustness`: what the front-end or the guest sends is wrong, and the specification does not say what follows. A
 *   back-end that keeps serving is better than one that dies.
 */
export const LEVELS = ['must', 'should', 'robustness'] as const;
export type Level = (typeof LEVELS)[number];

/** Devices whose requests we can make; `any` is every other one. */
export const DEVICE_NAMES = ['fs', 'blk', 'any'] as const;
export type DeviceName = (typeof DEVICE_NAMES)[number];

/** What a back-end must have for a case to be run; otherwise it is skipped. */
export interface CaseNeeds {
  /** One of these devices: its requests are made. */
  readonly device?: readonly DeviceName[];
  /** Virtio feature bits it must offer. */
  readonly features?: readonly number[];
  /** Protocol features it must offer. */
  readonly protocolFeatures?: readonly ProtocolFeatureName[];
  /** Rings it must have. */
  readonly queues?: number;
  /** Memory slots it must have. */
  readonly memSlots?: number;
  /** Its process must be known, to look into /proc. */
  readonly process?: true;
  /** It must serve another connection after the first one has ended. */
  readonly reconnect?: true;
}

export interface ConformanceCase {
  /** Permanent: `memory.add.overlap`. The part before the first dot is its area. */
  readonly id: string;
  readonly title: string;
  readonly level: Level;
  readonly spec: {
    /** Document and section: `vhost-user § Ring states`, `virtio 1.2 § 2.7.5`. */
    readonly section: string;
    /** What it says there, in our words. */
    readonly says: string;
  };
  /** What a back-end does that keeps it. */
  readonly expected: string;
  readonly needs?: CaseNeeds;
  /**
   * Where a good request must be answered when the case is over: on the connection it used, if that is still there, or
   * on a new one because the specification lets the back-end give the old one up. The same unless said otherwise.
   */
  readonly aftermath?: 'same connection' | 'new connection';
  /**
   * Returns if the back-end did what is expected; otherwise throws what verdict.ts makes. Whatever it opens belongs to
   * the rig.
   */
  readonly run: (rig: Rig) => void;
}

export const areaOf = ({ id }: Pick<ConformanceCase, 'id'>): string => id.split('.')[0]!;
