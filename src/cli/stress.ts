/** `vhost-user stress`: memory slots of a back-end, up to its limit and one beyond, under I/O. */
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import type { BackendSource, StressBackend } from '../stress/backend.ts';
import { type CampaignOptions, DEFAULT_SHAPE } from '../stress/campaign-options.ts';
import { runCampaign, runSequence } from '../stress/campaign.ts';
import { reportText, type StressReport } from '../stress/report.ts';
import { parseSequence, sequenceFile } from '../stress/sequence-file.ts';
import type { StoreKind } from '../stress/store.ts';
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
  /** What the back-end is. */
  readonly device?: StoreKind;
  /** The disk of a back-end that somebody else has started may be overwritten. */
  readonly overwrite?: boolean;
  readonly requestQueues?: number;
  /** Whether buffers may begin in one slot and end in the next. */
  readonly crossing?: boolean;
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
/** In the directory of a block device: what its command is to serve. */
const DISK = 'disk.img';
/** What it was called before. */
const OLDER_DISK = 'disk';
const DISK_SIZE = DEFAULT_SHAPE.chunks * DEFAULT_SHAPE.chunkSize;

/**
 * @returns the exit status: 0 without a violation, 1 with one
 * @throws {ConfigError} if the back-end cannot be started or reached, or a file not be read or written
 */
export async function runStress(options: StressOptions): Promise<number> {
  const { output = standardOutput(), seed = randomInt(2 ** 31) } = options;
  assertOneBackend(options);
  assertMayWrite(options);
  const stop = { isAsked: false };
  const onSignal = (): void => void (stop.isAsked = true);
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal); // the second one is obeyed at once
  try {
    const report = await stressed({ ...options, seed }, () => stop.isAsked);
    for (const violation of report.violations) {
      if (options.replay !== undefined) break;
      const name = `stress-${seed}-${violation.phase}-${violation.kind}.json`;
      violation.file = join(options.sequences ?? '.', name.replaceAll(' ', '-'));
      violation.again = replayCommand(options, violation.file);
      await writeReport(sequenceFile(report, violation), violation.file);
    }
    if (options.report !== undefined) await writeReport(`${JSON.stringify(report)}\n`, options.report);
    output.write(options.json ? `${JSON.stringify(report)}\n` : reportText(report));
    return report.violations.length === 0 ? 0 : 1;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** @throws {ConfigError} BAD_OPTION if it is somebody's disk and they have not said that it may be written */
function assertMayWrite({ socket, device, overwrite = false }: StressOptions): void {
  if (socket === undefined || device !== 'blk' || overwrite) return;
  throw new ConfigError(
    'BAD_OPTION',
    `--device blk --socket ${socket}: the first ${DISK_SIZE} bytes of that disk would be overwritten; --overwrite allows it`,
  );
}

/** What a shell takes: the same back-end, and nothing that does not matter to a sequence. */
function replayCommand(options: StressOptions, file: string): string {
  const { command, socket = '', device = 'fs', requestQueues = 1, crossing = false, overwrite } = options;
  const words = ['vhost-user', 'stress', '--replay', file];
  words.push(...(command === undefined ? ['--socket', socket] : ['--command', command]));
  if (device !== 'fs') words.push('--device', device);
  if (requestQueues !== 1) words.push('--request-queues', String(requestQueues));
  if (crossing) words.push('--crossing');
  if (overwrite) words.push('--overwrite');
  return words.map(quoted).join(' ');
}

const quoted = (word: string): string =>
  /^[\w./:=,+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

async function stressed(
  options: StressOptions & { readonly seed: number },
  isStopped: () => boolean,
): Promise<StressReport> {
  const progress = new Progress(process.stderr);
  const {
    slots,
    restarts,
    timeout,
    shrinkTime,
    time,
    device = 'fs',
    requestQueues = 1,
    crossing = false,
  } = options;
  const operations = options.operations ?? (time === undefined ? OPERATIONS : undefined);
  const campaign: CampaignOptions = {
    source: sourceOf(options),
    seed: options.seed,
    device,
    requestQueues,
    crossesSlots: crossing,
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

function sourceOf({ command, socket = '', device }: StressOptions): BackendSource {
  if (command === undefined)
    return { name: `socket ${socket}`, isFresh: false, start: () => Promise.resolve(foundAt(socket)) };
  const parsed = parseBackendCommand(command);
  return { name: command, isFresh: true, start: () => OwnedBackend.start(parsed, device === 'blk') };
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
  /** What it serves, whichever process does. */
  readonly #directory: string;
  #current: SpawnedBackend | undefined;

  private constructor(command: BackendCommand, hasDisk: boolean) {
    this.#command = command;
    this.#directory = mkdtempSync(join(tmpdir(), 'vhost-user-stress-'));
    if (!hasDisk) return;
    writeFileSync(join(this.#directory, DISK), new Uint8Array(DISK_SIZE));
    symlinkSync(DISK, join(this.#directory, OLDER_DISK));
  }

  static async start(command: BackendCommand, hasDisk: boolean): Promise<OwnedBackend> {
    const backend = new OwnedBackend(command, hasDisk);
    try {
      await backend.#start();
      return backend;
    } catch (cause) {
      await backend.stop();
      if (!(cause instanceof Error)) throw cause;
      throw new ConfigError('SYSTEM', `--command: ${cause.message}`, { cause });
    }
  }

  get pid(): number | undefined {
    return this.#current?.pid;
  }

  connect(): OwnedFd {
    if (this.#current === undefined) throw new TypeError('the back-end was not started');
    return this.#current.connect();
  }

  async restart(): Promise<void> {
    await this.#current?.kill();
    await this.#current?.stop();
    await this.#start();
  }

  lastWords(): string {
    return this.#current?.lastWords() ?? '';
  }

  async stop(): Promise<void> {
    await this.#current?.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #start(): Promise<void> {
    this.#current = await SpawnedBackend.start(this.#command, undefined, this.#directory);
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new ConfigError('SYSTEM', `--replay ${file} cannot be read`, { cause });
  }
}
