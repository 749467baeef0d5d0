/** Random reads of a file that is on a disk and not in the page cache. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { KiB, MiB } from '../../src/units.ts';
import { type Measured, prepare, run, type Stream } from './generator.ts';
import { medians, ratios } from './measure.ts';
import { fillFile, type Peer, type PeerName, processorMicros } from './peer.ts';
import type { Figure } from './result.ts';
import { READ_FILE } from './rig.ts';
import { reads } from './workloads-data.ts';

export const DISK = resolve('.cache/bench-disk');
export const COLD_SIZE = 512 * MiB;
const ROUNDS = 5;
/** Milliseconds of a piece, and how much of the file is read in pieces: the last one may go somewhat further. */
const PIECE_MS = 20;
const ONCE_PART = 0.8;

interface Access {
  readonly size: number;
  readonly depth: number;
  readonly isRandom: boolean;
}

const CASES: readonly (Access & { readonly name: string })[] = [
  { name: 'randread4k from disk', size: 4 * KiB, depth: 32, isRandom: true },
  { name: 'randread4k from disk, 1 in flight', size: 4 * KiB, depth: 1, isRandom: true },
  { name: 'seqread128k from disk', size: 128 * KiB, depth: 8, isRandom: false },
];

type Samples = { [peer in PeerName]?: number[] };

export function makeDisk(): string {
  mkdirSync(DISK, { recursive: true });
  return DISK;
}

/** Makes the file large enough that little of it is read twice. */
export function growFile({ backend }: Peer): void {
  fillFile(join(backend.shared, READ_FILE), COLD_SIZE);
  execFileSync('sync');
}

export function coldReads(peers: readonly Peer[], ms: number): Figure[] {
  return CASES.map(({ name, ...access }) => {
    const rates: Samples = {};
    const costs: Samples = {};
    const streams = peers.map(({ mount }): Stream => {
      const rig = mount.rigs[0]!;
      const stream = {
        queue: rig.queue,
        memory: rig.memory,
        workload: reads(rig, name, mount.readFile, { ...access, slots: 1, span: COLD_SIZE }),
      };
      prepare(stream);
      return stream;
    });
    for (let round = 0; round < ROUNDS; round += 1)
      peers.forEach((peer, i) => {
        dropCache(peer);
        const before = processorMicros(peer.backend.pid);
        const measured = runOnce(streams[i]!, ms / ROUNDS, access);
        (rates[peer.name] ??= []).push((1000 * measured.operations) / measured.ms);
        (costs[peer.name] ??= []).push((processorMicros(peer.backend.pid) - before) / measured.operations);
      });
    return {
      group: 'cold',
      name,
      unit: 'op/s',
      value: medians(rates),
      cpu: medians(costs),
      ratio: ratios(rates, (ours, theirs) => ours / theirs),
    };
  });
}

/** Runs for so long, but at most once through the file: from then on it is cached. */
function runOnce(stream: Stream, ms: number, { size, isRandom }: Access): Measured {
  if (isRandom) return run([stream], ms, 'interrupt');
  const most = (ONCE_PART * COLD_SIZE) / size;
  const sum = { operations: 0, ms: 0 };
  while (sum.ms < ms && sum.operations < most) {
    const measured = run([stream], PIECE_MS, 'interrupt');
    sum.operations += measured.operations;
    sum.ms += measured.ms;
  }
  return sum;
}

/** dd's nocache flag is posix_fadvise(POSIX_FADV_DONTNEED) of the whole file. */
function dropCache({ backend }: Peer): void {
  const file = join(backend.shared, READ_FILE);
  execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}
