/** A mount for benches: a machine joined to a back-end, files to work on, and the queues the generators drive. */
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import type { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { MiB } from '../../src/units.ts';
import { BenchMemory } from './bench-memory.ts';
import { BenchQueue, type QueueFeatures } from './bench-queue.ts';
import type { OpenFile } from './workloads-data.ts';
import { Forgets } from './workloads-names.ts';

export const READ_FILE = 'read.bin';
export const WRITE_FILE = 'write.bin';
export const FILE_SIZE = 64 * MiB;
export const NAMES = 10_000;
export const nameOf = (index: number): string => `name-${String(index).padStart(6, '0')}`;
export const SLOT_SIZE = 2 * MiB;
/** Slots beside the base region: 508, so that the table has 509. */
export const SLOTS = 508;
/** Slots that are plugged from the start: what the largest workload works in. */
export const FIRST_SLOTS = 4;

export const LANES = 32;
const FORGET_LANES = 64;
const BASE_SIZE = 32 * MiB;
const TABLE_ENTRIES = 8;
const O_RDWR = 2;

/** How requests are laid out: as Linux does by default. */
export interface Layout extends QueueFeatures {
  /** Header and arguments in one descriptor. */
  readonly isMerged: boolean;
}

export const LINUX_LAYOUT: Layout = { eventIdx: true, isIndirect: true, isMerged: false };

/** What the machine must be like for a layout. */
export const machineOptions = ({ isIndirect, eventIdx }: Layout, requestQueues = 1) => ({
  baseSize: BASE_SIZE,
  slotSize: SLOT_SIZE,
  slots: SLOTS,
  requestQueues,
  indirectEntries: isIndirect ? TABLE_ENTRIES : 0,
  eventIdx,
});

/** What a workload works on. */
export interface Rig {
  readonly machine: LoopbackMachine;
  readonly memory: BenchMemory;
  readonly queue: BenchQueue;
  readonly forgets: Forgets;
  readonly isMerged: boolean;
}

export class BenchMount implements Disposable {
  readonly machine: LoopbackMachine;
  /** One for each request queue. */
  readonly rigs: readonly Rig[];
  readonly readFile: OpenFile;
  readonly writeFile: OpenFile;
  /** Handles of the root directory. */
  readonly directories: readonly number[];

  /**
   * @param machine just started with `machineOptions`; owned from here on
   * @param wait gives a back-end in this thread its turn
   */
  constructor(machine: LoopbackMachine, layout: Layout, wait: () => void = () => undefined) {
    this.machine = machine;
    for (let slot = 0; slot < FIRST_SLOTS; slot += 1) this.machine.plug(slot);
    const client = new VirtioFsClient(this.machine);
    expectAnswer(client.init(), 'FUSE_INIT');
    const open = (name: string): OpenFile => {
      const { nodeid } = expectAnswer(client.lookup(ROOT, name), name);
      const { fh } = expectAnswer(client.open(nodeid, O_RDWR), name);
      return { nodeid: Number(nodeid), fh: Number(fh) };
    };
    this.readFile = open(READ_FILE);
    this.writeFile = open(WRITE_FILE);
    this.directories = Array.from({ length: 4 }, () =>
      Number(expectAnswer(client.opendir(ROOT), 'FUSE_OPENDIR').fh),
    );
    const { queues, ram } = machine;
    const { isMerged } = layout;
    const forgetMemory = new BenchMemory(ram, FORGET_LANES);
    const forgets = new Forgets(
      forgetMemory,
      new BenchQueue(forgetMemory, queues[0]!, layout),
      FORGET_LANES,
      wait,
    );
    this.rigs = queues.slice(1).map((queue) => {
      const memory = new BenchMemory(ram, LANES);
      return {
        machine: this.machine,
        memory,
        queue: new BenchQueue(memory, queue, layout),
        forgets,
        isMerged,
      };
    });
  }

  [Symbol.dispose](): void {
    this.machine.close();
  }
}

/** A small generator, the same numbers each time. */
export function randomNumbers(): () => number {
  let state = 0x9e37_79b9;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
