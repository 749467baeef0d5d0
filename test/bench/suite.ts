/** What is measured: the rows of the table, each made for one mount. */
import { KiB, MiB } from '../../src/units.ts';
import type { Mode, Workload } from './generator.ts';
import { type BenchMount, FILE_SIZE, FIRST_SLOTS, type Rig, SLOTS } from './rig.ts';
import { Getattr, reads, writes } from './workloads-data.ts';
import { FileLives, Lookup, OpenRelease, ReadDirectory } from './workloads-names.ts';

/** One row. */
export interface Row {
  /** As it is called in the baseline: permanent. */
  readonly name: string;
  readonly make: (mount: BenchMount, rig: Rig) => Workload;
}

const read = (name: string, size: number, depth: number, isRandom: boolean, slots = 1): Row => ({
  name,
  make: (mount, rig) => reads(rig, name, mount.readFile, { size, depth, isRandom, slots, span: FILE_SIZE }),
});
const write = (name: string, size: number, depth: number, isRandom: boolean): Row => ({
  name,
  make: (mount, rig) =>
    writes(rig, name, mount.writeFile, { size, depth, isRandom, slots: 1, span: FILE_SIZE }),
});

const READDIRPLUS_SIZE = 4096;

export const RANDREAD = read('randread4k', 4 * KiB, 32, true);
export const GETATTR: Row = {
  name: 'getattr',
  make: (mount, rig) => new Getattr(rig, mount.readFile.nodeid, 32),
};
const LOOKUP: Row = { name: 'lookup', make: (_, rig) => new Lookup(rig, 32) };
const SEQREAD_128K = read('seqread128k', 128 * KiB, 8, false);
const SEQREAD_1M = read('seqread1m', MiB, 4, false);

/** One queue, many requests in flight. */
export const THROUGHPUT: readonly Row[] = [
  RANDREAD,
  write('randwrite4k', 4 * KiB, 32, true),
  SEQREAD_128K,
  SEQREAD_1M,
  write('seqwrite1m', MiB, 4, false),
  GETATTR,
  LOOKUP,
  {
    name: 'readdirplus',
    make: (mount, rig) => new ReadDirectory(rig, mount.directories, READDIRPLUS_SIZE),
  },
  { name: 'create+write+release+unlink', make: (_, rig) => new FileLives(rig, 8) },
  { name: 'open+release', make: (mount, rig) => new OpenRelease(rig, mount.readFile.nodeid, 32) },
];

/** One request at a time. */
export const LATENCY: readonly Row[] = [
  read('randread4k', 4 * KiB, 1, true),
  { name: 'getattr', make: (mount, rig) => new Getattr(rig, mount.readFile.nodeid, 1) },
  { name: 'lookup', make: (_, rig) => new Lookup(rig, 1) },
  { name: 'open+release', make: (mount, rig) => new OpenRelease(rig, mount.readFile.nodeid, 1) },
];

/** Two queues at once, against the one queue of those who have no more. */
export const TWO_QUEUES: readonly Row[] = [RANDREAD, LOOKUP, SEQREAD_128K, SEQREAD_1M];

/** With every memory slot there is in the table, and the buffers spread over all of them. */
export const MANY_SLOTS = (slots: number): Row =>
  read(`randread4k, ${slots + 1} slots`, 4 * KiB, 32, true, slots);

export const MODES: readonly Mode[] = ['polling', 'interrupt'];
export { FIRST_SLOTS, SLOTS };
