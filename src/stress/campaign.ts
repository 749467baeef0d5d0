/**
 * A whole stress run: its phases, each on a fresh back-end if there is a way to have one, and for each kind of violation
 * the shortest sequence that shows it.
 */
import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConfigError } from '../errors.ts';
import type { StressBackend } from './backend.ts';
import { type CampaignOptions, DEFAULT_SHAPE } from './campaign-options.ts';
import { Figures } from './figures.ts';
import type { Operation } from './operation.ts';
import { Plan } from './plan.ts';
import { Random } from './random.ts';
import type { LimitOutcome, PhaseReport, StressReport, ViolationReport } from './report.ts';
import { StressRun } from './run.ts';
import { shorten } from './shorten.ts';
import type { StressMachineOptions } from './stress-machine.ts';
import { Violation } from './violation.ts';

/** Operations that are remembered to be cut down. */
const HISTORY = 250_000;
const TURN_MS = 50;
/** So many operations of a storm without a change of memory: there is nothing to change, since the table has room for RAM only. */
const CALM = 1000;

type PlanOf = (plan: Plan) => Iterable<Operation>;

export async function runCampaign(options: CampaignOptions): Promise<StressReport> {
  const campaign = new Campaign(options);
  return campaign.run();
}

/** Does a recorded sequence on a fresh back-end. @returns the violations it shows */
export async function runSequence(
  options: CampaignOptions,
  operations: readonly Operation[],
): Promise<StressReport> {
  const campaign = new Campaign(options);
  return campaign.replay(operations);
}

class Campaign {
  readonly #options: CampaignOptions;
  readonly #figures = new Figures();
  readonly #phases: PhaseReport[] = [];
  readonly #violations: ViolationReport[] = [];
  #operations = 0;
  #advertised: number | undefined;
  #oneMore: LimitOutcome = 'not tested';
  #isProcessSeen = false;
  /** It shows its own progress. */
  #isStorming = false;

  constructor(options: CampaignOptions) {
    this.#options = options;
  }

  async run(): Promise<StressReport> {
    const { source, restarts = 4 } = this.#options;
    const limit: PlanOf = (plan) => plan.limit();
    const storm: PlanOf = (plan) => this.#budgeted(plan);
    if (source.isFresh) {
      await this.#phase('limit', [limit]);
      await this.#phase('storm', [storm]);
      if (restarts > 0) await this.#phase('restarts', [(plan) => plan.restarts(restarts)]);
    } else {
      // One connection may be all that this back-end serves.
      await this.#phase('limit and storm', [limit, storm]);
      this.#skip('restarts', 'the back-end is not ours to kill');
    }
    if (source.isFresh) await this.#shrinkAll();
    return this.#report();
  }

  async replay(operations: readonly Operation[]): Promise<StressReport> {
    await this.#phase('replay', [() => operations], []);
    return this.#report();
  }

  async #shrinkAll(): Promise<void> {
    const { source, shrinkMs = 30_000, isStopped, onProgress } = this.#options;
    for (const violation of this.#violations)
      await shorten(violation, {
        source,
        runOptions: (backend) => this.#runOptions(backend),
        budgetMs: shrinkMs,
        ...(isStopped === undefined ? {} : { isStopped }),
        onProgress: (done, total) => onProgress?.('looking for the shortest sequence', done, total),
      });
  }

  #runOptions(backend: StressBackend): StressMachineOptions {
    const { slots, timeoutMs = 5000, shape } = this.#options;
    const { device = 'fs', requestQueues = 1, crossesSlots = false } = this.#options;
    return {
      backend,
      shape: { ...DEFAULT_SHAPE, ...shape },
      timeoutMs,
      device,
      requestQueues,
      crossesSlots,
      ...(slots === undefined ? {} : { limit: slots }),
    };
  }

  #report(): StressReport {
    return {
      backend: this.#options.source.name,
      seed: this.#options.seed,
      phases: this.#phases,
      operations: this.#operations,
      violations: this.#violations,
      limits: {
        ...(this.#advertised === undefined ? {} : { advertised: this.#advertised }),
        reached: this.#figures.mostRegions,
        oneMore: this.#oneMore,
      },
      isProcessSeen: this.#isProcessSeen,
      figures: this.#figures,
    };
  }

  #skip(name: string, reason: string): void {
    this.#phases.push({ name, outcome: 'skipped', reason, operations: 0, changes: 0, milliseconds: 0 });
  }

  /** The storm, as long as the budget lasts. */
  *#budgeted(plan: Plan): Generator<Operation> {
    const { operations, timeMs = Infinity, onProgress } = this.#options;
    const began = performance.now();
    const before = this.#figures.changes;
    const most = operations ?? Infinity;
    this.#isStorming = true;
    let calm = 0;
    let last = 0;
    for (const operation of plan.storm()) {
      const done = this.#figures.changes - before;
      calm = done === last ? calm + 1 : 0;
      last = done;
      if (calm > CALM) break;
      const elapsed = performance.now() - began;
      if (done >= most || elapsed >= timeMs) break;
      if (most === Infinity) onProgress?.('storm', Math.floor(elapsed / 1000), Math.floor(timeMs / 1000));
      else onProgress?.('storm', done, most);
      yield operation;
    }
    onProgress?.('storm', 1, 1);
    this.#isStorming = false;
  }

  /** Runs plans one after the other on one back-end. */
  async #phase(name: string, plans: readonly PlanOf[], lead?: readonly Operation[]): Promise<void> {
    const began = performance.now();
    const { seed, isStopped = () => false } = this.#options;
    if (isStopped()) return this.#skip(name, 'stopped');
    const history: Operation[] = [];
    const changes = this.#figures.changes;
    const operations = this.#operations;
    let outcome: PhaseReport['outcome'] = 'passed';
    const violated = (error: unknown): boolean => {
      if (!(error instanceof Violation)) throw error;
      this.#note(error, name, this.#operations - operations, history);
      outcome = 'violated';
      return error.isHarmless;
    };
    const backend = await this.#started(violated);
    try {
      if (backend !== undefined) {
        using run = new StressRun(this.#runOptions(backend), this.#figures);
        this.#advertised ??= run.advertised;
        this.#isProcessSeen ||= run.seesProcess;
        const plan = new Plan(run.model, new Random(seed));
        const parts = [lead ?? plan.writeAll(), ...plans.map((part) => part(plan)), plan.empty()];
        const ending = await this.#perform(run, parts, { name, history, violated });
        if (ending === 'stopped' && outcome === 'passed') outcome = 'stopped';
        if (ending === 'done') await run.finish();
      }
    } catch (error) {
      violated(error);
    } finally {
      await backend?.stop();
    }
    this.#phases.push({
      name,
      outcome,
      operations: this.#operations - operations,
      changes: this.#figures.changes - changes,
      milliseconds: Math.round(performance.now() - began),
    });
    return undefined;
  }

  /** @returns undefined if it does not start, though it did before */
  async #started(violated: (error: unknown) => boolean): Promise<StressBackend | undefined> {
    try {
      return await this.#options.source.start();
    } catch (error) {
      if (this.#phases.length === 0 || !(error instanceof ConfigError)) throw error;
      violated(new Violation('restart', error.message, { cause: error }));
      return undefined;
    }
  }

  /** @returns how it ended: `broken`, there is nothing to go on with */
  async #perform(
    run: StressRun,
    parts: readonly Iterable<Operation>[],
    phase: {
      readonly name: string;
      readonly history: Operation[];
      readonly violated: (error: unknown) => boolean;
    },
  ): Promise<'done' | 'stopped' | 'broken'> {
    const { isStopped = () => false, onProgress } = this.#options;
    const { name, history } = phase;
    const total = run.model.shape.chunks + 6 * run.model.shape.slots;
    let turn = performance.now();
    for (const part of parts) {
      for (const operation of part) {
        if (performance.now() - turn > TURN_MS) {
          await nextTurn();
          turn = performance.now();
          if (isStopped()) return 'stopped';
          if (!this.#isStorming) onProgress?.(name, Math.min(history.length, total - 1), total);
        }
        try {
          if (!(await run.apply(operation))) continue;
          this.#operations += 1;
          if (operation.op === 'beyond') this.#oneMore = 'refused';
          remember(history, operation);
        } catch (error) {
          this.#operations += 1;
          remember(history, operation);
          if (operation.op === 'beyond') this.#oneMore = oneMoreAfter(error);
          if (!phase.violated(error)) return 'broken';
        }
      }
    }
    onProgress?.(name, total, total);
    return 'done';
  }

  /** The first of each kind is kept, with what led to it. */
  #note({ kind, message }: Violation, phase: string, operation: number, history: readonly Operation[]): void {
    const known = this.#violations.find((each) => each.kind === kind && each.phase === phase);
    if (known !== undefined) {
      known.times += 1;
      return;
    }
    this.#violations.push({
      kind,
      text: message,
      phase,
      operation,
      times: 1,
      sequence: [...history],
      isShortest: false,
      tries: 0,
    });
  }
}

function oneMoreAfter(error: unknown): LimitOutcome {
  if (!(error instanceof Violation)) return 'not tested';
  return error.kind === 'limit' ? 'accepted' : 'died';
}

function remember(history: Operation[], operation: Operation): void {
  history.push(operation);
  if (history.length > HISTORY * 2) history.splice(0, HISTORY);
}
