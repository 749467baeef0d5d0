/** What `run.ts` and its workers tell each other. */
import type { Outcome } from './workshop.ts';

/** Instead of a mutant's id: the original. */
export const BASELINE = 'the original';

export interface Job {
  /** Of a mutant, or BASELINE; without one the worker ends. */
  readonly id?: string;
}

export interface JobResult {
  readonly outcome?: Outcome;
  /** Cases that the original fails. */
  readonly failures?: readonly string[];
  readonly error?: string;
}
