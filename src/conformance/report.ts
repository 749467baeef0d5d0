/** What a run found, as data: reports are made of it. */
import type { Level } from './case.ts';
import type { Verdict } from './verdict.ts';

export interface CaseResult {
  readonly id: string;
  readonly title: string;
  readonly level: Level;
  readonly spec: { readonly section: string; readonly says: string };
  readonly verdict: Verdict;
  readonly expected: string;
  /** What the back-end did; of a skipped case, why. */
  readonly seen: string;
  /** What was sent (`>`) and what came (`<`). */
  readonly trace: readonly string[];
  readonly ms: number;
}

export interface ConformanceReport {
  readonly backend: {
    readonly name: string;
    /** How it was started, or where it listened. */
    readonly from: string;
    readonly device: string;
    /** Hexadecimal. */
    readonly features: string;
    readonly protocolFeatures: string;
    readonly queues: number;
    readonly memSlots: number;
    /** It serves one connection after the other. */
    readonly reconnects: boolean;
  };
  readonly versions: {
    readonly backend: string;
    readonly suite: string;
    readonly node: string;
    readonly kernel: string;
  };
  /** ISO 8601. */
  readonly date: string;
  readonly ms: number;
  readonly cases: readonly CaseResult[];
}

export type Tally = { readonly [verdict in Verdict]: number };

export function tally(cases: readonly Pick<CaseResult, 'verdict' | 'level'>[], level?: Level): Tally {
  const count = { pass: 0, fail: 0, dead: 0, skip: 0 };
  for (const each of cases) if (level === undefined || each.level === level) count[each.verdict] += 1;
  return count;
}
