/** A back-end started by a command, and started again whenever it has ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import { MiB } from '../units.ts';
import { type BackendUnderTest, BackendGone } from './backend.ts';

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 500;
const LOOK_MS = 3;
/** The disk a block device may serve: `{dir}/disk.img`. */
const DISK_SIZE = 4 * MiB;

export interface ProcessOptions {
  /** Words of the command; `{socket}` and `{dir}` are replaced in each. No shell sees them. */
  readonly command: readonly string[];
  readonly name: string;
}

export class BackendProcess implements BackendUnderTest {
  readonly name: string;
  readonly canRestart = true;
  readonly #command: readonly string[];
  readonly #directory = mkdtempSync(join(tmpdir(), 'conform-'));
  #child: ChildProcess | undefined;
  #socketPath = '';
  #serving: number | undefined;
  #starts = 0;
  #messages = '';

  constructor({ command, name }: ProcessOptions) {
    this.#command = command;
    this.name = name;
    const shared = join(this.#directory, 'dir');
    mkdirSync(shared);
    writeFileSync(join(shared, 'hello'), 'hello\n');
    writeFileSync(join(shared, 'disk.img'), '');
    truncateSync(join(shared, 'disk.img'), DISK_SIZE);
  }

  /** The process that serves: the command's, or one it has started. */
  get pid(): number | undefined {
    const pid = this.#child?.pid;
    if (pid === undefined) return undefined;
    // Later it may have closed the socket it listened on.
    this.#serving = servingProcess(pid, this.#socketPath) ?? this.#serving ?? pid;
    return this.#serving;
  }

  get messages(): string {
    return this.#messages;
  }

  connect(isOneShot = false): OwnedFd {
    const endsAt = isOneShot ? performance.now() + STOP_TIMEOUT_MS : 0;
    while (performance.now() < endsAt && this.ending() === undefined) sleep(LOOK_MS);
    if (this.#child === undefined || this.ending() !== undefined) this.#start();
    const fd = connectUnix(this.#socketPath);
    if (fd < 0) throw new BackendGone(`connect to the back-end: ${errnoName(-fd)}`);
    return new OwnedFd(fd);
  }

  ending(): string | undefined {
    const child = this.#child;
    if (child === undefined) return 'it was not started';
    if (child.pid === undefined) return 'it could not be started';
    if (child.signalCode !== null) return `signal ${child.signalCode}`;
    if (child.exitCode !== null) return `exit status ${child.exitCode}`;
    return endingInProc(child.pid);
  }

  async restart(): Promise<void> {
    await this.#stop();
    this.#start();
  }

  async close(): Promise<void> {
    await this.#stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Waits until it listens. */
  #start(): void {
    this.#starts += 1;
    this.#messages = '';
    this.#socketPath = join(this.#directory, `${this.#starts}.sock`);
    const [program = '', ...args] = this.#command.map((word) =>
      word.replaceAll('{socket}', this.#socketPath).replaceAll('{dir}', join(this.#directory, 'dir')),
    );
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    this.#serving = undefined;
    child.on('error', () => undefined); // seen from its pid
    child.stderr.on('data', (octets: Buffer) => {
      if (this.#child === child) this.#messages = `${this.#messages}${octets.toString()}`.slice(-4000);
    });
    if (child.pid === undefined) throw new ConfigError('SYSTEM', `${program} cannot be started`);
    const endsAt = performance.now() + START_TIMEOUT_MS;
    while (!isListening(this.#socketPath)) {
      const ending = this.ending();
      if (ending !== undefined) throw new BackendGone(`the back-end ended before it listened: ${ending}`);
      if (performance.now() > endsAt)
        throw new BackendGone(`the back-end does not listen after ${START_TIMEOUT_MS} ms`);
      sleep(LOOK_MS);
    }
  }

  async #stop(): Promise<void> {
    const child = this.#child;
    const serving = this.pid;
    this.#child = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    // A script does not pass signals on.
    if (serving !== undefined && serving !== child.pid) process.kill(serving, 'SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }
}

/** Connecting to find out would use up the one connection some back-ends serve. */
const isListening = (path: string): boolean => listeningInode(path) !== undefined;

/** proc(5): the fourth field are flags, 0x10000 for a socket that listens; the seventh is the inode. */
function listeningInode(path: string): string | undefined {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n');
  const sockets = lines.filter((line) => line.endsWith(` ${path}`)).map((line) => line.split(/\s+/));
  return sockets.find((fields) => fields[3] === '00010000')?.[6];
}

/** The descendant furthest down that holds the socket: commands are scripts, and sandboxes fork. */
function servingProcess(pid: number, path: string): number | undefined {
  try {
    for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')) {
      const found = child === '' ? undefined : servingProcess(Number(child), path);
      if (found !== undefined) return found;
    }
    const inode = listeningInode(path);
    const links = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    return inode !== undefined && links.includes(`socket:[${inode}]`) ? pid : undefined;
  } catch {
    return undefined; // it has ended, or is not ours to look into
  }
}

/** Of a process whose end the event loop has not seen yet: Node looks only when our synchronous work is done. */
function endingInProc(pid: number): string | undefined {
  let stat;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return 'it is gone';
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] !== 'Z' && fields[0] !== 'X') return undefined;
  const code = Number(fields.at(-1)); // proc_pid_stat(5): exit_code, as waitpid's status
  return (code & 0x7f) === 0 ? `exit status ${code >> 8}` : `signal ${code & 0x7f}`;
}

const clock = new Int32Array(new SharedArrayBuffer(4));
const sleep = (ms: number): void => void Atomics.wait(clock, 0, 0, ms);
