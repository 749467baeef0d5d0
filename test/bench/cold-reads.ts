/** Random reads of a file that is on a disk and not in the page cache. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { KiB, MiB } from '../../src/units.ts';
import { prepare, run, type Stream } from './generator.ts';
import { medians, ratios } from './measure.ts';
import { fillFile, type Peer, type PeerName, processorMicros } from './peer.ts';
import type { Figure } from './result.ts';
import { READ_FILE } from './rig.ts';
import { reads } from './workloads-data.ts';

export const DISK = resolve('.cache/bench-disk');
export const COLD_SIZE = 512 * MiB;
const ROUNDS = 5;
const CASES = [
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
        const measured = run([streams[i]!], ms / ROUNDS, 'interrupt');
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

/** dd's nocache flag is posix_fadvise(POSIX_FADV_DONTNEED) of the whole file. */
function dropCache({ backend }: Peer): void {
  const file = join(backend.shared, READ_FILE);
  execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}
