/** A small machine for tests of memory devices, and listeners that write down what they hear. */
import type { MemoryListener, MemorySection } from '../../src/memory/listener.ts';
import type { RamDiscardListener } from '../../src/memory/ram-discard.ts';
import { PcMemory, type PcMemoryOptions } from '../../src/memory-devices/pc-memory.ts';
import {
  createRamBackend,
  type BackingMemory,
  type RamBackend,
} from '../../src/memory-devices/ram-backend.ts';
import { GiB, MiB } from '../../src/units.ts';

/** Where device memory begins with 512 MiB of RAM. */
export const WINDOW = 4 * GiB;

export const pc = (space: number, options: Partial<PcMemoryOptions> = {}): PcMemory =>
  new PcMemory({ ram: [BigInt(512 * MiB)], maxmem: BigInt(512 * MiB + space), ...options });

let count = 0;
export const backend = (machine: PcMemory, size: number, memory: BackingMemory = {}): RamBackend =>
  createRamBackend(machine.topology, {
    id: `mem${(count += 1)}`,
    size: BigInt(size),
    block: { fd: 0 },
    memory,
  });

/** The code of the error that `attempt` throws; undefined if it throws none. */
export function codeOf(attempt: () => unknown): string | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** `add 0x100000000+0x40000000`: what a listener of guest memory hears, RAM only. */
export function recordSections(machine: PcMemory): string[] {
  const heard: string[] = [];
  const note =
    (verb: string) =>
    ({ region, offsetWithinAddressSpace, size }: MemorySection): void => {
      if (region.isRam)
        heard.push(`${verb} 0x${offsetWithinAddressSpace.toString(16)}+0x${size.toString(16)}`);
    };
  const listener: MemoryListener = { regionAdd: note('add'), regionDel: note('del') };
  machine.space.addListener(listener);
  heard.length = 0;
  return heard;
}

/** A discard listener that writes down what it hears, and objects to populations that `objects` names by number. */
export function recordDiscards(
  heard: string[],
  options: { readonly name?: string; readonly objectsTo?: number; readonly hasAll?: boolean } = {},
): RamDiscardListener {
  const { name = '', objectsTo = -1, hasAll = false } = options;
  let populations = 0;
  const note = (verb: string, { offsetWithinRegion, size }: MemorySection): void => {
    heard.push(`${name}${verb} ${Number(offsetWithinRegion) / MiB}+${Number(size) / MiB}`);
  };
  const listener: RamDiscardListener = {
    populate(section) {
      populations += 1;
      if (populations - 1 === objectsTo) {
        note('object', section);
        return -12;
      }
      note('populate', section);
      return 0;
    },
    discard: (section) => {
      note('discard', section);
    },
  };
  return hasAll ? { ...listener, discardAll: (section) => note('all', section) } : listener;
}
