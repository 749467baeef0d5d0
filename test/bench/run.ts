/**
 * `npm run bench -- [OPTIONS]`: our back-end against Rust virtiofsd and C virtiofsd 7.2, when those are installed
 * (`test/support/guest-kit.sh peers`; VIRTIOFSD names another one).
 *
 *   --seconds N       for each row and back-end, default 3
 *   --only REGEX      rows whose "group: name" matches
 *   --layout WORDS    how requests lie in the ring: any of direct, merged, flags (no event_idx); as Linux has it by default
 *   --json FILE       the result, machine-readable
 *   --check           status 1 if processor time per request is more than 10 % above the baseline
 *   --write-baseline  stores the result as baseline
 *   --write-docs      makes docs/performance.md and docs/bench.svg
 *   --redraw          runs nothing: makes docs/bench.svg from docs/performance.md
 *
 * All run at once, on the same files, and take turns: a ratio is the median of those of neighbouring turns, above
 * 1 where ours is better. On a machine with other work processor time per request says more than operations a second.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { BackendCommand } from '../../src/cli/spawned-backend.ts';
import { coldReads, growFile, makeDisk } from './cold-reads.ts';
import { generatorCost, latency, throughput } from './measure.ts';
import { commandOf, fillShare, MEMORY, type Peer, type PeerName, pin, startPeer, stopPeers } from './peer.ts';
import { svg } from './picture.ts';
import { markdown } from './report.ts';
import { type Baseline, baselineOf, type Figure, regressions, type Result } from './result.ts';
import { type Layout, SLOTS } from './rig.ts';
import { slotTimes } from './slot-times.ts';
import { startTimes } from './start-times.ts';
import { GETATTR, LATENCY, MANY_SLOTS, MODES, RANDREAD, type Row, THROUGHPUT, TWO_QUEUES } from './suite.ts';

const BASELINE = 'test/bench/baseline.json';
const NOTES = 'test/bench/notes.md';
const PAGE = 'docs/performance.md';
const PICTURE = 'docs/bench.svg';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    layout: { type: 'string', default: '' },
    json: { type: 'string' },
    check: { type: 'boolean', default: false },
    'write-baseline': { type: 'boolean', default: false },
    'write-docs': { type: 'boolean', default: false },
    redraw: { type: 'boolean', default: false },
  },
});
const seconds = Number(options.seconds);
const ms = 1000 * seconds;
const only = new RegExp(options.only);
const layout: Layout = {
  eventIdx: !options.layout.includes('flags'),
  isIndirect: !options.layout.includes('direct'),
  isMerged: options.layout.includes('merged'),
};
const figures: Figure[] = [];
const commands = new Map<PeerName, BackendCommand>();
for (const name of ['ours', 'rust', 'c'] as const) {
  const command = commandOf(name);
  if (command !== undefined) commands.set(name, command);
}

const isWanted = (group: Figure['group'], name: string): boolean => only.test(`${group}: ${name}`);

async function main(): Promise<void> {
  if (!commands.has('rust'))
    console.log('no Rust virtiofsd found (VIRTIOFSD, PATH, guest kit): no ratios to it');
  await oneQueue();
  await twoQueues();
  await cold();
  if (isWanted('start', 'start')) for (const figure of await startTimes(commands)) add(figure);
  finish();
}

/** All but what needs back-ends of its own. */
async function oneQueue(): Promise<void> {
  const wanted = (group: Figure['group'], rows: readonly Row[]): Row[] =>
    rows.filter(({ name }) => isWanted(group, name));
  const manySlots = MANY_SLOTS(SLOTS);
  const polling = wanted('throughput', THROUGHPUT);
  const interrupt = wanted('interrupt', THROUGHPUT);
  const latencies = MODES.flatMap((mode) =>
    LATENCY.filter(({ name }) => isWanted('latency', `${name}, ${mode}`)).map((row) => ({ row, mode })),
  );
  const hasSlots = isWanted('memory slots', manySlots.name);
  if (polling.length + interrupt.length + latencies.length === 0 && !hasSlots) return;
  await withPeers(1, async (peers) => {
    pin(peers, true);
    const costs = [GETATTR, RANDREAD].map((row) => ({
      name: row.name,
      nanos: generatorCost(peers[0]!, row),
    }));
    for (const { name, nanos } of costs)
      console.log(
        `the generator alone: ${name} ${nanos.toFixed(0)} ns, up to ${(1e3 / nanos).toFixed(1)} M op/s`,
      );
    for (const row of polling) {
      const figure = throughput(peers, row, ms, 'polling', 'throughput');
      const nanos = costs.find(({ name }) => name === row.name)?.nanos;
      add(nanos === undefined ? figure : { ...figure, generatorLoad: nanos * 1e-9 * figure.value.ours! });
    }
    for (const row of interrupt) add(throughput(peers, row, ms, 'interrupt', 'interrupt'));
    for (const { row, mode } of latencies) add(latency(peers, row, ms, mode));
    if (!hasSlots) return;
    for (const figure of slotTimes(peers)) add(figure);
    const able = peers.filter(({ mount }) => mount.machine.slotLimit > SLOTS);
    add(throughput(able, manySlots, ms, 'polling', 'memory slots'));
  });
}

/** Ours with two queues, against the one of the others: they have no more. */
async function twoQueues(): Promise<void> {
  const rows = TWO_QUEUES.filter(({ name }) => isWanted('two queues', name));
  if (rows.length === 0) return;
  await withPeers(2, async (peers) => {
    pin(peers, false);
    for (const row of rows) add(throughput(peers, row, ms, 'interrupt', 'two queues'));
  });
}

async function cold(): Promise<void> {
  if (!isWanted('cold', 'randread4k from disk')) return;
  await withPeers(
    1,
    async (peers) => {
      pin(peers, true);
      for (const peer of peers) growFile(peer);
      for (const figure of coldReads(peers, ms)) add(figure);
    },
    makeDisk(),
  );
}

/**
 * @param queues request queues of ours
 * @param disk where each has a copy of the files; without it all serve one directory in memory, so that where its pages lie
 *   means the same to all
 */
async function withPeers(
  queues: number,
  use: (peers: readonly Peer[]) => Promise<void>,
  disk?: string,
): Promise<void> {
  const shared = disk === undefined ? mkdtempSync(join(MEMORY, 'bench-')) : undefined;
  const peers: Peer[] = [];
  try {
    if (shared !== undefined) fillShare(shared);
    for (const [name, command] of commands) {
      const isOurs = name === 'ours';
      const more =
        isOurs && queues > 1 ? (commandOf('ours', [`--num-request-queues=${queues}`]) ?? command) : command;
      peers.push(await startPeer(name, more, isOurs ? queues : 1, layout, { parent: disk, shared }));
    }
    await use(peers);
  } finally {
    try {
      await stopPeers(peers);
    } finally {
      if (shared !== undefined) rmSync(shared, { recursive: true, force: true });
    }
  }
}

function add(figure: Figure): void {
  if (figures.length === 0)
    print([
      '',
      'ours',
      ...others().map((name) => `× ${name}`),
      'us cpu',
      ...others().map((name) => `cpu × ${name}`),
      'generator',
    ]);
  figures.push(figure);
  const ratioOf = (of: Figure['ratio'] | undefined): string[] =>
    others().map((name) => of?.[name]?.toFixed(2) ?? '');
  const { group, name, value, cpu, ratio, cpuRatio, generatorLoad } = figure;
  print([
    `${group}: ${name}`,
    value.ours === undefined ? '' : value.ours.toFixed(value.ours < 100 ? 1 : 0),
    ...ratioOf(ratio),
    cpu?.ours?.toFixed(2) ?? '',
    ...ratioOf(cpuRatio),
    generatorLoad === undefined ? '' : `${Math.round(100 * generatorLoad)} %`,
  ]);
}

const others = (): PeerName[] => [...commands.keys()].filter((name) => name !== 'ours');

function print(columns: readonly string[]): void {
  console.log(columns.map((text, i) => (i === 0 ? text.padEnd(44) : text.padStart(11))).join(''));
}

function finish(): void {
  const result: Result = {
    when: new Date().toISOString(),
    node: process.versions.node,
    kernel: release(),
    processors: cpus().length,
    seconds,
    peers: [...commands.keys()],
    figures,
  };
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  if (options.json !== undefined) writeFileSync(options.json, json(result));
  if (options['write-baseline']) writeFileSync(BASELINE, json(baselineOf(result)));
  if (options['write-docs']) {
    mkdirSync('docs', { recursive: true });
    writeFileSync(PAGE, markdown(result, readFileSync(NOTES, 'utf8')));
    redraw();
  }
  if (!options.check) return;
  const found = regressions(result, JSON.parse(readFileSync(BASELINE, 'utf8')) as Baseline);
  for (const text of found) console.error(text);
  process.exitCode = found.length > 0 ? 1 : 0;
}

function redraw(): void {
  writeFileSync(PICTURE, svg(readFileSync(PAGE, 'utf8')));
}

if (options.redraw) redraw();
else await main();
