/** The file system back-end as a process of its own, on a temporary directory. */
import { errnoName } from '../../protocol/errno.ts';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import { withPlaceholders } from './backend-command.ts';

const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5000;
/** Of what it wrote last, how much is told. */
const SAID_LINES = 3;

export interface BackendCommand {
  readonly program: string;
  /**
   * In them `{socket}` stands for where it shall listen and `{dir}` for the directory it shall serve. Without any
   * `{socket}`, `--socket-path` and `--shared-dir` follow.
   */
  readonly args: readonly string[];
}

/** Our own daemon, as built: it lies beside this file. */
const OWN_BACKEND: BackendCommand = {
  program: process.execPath,
  args: [fileURLToPath(new URL('./vhost-user-fs.js', import.meta.url)), '--log-level=error'],
};

export class SpawnedBackend {
  /** The directory it serves. */
  readonly shared: string;
  readonly socketPath: string;
  readonly #directory: string;
  readonly #child: ChildProcess;
  #messages = '';

  private constructor(command: BackendCommand, parent: string, shared: string | undefined) {
    this.#directory = mkdtempSync(join(parent, 'vhost-user-'));
    this.shared = shared ?? join(this.#directory, 'shared');
    this.socketPath = join(this.#directory, 'fs.sock');
    if (shared === undefined) mkdirSync(this.shared);
    const args = argumentsFor(command, this.socketPath, this.shared);
    this.#child = spawn(command.program, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      // A group of its own: a command such as npx starts the back-end as a child, and does not pass signals on.
      detached: true,
    });
    this.#child.stderr!.on(
      'data',
      (octets: Buffer) => (this.#messages = `${this.#messages}${octets.toString()}`.slice(-4000)),
    );
    this.#child.on('error', (error) => (this.#messages += String(error)));
  }

  /**
   * Starts it and waits until it listens.
   *
   * @param parent where its temporary directory goes
   * @param shared what it serves; otherwise a new, empty directory, which ends with it
   * @throws {Error} with what it wrote to stderr, if it ends instead
   */
  static async start(
    command: BackendCommand = OWN_BACKEND,
    parent = tmpdir(),
    shared?: string,
  ): Promise<SpawnedBackend> {
    const backend = new SpawnedBackend(command, parent, shared);
    try {
      await backend.#listening();
    } catch (error) {
      await backend.stop();
      throw error;
    }
    return backend;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Whether it has not ended, as far as this process has heard. */
  get isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** How it ended; undefined as long as it runs. */
  get ending(): string | undefined {
    const { exitCode, signalCode } = this.#child;
    if (this.#child.pid === undefined) return 'did not start';
    if (signalCode !== null) return `was ended by ${signalCode}`;
    return exitCode === null ? undefined : `ended with status ${exitCode}`;
  }

  /** How it ended, if it has, and the last lines it wrote to stderr; empty if there is nothing to tell. */
  lastWords(): string {
    const { ending, messages } = this;
    const said = messages === '' ? '' : `said: ${messages.split('\n').slice(-SAID_LINES).join(' | ')}`;
    return [ending, said].filter(Boolean).join(', ');
  }

  /** What it wrote to stderr last. */
  get messages(): string {
    return this.#messages.trim();
  }

  /** A connection to it. @throws {Error} if it does not listen any more */
  connect(): OwnedFd {
    const fd = connectUnix(this.socketPath);
    if (fd < 0) throw new Error(`connect to ${this.socketPath}: ${errnoName(-fd)}. ${this.messages}`);
    return new OwnedFd(fd);
  }

  /** Ends it without warning. What it served stays. */
  async kill(): Promise<void> {
    if (!this.isRunning) return;
    const exited = once(this.#child, 'exit');
    this.#signal('SIGKILL');
    await exited;
  }

  /** Ends it and removes its directory. @returns its exit status; undefined if a signal had to end it */
  async stop(): Promise<number | undefined> {
    const child = this.#child;
    if (this.isRunning) {
      const exited = once(child, 'exit');
      this.#signal('SIGTERM');
      const timer = setTimeout(() => this.#signal('SIGKILL'), STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(timer);
    }
    // What the command has started may have it open still; nobody listens any more.
    child.stderr?.destroy();
    rmSync(this.#directory, { recursive: true, force: true });
    return child.exitCode ?? undefined;
  }

  /** Signals the command and all it has started. */
  #signal(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch {
      this.#child.kill(signal); // the group has gone in the meantime
    }
  }

  /** Listening is seen in /proc: connecting to find out would use up the one connection some back-ends serve. */
  async #listening(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!listens(await readFile('/proc/net/unix', 'utf8'), this.socketPath)) {
      if (!this.isRunning) throw new Error(`the back-end ${this.ending ?? 'ended'}: ${this.messages}`);
      if (performance.now() > deadline) throw new Error(`the back-end does not listen: ${this.messages}`);
      await delay(5);
    }
  }
}

/** Flags of a socket in /proc/net/unix: it listens. Bound is not enough. */
const ACCEPTS_CONNECTIONS = 0x10000;

/** @param sockets what /proc/net/unix says; proc(5) */
function listens(sockets: string, path: string): boolean {
  return sockets.split('\n').some((line) => {
    if (!line.endsWith(` ${path}`)) return false;
    const [, , , flags = ''] = line.split(/\s+/);
    return (Number.parseInt(flags, 16) & ACCEPTS_CONNECTIONS) !== 0;
  });
}

const argumentsFor = (command: BackendCommand, socket: string, dir: string): readonly string[] =>
  withPlaceholders(command).args.map((argument) =>
    argument.replaceAll('{socket}', socket).replaceAll('{dir}', dir),
  );
