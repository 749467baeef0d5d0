/** `vhost-user stress`: memory slots of a back-end, up to its limit and one beyond, under I/O. */
import { randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import type { BackendSource, StressBackend } from '../stress/backend.ts';
import { type CampaignOptions, runCampaign, runSequence } from '../stress/campaign.ts';
import { reportText, type StressReport } from '../stress/report.ts';
import { parseSequence, sequenceFile } from '../stress/sequence-file.ts';
import { assertOneBackend, type BackendChoice, parseBackendCommand } from './backend-command.ts';
import { Progress } from './progress.ts';
import { writeReport } from './report-file.ts';
import { type BackendCommand, SpawnedBackend } from './spawned-backend.ts';
import { standardOutput, type TextOutput } from './text-output.ts';

export interface StressOptions extends BackendChoice {
  /** Regions to use at most. */
  readonly slots?: number;
  readonly seed?: number;
  /** Of the storm, in seconds. */
  readonly time?: number;
  /** Changes of memory in the storm. Default 10,000, unless there is a time. */
  readonly operations?: number;
  readonly restarts?: number;
  /** How long an answer may take, in milliseconds. */
  readonly timeout?: number;
  /** How long a sequence is cut down, in seconds. */
  readonly shrinkTime?: number;
  /** Where the report goes, as JSON. */
  readonly report?: string;
  /** A sequence to be run again, instead of all else. */
  readonly replay?: string;
  /** Directory for the sequences that are found. Default: the current one. */
  readonly sequences?: string;
  readonly json?: boolean;
  /** Standard output unless told otherwise. */
  readonly output?: TextOutput;
}

const OPERATIONS = 10_000;

/**
 * @returns the exit status: 0 without a violation, 1 with one
 * @throws {ConfigError} if the back-end cannot be started or reached, or a file not be read or written
 */
export async function runStress(options: StressOptions): Promise<number> {
  const { output = standardOutput(), seed = randomInt(2 ** 31) } = options;
  assertOneBackend(options);
  const stop = { isAsked: false };
  const onSignal = (): void => void (stop.isAsked = true);
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    const report = await stressed({ ...options, seed }, () => stop.isAsked);
    for (const violation of report.violations) {
      if (options.replay !== undefined) break;
      violation.file = join(options.sequences ?? '.', `stress-${seed}-${violation.kind}.json`);
      await writeReport(sequenceFile(report, violation), violation.file);
    }
    if (options.report !== undefined) await writeReport(`${JSON.stringify(report)}\n`, options.report);
    output.write(options.json ? `${JSON.stringify(report)}\n` : reportText(report));
    return report.violations.length === 0 ? 0 : 1;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

async function stressed(
  options: StressOptions & { readonly seed: number },
  isStopped: () => boolean,
): Promise<StressReport> {
  const progress = new Progress(process.stderr);
  const { slots, restarts, timeout, shrinkTime, time } = options;
  const operations = options.operations ?? (time === undefined ? OPERATIONS : undefined);
  const campaign: CampaignOptions = {
    source: sourceOf(options),
    seed: options.seed,
    isStopped,
    onProgress: (phase, done, total) => progress.step(phase, done, total),
    ...(slots === undefined ? {} : { slots }),
    ...(restarts === undefined ? {} : { restarts }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
    ...(shrinkTime === undefined ? {} : { shrinkMs: shrinkTime * 1000 }),
    ...(operations === undefined ? {} : { operations }),
    ...(time === undefined ? {} : { timeMs: time * 1000 }),
  };
  if (options.replay === undefined) return runCampaign(campaign);
  const sequence = parseSequence(await readText(options.replay), options.replay);
  return runSequence({ ...campaign, shape: sequence.shape }, sequence.operations);
}

function sourceOf({ command, socket = '' }: BackendChoice): BackendSource {
  if (command === undefined)
    return { name: `socket ${socket}`, isFresh: false, start: () => Promise.resolve(foundAt(socket)) };
  const parsed = parseBackendCommand(command);
  return { name: command, isFresh: true, start: () => OwnedBackend.start(parsed) };
}

/** One that somebody else started. */
function foundAt(socket: string): StressBackend {
  return {
    connect: () => {
      const fd = connectUnix(socket);
      if (fd < 0) throw new ConfigError('SYSTEM', `--socket ${socket}: ${errnoName(-fd)}`);
      return new OwnedFd(fd);
    },
    lastWords: () => '',
    stop: () => Promise.resolve(),
  };
}

/** One that we start, and may kill. */
class OwnedBackend implements StressBackend {
  readonly #command: BackendCommand;
  /** Keeps the directory, whichever process serves it. */
  readonly #first: SpawnedBackend;
  #current: SpawnedBackend;

  private constructor(command: BackendCommand, first: SpawnedBackend) {
    this.#command = command;
    this.#first = first;
    this.#current = first;
  }

  static async start(command: BackendCommand): Promise<OwnedBackend> {
    try {
      return new OwnedBackend(command, await SpawnedBackend.start(command));
    } catch (cause) {
      if (!(cause instanceof Error)) throw cause;
      throw new ConfigError('SYSTEM', `--command: ${cause.message}`, { cause });
    }
  }

  get pid(): number {
    return this.#current.pid;
  }

  connect(): OwnedFd {
    return this.#current.connect();
  }

  async restart(): Promise<void> {
    await this.#current.kill();
    this.#current = await SpawnedBackend.start(this.#command, undefined, this.#first.shared);
  }

  lastWords(): string {
    const { ending, messages } = this.#current;
    const said = messages === '' ? '' : `said: ${messages.split('\n').at(-1)}`;
    return [ending, said].filter(Boolean).join(', ');
  }

  async stop(): Promise<void> {
    if (this.#current !== this.#first) await this.#current.stop();
    await this.#first.stop();
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new ConfigError('SYSTEM', `--replay ${file} cannot be read`, { cause });
  }
}
