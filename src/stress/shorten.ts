/** Finds the shortest sequence that shows a violation, by trying parts of a longer one on fresh back-ends. */
import { performance } from 'node:perf_hooks';
import type { BackendSource, StressBackend } from './backend.ts';
import { Figures } from './figures.ts';
import type { Operation } from './operation.ts';
import { Plan } from './plan.ts';
import { Random } from './random.ts';
import type { ViolationReport } from './report.ts';
import { StressRun } from './run.ts';
import { shrink } from './shrink.ts';
import type { StressMachineOptions } from './stress-machine.ts';
import { Violation, type ViolationKind } from './violation.ts';

export interface ShortenOptions {
  readonly source: BackendSource;
  readonly runOptions: (backend: StressBackend) => StressMachineOptions;
  readonly budgetMs: number;
  readonly isStopped?: () => boolean;
  /** Seconds of the budget. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Cuts the sequence of a violation down as far as the budget allows. */
export async function shorten(violation: ViolationReport, options: ShortenOptions): Promise<void> {
  const { budgetMs, isStopped = () => false, onProgress } = options;
  const began = performance.now();
  const spent = (): number => performance.now() - began;
  const shrunk = await shrink(
    violation.sequence,
    (sequence) => {
      onProgress?.(Math.floor(Math.min(budgetMs, spent()) / 1000), Math.ceil(budgetMs / 1000));
      return shows(violation.kind, sequence, options);
    },
    { isSpent: () => isStopped() || spent() > budgetMs },
  );
  violation.sequence = shrunk.items;
  violation.isShortest = shrunk.isMinimal;
  violation.tries = shrunk.tries;
}

/** Whether the same kind of violation comes of a sequence. */
async function shows(
  kind: ViolationKind,
  sequence: readonly Operation[],
  { source, runOptions }: ShortenOptions,
): Promise<boolean> {
  const backend = await source.start();
  try {
    using run = new StressRun(runOptions(backend), new Figures());
    for (const operation of sequence) if (await isShownBy(run, operation, kind)) return true;
    if (kind !== 'leak') return false;
    for (const operation of new Plan(run.model, new Random(0)).empty()) await run.apply(operation);
    await run.finish();
    return false;
  } catch (error) {
    if (error instanceof Violation) return error.kind === kind;
    throw error;
  } finally {
    await backend.stop();
  }
}

/** A harmless violation of another kind is passed over, as it was when the sequence was recorded. */
async function isShownBy(run: StressRun, operation: Operation, kind: ViolationKind): Promise<boolean> {
  try {
    await run.apply(operation);
    return false;
  } catch (error) {
    if (error instanceof Violation && error.isHarmless && error.kind !== kind) return false;
    throw error;
  }
}
