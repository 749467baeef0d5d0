/** Back-ends to be measured: which there are, how they are started and pinned, and what processor time they take. */
import { execFileSync } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { type BackendCommand, SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { MiB } from '../../src/units.ts';
import {
  BenchMount,
  FILE_SIZE,
  type Layout,
  machineOptions,
  NAMES,
  nameOf,
  READ_FILE,
  WRITE_FILE,
} from './rig.ts';

export type PeerName = 'ours' | 'rust' | 'c';

/** A back-end, and a machine that has mounted what it serves. */
export interface Peer {
  readonly name: PeerName;
  readonly backend: SpawnedBackend;
  readonly mount: BenchMount;
}

const TASKSET = '/usr/bin/taskset';
/** Asked before anything is pinned: afterwards the answer is another one. */
const PROCESSORS = availableParallelism();
const canPin = PROCESSORS > 1 && isProgram(TASKSET);

/** Where the share is: memory, or a directory on a disk. */
export const MEMORY = isProgram('/dev/shm') ? '/dev/shm' : '/tmp';

/** The C daemon names the shared directory otherwise, and knows fewer flags. */
const C_ARGUMENTS =
  'program=$1; shift; for a; do shift; set -- "$@" "$(echo "$a" | sed s/^--shared-dir=/-osource=/)"; done; exec "$program" "$@"';

/** @returns undefined if it is not installed */
export function commandOf(name: PeerName, more: readonly string[] = []): BackendCommand | undefined {
  if (name === 'ours')
    return {
      program: process.execPath,
      args: [resolve('dist/src/cli/vhost-user-fs.js'), '--log-level=error', ...more],
    };
  const program =
    name === 'rust'
      ? findVirtiofsd()
      : ['.cache/guest-kit/peers/run-c'].map((path) => resolve(path)).find(isProgram);
  if (program === undefined) return undefined;
  if (name === 'rust')
    return { program, args: ['--sandbox=none', '--seccomp=none', '--log-level=error', ...more] };
  return { program: '/bin/sh', args: ['-c', C_ARGUMENTS, 'sh', program, '-f', '-olog_level=err', ...more] };
}

interface Place {
  /** A directory with the files of all workloads; without it the back-end gets one of its own. */
  readonly shared?: string | undefined;
  /** Where that is. */
  readonly parent?: string | undefined;
}

/** Starts a back-end on a directory with the files of all workloads. */
export async function startPeer(
  name: PeerName,
  command: BackendCommand,
  requestQueues: number,
  layout: Layout,
  { shared, parent = MEMORY }: Place = {},
): Promise<Peer> {
  const backend = await SpawnedBackend.start(command, parent, shared);
  if (shared === undefined) fillShare(backend.shared);
  try {
    const socket = backend.socketPath;
    const machine = LoopbackMachine.start({ socket, ...machineOptions(layout, requestQueues) });
    return { name, backend, mount: new BenchMount(machine, layout) };
  } catch (error) {
    await backend.stop();
    throw error;
  }
}

export async function stopPeers(peers: readonly Peer[]): Promise<void> {
  for (const { mount } of peers) mount[Symbol.dispose]();
  for (const { backend } of peers) await backend.stop();
}

/** Makes the files of all workloads. */
export function fillShare(directory: string): void {
  for (const file of [READ_FILE, WRITE_FILE]) fillFile(join(directory, file), FILE_SIZE);
  for (let i = 0; i < NAMES; i += 1) writeFileSync(join(directory, nameOf(i)), '');
}

export function fillFile(path: string, size: number): void {
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(MiB, 'vhost-user ');
  for (let at = 0; at < size; at += block.length) writeSync(fd, block);
  closeSync(fd);
}

/** Back-ends on the first processor, this process on the others; or both wherever the kernel likes. */
export function pin(peers: readonly Peer[], isApart: boolean): void {
  if (!canPin) return;
  const last = PROCESSORS - 1;
  const set = (pid: number, list: string): void => {
    execFileSync(TASKSET, ['-acp', list, String(pid)], { stdio: 'ignore' });
  };
  set(process.pid, isApart ? `1-${last}` : `0-${last}`);
  for (const { backend } of peers)
    for (const pid of familyOf(backend.pid)) set(pid, isApart ? '0' : `0-${last}`);
}

/** Processor time of all threads of a back-end so far, in microseconds; of the processes it has started, too. */
export function processorMicros(pid: number): number {
  let nanos = 0;
  for (const process of familyOf(pid))
    for (const task of readdirSync(`/proc/${process}/task`))
      nanos += Number(readFileSync(`/proc/${process}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return nanos / 1000;
}

/** A process and those it has started: the C daemon serves in a child. */
function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  return [pid, ...children.flatMap((child) => familyOf(Number(child)))];
}

function findVirtiofsd(): string | undefined {
  const named = process.env['VIRTIOFSD'];
  const inPath = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((directory) => join(directory, 'virtiofsd'));
  const places = [...inPath, '/usr/libexec/virtiofsd', resolve('.cache/guest-kit/peers/run-rust')];
  return [...(named === undefined ? [] : [named]), ...places].find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
