/** Finds the shortest sequence that shows a violation, by trying parts of a longer one on fresh back-ends. */
import { performance } from 'node:perf_hooks';
import { ConfigError } from '../errors.ts';
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
  const isSpent = (): boolean => isStopped() || spent() > budgetMs;
  const attempt = (sequence: readonly Operation[]): Promise<boolean> => {
    onProgress?.(Math.floor(Math.min(budgetMs, spent()) / 1000), Math.ceil(budgetMs / 1000));
    return shows(violation.kind, sequence, options);
  };
  const shrunk = await shrink(violation.sequence, attempt, { isSpent });
  violation.sequence = await withoutReads(shrunk.items, attempt, isSpent);
  violation.isShortest = shrunk.isMinimal;
  violation.tries = shrunk.tries;
}

/** Leaves out reads during changes where they have nothing to do with it. */
async function withoutReads(
  sequence: readonly Operation[],
  attempt: (sequence: readonly Operation[]) => Promise<boolean>,
  isSpent: () => boolean,
): Promise<readonly Operation[]> {
  let best = sequence;
  const plain = best.map(withoutDuring);
  if (plain.every((operation, at) => operation === best[at]) || isSpent()) return best;
  if (await attempt(plain)) return plain;
  for (const at of sequence.keys()) {
    for (const simpler of withFewerReads(best[at]!)) {
      if (isSpent()) return best;
      const list = best.with(at, simpler);
      if (!(await attempt(list))) continue;
      best = list;
      break;
    }
  }
  return best;
}

/** None, or else one of them. */
function withFewerReads(operation: Operation): readonly Operation[] {
  if (!('during' in operation) || operation.during === undefined) return [];
  const { during } = operation;
  const single = during.length === 1 ? [] : during.map((access) => ({ ...operation, during: [access] }));
  return [withoutDuring(operation), ...single];
}

function withoutDuring(operation: Operation): Operation {
  if (!('during' in operation)) return operation;
  const { during: _, ...plain } = operation;
  return plain;
}

/** Whether the same kind of violation comes of a sequence. */
async function shows(
  kind: ViolationKind,
  sequence: readonly Operation[],
  { source, runOptions }: ShortenOptions,
): Promise<boolean> {
  const backend = await startedBy(source);
  if (backend === undefined) return false;
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

/** @returns undefined if it does not start this time */
async function startedBy(source: BackendSource): Promise<StressBackend | undefined> {
  try {
    return await source.start();
  } catch (error) {
    if (error instanceof ConfigError) return undefined;
    throw error;
  }
}
