/**
 * The virtio-fs daemon under test, on a new socket and, unless told otherwise, a new empty directory.
 *
 * `DAEMON='command with arguments'` in the environment runs the same tests against another daemon, such as
 * .cache/guest-kit/peers/run-rust.
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KIT, REPOSITORY } from './guest-kit.ts';
import { TestProcess, type ExitState } from './processes.ts';

const OVERRIDE = (process.env['DAEMON'] ?? '').split(/\s+/).filter((word) => word !== '');
const OURS = ['node', join(REPOSITORY, 'dist/src/cli/vhost-user-fs.js')];

export const isPeerDaemon = OVERRIDE.length > 0;

export interface DaemonOptions {
  /** Names the log, .cache/guest-runs/NAME.daemon.log. */
  readonly name: string;
  readonly sharedDir?: string;
  readonly flags?: readonly string[];
  readonly logLevel?: string;
}

export class Daemon {
  readonly socketPath: string;
  readonly sharedDir: string;
  readonly process: TestProcess;
  readonly #directory: string;

  private constructor(options: DaemonOptions) {
    this.#directory = mkdtempSync(join(tmpdir(), 'vhost-user-'));
    this.socketPath = join(this.#directory, 'fs.sock');
    this.sharedDir = options.sharedDir ?? mkdtempSync(join(this.#directory, 'share-'));
    const command = [
      ...(isPeerDaemon ? OVERRIDE : OURS),
      `--socket-path=${this.socketPath}`,
      `--shared-dir=${this.sharedDir}`,
      `--log-level=${options.logLevel ?? 'debug'}`,
      '--sandbox=none',
      '--seccomp=none',
      '--xattr',
      '--posix-acl',
      '--announce-submounts',
      '--allow-direct-io',
      ...(options.flags ?? []),
    ];
    this.process = new TestProcess(command, runLog(`${options.name}.daemon`));
  }

  static async start(options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(options);
    const end = Date.now() + 20_000;
    while (!isListening(daemon.socketPath)) {
      if (!daemon.process.isAlive || Date.now() > end) {
        await daemon.process.stop();
        throw new Error(`the daemon does not listen; its log:\n${daemon.process.log.slice(-4000)}`);
      }
      await sleep(20);
    }
    return daemon;
  }

  /** Bytes of guest memory it maps: every front-end of these tests hands out memfds. */
  mappedGuestMemory(): number {
    const ranges = this.#maps().filter((line) => line.includes('/memfd:'));
    return ranges.reduce((total, line) => total + sizeOfRange(line), 0);
  }

  mappings(): number {
    return this.#maps().length;
  }

  /** What its descriptors refer to, sorted; sockets and pipes without their numbers. */
  openFds(): string[] {
    const directory = `/proc/${this.process.pid}/fd`;
    return readdirSync(directory)
      .map((fd) => readlinkSync(join(directory, fd)).replace(/:\[\d+\]$/, ''))
      .sort();
  }

  /** How many lines of the log tell of that event. */
  countEvents(event: string): number {
    return this.process.log.split(`"${event}"`).length - 1;
  }

  /** Ends the daemon and removes its directory, socket and share included. */
  async close(): Promise<ExitState> {
    const state = await this.process.stop();
    rmSync(this.#directory, { recursive: true, force: true });
    return state;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #maps(): string[] {
    return readFileSync(`/proc/${this.process.pid}/maps`, 'utf8').trimEnd().split('\n');
  }
}

/** A socket is there once it is bound, and refuses who connects until it listens. proc(5). */
const ACCEPTS = '00010000';

function isListening(path: string): boolean {
  const sockets = readFileSync('/proc/net/unix', 'utf8').split('\n');
  return sockets.some((line) => line.endsWith(` ${path}`) && line.split(' ')[3] === ACCEPTS);
}

/** Where the output of a test's process goes; kept until the next run of the same test. */
export function runLog(name: string): string {
  return join(KIT, '..', 'guest-runs', `${name}.log`);
}

/** Of a line of /proc/PID/maps. */
function sizeOfRange(line: string): number {
  const [, start = '', end = ''] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
  return Number.parseInt(end, 16) - Number.parseInt(start, 16);
}
