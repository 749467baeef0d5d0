/** What a stress run is told to do. */
import { GiB, KiB, MiB } from '../units.ts';
import type { BackendSource } from './backend.ts';
import type { StressShape } from './operation.ts';
import type { StoreKind } from './store.ts';

export interface CampaignOptions {
  readonly source: BackendSource;
  readonly seed: number;
  /** Changes of memory in the storm. */
  readonly operations?: number;
  /** How long the storm lasts, in milliseconds. Without either: until `isStopped`. */
  readonly timeMs?: number;
  /** Regions to use at most, of those the back-end says it has. */
  readonly slots?: number;
  /** How often the back-end is killed and started again. Default 4. */
  readonly restarts?: number;
  /** How long an answer may take. Default 5 s. */
  readonly timeoutMs?: number;
  /** How long a sequence is cut down. Default 30 s. */
  readonly shrinkMs?: number;
  readonly shape?: Partial<StressShape>;
  /** What the back-end is. Default `fs`. */
  readonly device?: StoreKind;
  /** Queues that carry requests. Default 1. */
  readonly requestQueues?: number;
  /** Whether buffers may begin in one slot and end in the next. */
  readonly crossesSlots?: boolean;
  readonly onProgress?: (phase: string, done: number, total: number) => void;
  readonly isStopped?: () => boolean;
}

export const DEFAULT_SHAPE: StressShape = {
  slots: 1024,
  slotSize: 2 * MiB,
  dimms: 4,
  dimmSize: 16 * MiB,
  vmems: 2,
  vmemSize: 4 * GiB,
  vmemUnit: 128 * MiB,
  chunks: 64,
  chunkSize: 8 * KiB,
};
