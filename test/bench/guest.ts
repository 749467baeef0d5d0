/**
 * Work in a real guest on two mounts, ours and Rust virtiofsd's, in turns: operations a second, and processor time of the
 * daemon for each.
 *
 *     npm run bench:guest [-- --rounds 6] [--seconds 2] [--queues 1] [--flags 'FLAG …'] [--only REGEXP] [--json FILE]
 *
 * --queues and --flags are for our daemon, --only names workloads.
 *
 * Needs the guest kit, virtiofsd, and fio on the host, whose root directory the guest sees. Software emulation makes the
 * guest slow, so operations a second differ less than the daemons do; processor time tells more. The mount that comes
 * first in the guest is up to a tenth slower, whosever it is, so half of the rounds are done in a guest with ours first,
 * half in one with virtiofsd's. Ends with status 1 if virtiofsd is faster in anything.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import { MiB } from '../../src/units.ts';
import { commandOf, fillFile, MEMORY, processorMicros } from './peer.ts';
import { median } from './result.ts';

const SIDES = ['ours', 'rust'] as const;
type Side = (typeof SIDES)[number];

/** One measurement: a workload on one mount in one round. */
interface Sample {
  readonly round: number;
  readonly workload: string;
  readonly side: Side;
  readonly perSecond: number;
  /** Microseconds of processor time the daemon took for each operation. */
  readonly cpu: number;
  /** Interrupts the guest took for each operation. */
  readonly interrupts: number;
}

interface Row {
  readonly workload: string;
  readonly perSecond: Readonly<Record<Side, number>>;
  readonly cpu: Readonly<Record<Side, number>>;
  readonly interrupts: Readonly<Record<Side, number>>;
  /** Medians of the ratios of rounds; more than 1 is better than virtiofsd. */
  readonly ratio: number;
  readonly cpuRatio: number;
}

/** What noise may take from a ratio before it counts as slower. */
const NOISE = 0.05;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '2' },
    queues: { type: 'string', default: '1' },
    flags: { type: 'string', default: '' },
    only: { type: 'string', default: '.' },
    json: { type: 'string' },
  },
});

async function main(): Promise<void> {
  const samples: Sample[] = [];
  for (const first of SIDES) samples.push(...(await measureWith(first)));
  const rows = rowsOf(samples);
  print(rows);
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ rows, samples }, undefined, 1)}\n`);
  if (rows.some(({ ratio }) => ratio < 1 - NOISE)) process.exitCode = 1;
}

/** In a guest of its own; virtiofsd ends with its guest, so the daemons are new, too. */
async function measureWith(first: Side): Promise<Sample[]> {
  const work = mkdtempSync(join(tmpdir(), 'bench-guest-'));
  const backends = {} as Record<Side | 'root', SpawnedBackend>;
  try {
    for (const side of SIDES) backends[side] = await startBackend(side);
    backends.root = await SpawnedBackend.start(commandOf('rust', ['--cache=always']), work, '/');
    return await measure(backends, first);
  } finally {
    for (const backend of Object.values(backends)) await backend.stop();
    rmSync(work, { recursive: true, force: true });
  }
}

/** Both with their defaults, on a directory in memory. */
async function startBackend(side: Side): Promise<SpawnedBackend> {
  const flags = [`--num-request-queues=${values.queues}`, ...words(values.flags)].filter(Boolean);
  const command = commandOf(side, side === 'ours' ? flags : []);
  if (command === undefined) throw new Error('no virtiofsd; test/support/guest-kit.sh peers unpacks one');
  const backend = await SpawnedBackend.start(command, MEMORY);
  mkdirSync(join(backend.shared, 'work'));
  fillFile(join(backend.shared, 'work/data'), 64 * MiB);
  return backend;
}

/** Boots the guest, and reads the daemons' processor time whenever it says that something begins or ends. */
async function measure(
  backends: Readonly<Record<Side | 'root', SpawnedBackend>>,
  first: Side,
): Promise<Sample[]> {
  const guest = bootGuest(backends, first);
  const samples: Sample[] = [];
  const began: { [workload: string]: number } = {};
  let round = 0;
  const tail: string[] = [];
  for await (const line of createInterface({ input: guest.stdout! })) {
    tail.push(line);
    const [, event, rest = ''] = /^@ (\w+) ?(.*?)\r?$/.exec(line) ?? [];
    if (event === 'round') round = Number(rest);
    if (event === 'begin') began[rest] = cpuOf(backends, rest);
    if (event === 'done') {
      const exited = once(guest, 'exit');
      guest.kill('SIGKILL'); // before the daemons, or QEMU complains of each
      await exited;
      return samples;
    }
    if (event !== 'end') continue;
    const [, what = '', operations = '', seconds = '', taken = ''] =
      /^(.*) (\S+) (\S+) (\S+)$/.exec(rest) ?? [];
    const [, workload = '', side = ''] = /^(.*) (\w+)$/.exec(what) ?? [];
    const cpu = (cpuOf(backends, what) - began[what]!) / Number(operations);
    const perSecond = Number(operations) / Number(seconds);
    const interrupts = Number(taken) / Number(operations);
    if (round > 0) samples.push({ round, workload, side: side as Side, perSecond, cpu, interrupts });
    process.stderr.write(
      `round ${round}: ${workload}, ${side}: ${perSecond.toFixed(0)}/s, ${cpu.toFixed(2)} us, ${interrupts.toFixed(2)} interrupts\n`,
    );
  }
  throw new Error(`the guest ended:\n${tail.slice(-20).join('\n')}`);
}

function cpuOf(backends: Readonly<Record<Side | 'root', SpawnedBackend>>, what: string): number {
  return processorMicros(backends[what.endsWith('ours') ? 'ours' : 'rust'].pid);
}

function bootGuest(backends: Readonly<Record<Side | 'root', SpawnedBackend>>, first: Side): ChildProcess {
  const second = first === 'ours' ? 'rust' : 'ours';
  const rounds = Math.max(1, Math.round(Number(values.rounds) / SIDES.length));
  const kit = execFileSync('sh', ['test/support/guest-kit.sh', 'path'], { encoding: 'utf8' }).trim();
  const script = [
    'export PATH=/usr/local/bin:/usr/bin:/bin',
    'mkdir /run/second; mount -t virtiofs second /run/second',
    `perl ${resolve('test/bench/guest-load.pl')} ${rounds} ${values.seconds} '${values.only}' ${first}=/mnt/work ${second}=/run/second/work`,
  ].join('\n');
  const append = [
    'console=ttyS0 quiet loglevel=3 rdinit=/init panic=-1 nowatchdog',
    `guest_shell=${Buffer.from(script).toString('base64')}`,
  ].join(' ');
  const queues = values.queues === '1' ? '' : `,num-request-queues=${values.queues}`;
  const device = (tag: string, side: Side | 'root'): string[] => [
    '-chardev',
    `socket,id=c-${tag},path=${backends[side].socketPath}`,
    '-device',
    `vhost-user-fs-pci,chardev=c-${tag},tag=${tag},queue-size=1024${side === 'ours' ? queues : ''}`,
  ];
  return spawn(
    'qemu-system-x86_64',
    [
      ...words(`-M q35,accel=tcg,memory-backend=mem0 -cpu max -smp 2 -m 2G -display none -nodefaults`),
      ...words(`-no-reboot -serial stdio -object memory-backend-memfd,id=mem0,size=2G,share=on`),
      ...words(`-kernel ${join(kit, 'vmlinuz')} -initrd ${join(kit, 'initrd')} -append`),
      append,
      ...device('share', first),
      ...device('second', second),
      ...device('root', 'root'),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
}

const words = (text: string): string[] => text.split(' ');

function rowsOf(samples: readonly Sample[]): Row[] {
  const workloads = [...new Set(samples.map(({ workload }) => workload))];
  return workloads.map((workload) => {
    const of = (side: Side): Sample[] =>
      samples.filter((sample) => sample.workload === workload && sample.side === side);
    const [ours, rust] = [of('ours'), of('rust')];
    return {
      workload,
      perSecond: { ours: median(ours.map(perSecond)), rust: median(rust.map(perSecond)) },
      cpu: { ours: median(ours.map(cpu)), rust: median(rust.map(cpu)) },
      interrupts: { ours: median(ours.map(interrupts)), rust: median(rust.map(interrupts)) },
      ratio: median(ours.map((sample, i) => sample.perSecond / rust[i]!.perSecond)),
      cpuRatio: median(ours.map((sample, i) => rust[i]!.cpu / sample.cpu)),
    };
  });
}

const perSecond = (sample: Sample): number => sample.perSecond;
const cpu = (sample: Sample): number => sample.cpu;
const interrupts = (sample: Sample): number => sample.interrupts;

function print(rows: readonly Row[]): void {
  console.log(
    'in a guest                  op/s ours    rust   ratio   CPU us/op ours   rust   ratio   interrupts/op ours  rust',
  );
  for (const { workload, perSecond: rate, cpu: cost, interrupts: taken, ratio, cpuRatio } of rows)
    console.log(
      [
        workload.padEnd(27),
        rate.ours.toFixed(0).padStart(9),
        rate.rust.toFixed(0).padStart(7),
        ratio.toFixed(2).padStart(7),
        cost.ours.toFixed(2).padStart(16),
        cost.rust.toFixed(2).padStart(6),
        cpuRatio.toFixed(2).padStart(7),
        taken.ours.toFixed(2).padStart(19),
        taken.rust.toFixed(2).padStart(6),
      ].join(' '),
    );
}

await main();
