/** Measures one row on all peers, in turns, so that what else the machine does meets all of them alike. */
import { latencies, type Mode, ownCost, prepare, run, type Stream } from './generator.ts';
import { GuestQueue } from '../../src/machine/guest-queue.ts';
import { BenchMemory } from './bench-memory.ts';
import { BenchQueue } from './bench-queue.ts';
import { LANES, LINUX_LAYOUT } from './rig.ts';
import { type Peer, type PeerName, processorMicros } from './peer.ts';
import { type Figure, median } from './result.ts';
import type { Row } from './suite.ts';

/** Odd, and many: a neighbour that takes the processor for a while spoils few of them. */
const ROUNDS = 15;
const WARM_UP_MS = 250;
/** Until V8 has compiled what a request runs through: on a busy machine that takes longer than the time above. */
const WARM_UP_OPERATIONS = 20_000;
const WARM_UP_AT_MOST = 12;

type PerPeer = { [peer in PeerName]?: number[] };
type Medians = { [peer in PeerName]?: number };

/** Streams of a row on one peer, one for each of its queues, prepared. */
function streamsOf({ mount }: Peer, row: Row): Stream[] {
  return mount.rigs.map((rig) => {
    const stream = { queue: rig.queue, memory: rig.memory, workload: row.make(mount, rig) };
    prepare(stream);
    return stream;
  });
}

function warmUp(streams: readonly Stream[], mode: Mode): void {
  let operations = 0;
  for (let times = 0; times < WARM_UP_AT_MOST && operations < WARM_UP_OPERATIONS; times += 1)
    operations += run(streams, WARM_UP_MS, mode).operations;
}

/** Operations a second and processor time of each. @param ms time for each peer */
export function throughput(
  peers: readonly Peer[],
  row: Row,
  ms: number,
  mode: Mode,
  group: Figure['group'],
): Figure {
  const streams = peers.map((peer) => streamsOf(peer, row));
  for (const of of streams) warmUp(of, mode);
  const rates: PerPeer = {};
  const costs: PerPeer = {};
  for (let round = 0; round < ROUNDS; round += 1)
    peers.forEach(({ name, backend }, i) => {
      const before = processorMicros(backend.pid);
      const measured = run(streams[i]!, ms / ROUNDS, mode);
      (rates[name] ??= []).push((1000 * measured.operations) / measured.ms);
      (costs[name] ??= []).push((processorMicros(backend.pid) - before) / measured.operations);
    });
  return {
    group,
    name: row.name,
    unit: 'op/s',
    value: medians(rates),
    cpu: medians(costs),
    ratio: ratios(rates, (ours, theirs) => ours / theirs),
    cpuRatio: ratios(costs, (ours, theirs) => theirs / ours),
  };
}

/** Median latency of one request at a time. */
export function latency(peers: readonly Peer[], row: Row, ms: number, mode: Mode): Figure {
  const streams = peers.map((peer) => streamsOf(peer, row)[0]!);
  for (const stream of streams) latencies(stream, WARM_UP_MS, mode);
  const micros: PerPeer = {};
  for (let round = 0; round < ROUNDS; round += 1)
    peers.forEach(({ name }, i) => {
      const sorted = latencies(streams[i]!, ms / ROUNDS, mode);
      (micros[name] ??= []).push(sorted[sorted.length >> 1]!);
    });
  return {
    group: 'latency',
    name: `${row.name}, ${mode}`,
    unit: 'us, median',
    value: medians(micros),
    ratio: ratios(micros, (ours, theirs) => theirs / ours),
  };
}

/** Nanoseconds a request costs the generator alone, on a queue that no back-end knows. */
export function generatorCost({ mount }: Peer, row: Row): number {
  const { rigs, machine } = mount;
  const memory = new BenchMemory(machine.ram, LANES);
  using queue = new GuestQueue(machine.ram, { num: 256, eventIdx: true, indirectEntries: 8 });
  const rig = { ...rigs[0]!, memory, queue: new BenchQueue(memory, queue, LINUX_LAYOUT) };
  const stream = { queue: rig.queue, memory, workload: row.make(mount, rig) };
  prepare(stream);
  // The least of several: what else runs here is not the generator's.
  return Math.min(...Array.from({ length: 5 }, () => ownCost(stream, WARM_UP_MS / 5)));
}

export function medians(of: PerPeer): Medians {
  const result: Medians = {};
  for (const [name, values] of Object.entries(of)) result[name as PeerName] = median(values);
  return result;
}

/** Medians of the ratios of rounds. */
export function ratios(of: PerPeer, ratio: (ours: number, theirs: number) => number): Medians {
  const result: Medians = {};
  const { ours = [] } = of;
  for (const [name, values] of Object.entries(of))
    if (name !== 'ours')
      result[name as PeerName] = median(ours.map((value, round) => ratio(value, values[round]!)));
  return result;
}
