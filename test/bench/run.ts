/**
 * `npm run bench [-- SECONDS]`: our back-end against Rust virtiofsd, when that is installed.
 *
 * Both run at once, each with its own mount, and take turns: what is printed are medians of paired ratios, above 1 where
 * ours is better. On a machine with other work the ratio of processor time says more than that of operations.
 * VIRTIOFSD names the other back-end; otherwise it is looked for in PATH and where Debian and our guest kit put it.
 */
import { execFileSync } from 'node:child_process';
import {
  accessSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
  closeSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { type BackendCommand, SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import { MiB } from '../../src/units.ts';
import type { Workload } from './load.ts';
import { FILE, FILE_SIZE, Mount, nameOf, NAMES } from './workloads.ts';

const SLOT_SIZE = 2 * MiB;
const SLOTS = 508; // and the base region
const SLOT_COUNTS = [1, 8, 32, 128, 509];
const SLOT_ROUNDS = 100;
const ROUNDS = 5;
const WARM_UP_MS = 300;

interface Peer {
  readonly name: string;
  readonly backend: SpawnedBackend;
  readonly mount: Mount;
}

const TASKSET = '/usr/bin/taskset';
const canPin = availableParallelism() > 1 && isProgram(TASKSET);
const roundMs = (1000 * Number(process.argv[2] ?? 3)) / ROUNDS;
const peers: Peer[] = [];

async function main(): Promise<void> {
  if (canPin)
    execFileSync(TASKSET, ['-acp', `1-${availableParallelism() - 1}`, String(process.pid)], {
      stdio: 'ignore',
    });
  try {
    peers.push(await start('ours', ownCommand()));
    const other = findVirtiofsd();
    if (other === undefined) console.log('no virtiofsd found (VIRTIOFSD, PATH): our own figures only');
    else
      peers.push(
        await start(other, pinned(other, ['--sandbox=none', '--seccomp=none', '--log-level=error'])),
      );
    benchSlots();
    benchRequests();
  } finally {
    for (const { mount } of peers) mount[Symbol.dispose]();
    for (const { backend } of peers) await backend.stop();
  }
}

/** ADD_MEM_REG and REM_MEM_REG with so many slots in the table. Leaves all slots plugged. */
function benchSlots(): void {
  print(['slots', 'add us', 'rem us', 'add ratio', 'rem ratio']);
  let plugged = 0;
  for (const count of SLOT_COUNTS) {
    const last = count - 2; // one is the base region
    for (; plugged < last; plugged += 1) for (const { mount } of peers) mount.machine.plug(plugged);
    const figures = peers.map(() => ({ add: [] as number[], remove: [] as number[] }));
    for (let round = 0; round < SLOT_ROUNDS; round += 1) {
      peers.forEach(({ mount: { machine } }, i) => {
        const slot = Math.max(last, 0);
        figures[i]!.add.push(timed(() => machine.plug(slot)));
        figures[i]!.remove.push(timed(() => machine.unplug(slot)));
      });
    }
    const [ours, theirs] = figures.map(({ add, remove }) => ({ add: median(add), remove: median(remove) }));
    print([
      String(count),
      figure(ours!.add),
      figure(ours!.remove),
      ...(theirs === undefined ? [] : [ratio(theirs.add / ours!.add), ratio(theirs.remove / ours!.remove)]),
    ]);
  }
  for (; plugged < SLOTS; plugged += 1) for (const { mount } of peers) mount.machine.plug(plugged);
  console.log();
}

function benchRequests(): void {
  print(['workload', 'op/s', 'us cpu/op', 'op ratio', 'cpu ratio']);
  const kinds: readonly ((mount: Mount) => Workload)[] = [
    (mount) => mount.randomRead(1),
    (mount) => mount.randomRead(SLOTS),
    (mount) => mount.getattr(),
    (mount) => mount.lookup(),
    (mount) => mount.openRelease(),
    (mount) => mount.sequentialRead(),
  ];
  for (const kind of kinds) {
    const workloads = peers.map(({ mount }) => kind(mount));
    peers.forEach(({ mount }, i) => mount.load.run(workloads[i]!, WARM_UP_MS));
    const rates = peers.map(() => [] as number[]);
    const costs = peers.map(() => [] as number[]);
    for (let round = 0; round < ROUNDS; round += 1) {
      peers.forEach(({ mount, backend }, i) => {
        const before = processorMicros(backend.pid);
        const { operations, ms } = mount.load.run(workloads[i]!, roundMs);
        rates[i]!.push((1000 * operations) / ms);
        costs[i]!.push((processorMicros(backend.pid) - before) / operations);
      });
    }
    const paired = (values: readonly number[][], of: (ours: number, theirs: number) => number): string =>
      ratio(median(values[0]!.map((ours, round) => of(ours, values[1]![round]!))));
    print([
      workloads[0]!.name,
      median(rates[0]!).toFixed(0),
      figure(median(costs[0]!)),
      ...(peers.length < 2
        ? []
        : [paired(rates, (ours, theirs) => ours / theirs), paired(costs, (ours, theirs) => theirs / ours)]),
    ]);
  }
}

async function start(name: string, command: BackendCommand): Promise<Peer> {
  const backend = await SpawnedBackend.start(command, tmpfs());
  const fd = openSync(join(backend.shared, FILE), 'w');
  const block = Buffer.alloc(MiB, 'vhost-user ');
  for (let at = 0; at < FILE_SIZE; at += block.length) writeSync(fd, block);
  closeSync(fd);
  for (let i = 0; i < NAMES; i += 1) writeFileSync(join(backend.shared, nameOf(i)), '');
  return { name, backend, mount: new Mount(backend.socketPath, SLOTS, SLOT_SIZE) };
}

const ownCommand = (): BackendCommand =>
  pinned(process.execPath, [resolve('dist/src/cli/vhost-user-fs.js'), '--log-level=error']);

/** Back-ends run on the first processor, we on the others. */
const pinned = (program: string, args: readonly string[]): BackendCommand =>
  canPin ? { program: TASKSET, args: ['-c', '0', program, ...args] } : { program, args };

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

function tmpfs(): string {
  return isProgram('/dev/shm') ? '/dev/shm' : '/tmp';
}

/** Processor time of all threads of a process so far, in microseconds. */
function processorMicros(pid: number): number {
  let nanos = 0;
  for (const task of readdirSync(`/proc/${pid}/task`))
    nanos += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return nanos / 1000;
}

/** @returns microseconds */
function timed(action: () => void): number {
  const began = performance.now();
  action();
  return 1000 * (performance.now() - began);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

function print(columns: readonly string[]): void {
  console.log(columns.map((text, i) => (i === 0 ? text.padEnd(24) : text.padStart(11))).join(''));
}

const figure = (value: number): string => value.toFixed(value < 10 ? 2 : 1);
const ratio = (value: number): string => value.toFixed(2);

await main();
