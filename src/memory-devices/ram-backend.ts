/** Memory that a device can be made of: what QEMU calls a memory backend. */
import type { MemoryRegion } from '../memory/region.ts';
import type { MemoryTopology } from '../memory/topology.ts';
import type { RamBlock } from '../memory/ram-block.ts';

/** What the host does for memory that comes and goes. Whoever maps the memory implements it; offsets are inside the block. */
export interface BackingMemory {
  /** Gives the host's memory of this range back; it reads as zeros afterwards. @returns 0 or −errno */
  discard?(offset: number, size: number): number;
  /** Makes sure that the host has memory for this range. @returns 0 or −errno */
  preallocate?(offset: number, size: number): number;
}

export interface RamBackend {
  readonly id: string;
  /** All of it, as one RAM region. Mapped by one device at a time. */
  readonly region: MemoryRegion;
  readonly block: RamBlock;
  /** What addresses and sizes of devices made of it must be multiples of. */
  readonly alignment: bigint;
  readonly memory: BackingMemory;
}

export interface RamBackendOptions {
  readonly id: string;
  readonly size: bigint;
  /** Default 4096. */
  readonly pageSize?: number;
  /** Default: the page size. QEMU's anonymous memory has 2 MiB. */
  readonly alignment?: bigint;
  /** Default: as for a memfd that another process can map; see `RamBlock`. */
  readonly block?: Partial<Omit<RamBlock, 'id' | 'size' | 'pageSize'>>;
  readonly memory?: BackingMemory;
}

/** A memory backend with a RAM region of its own. */
export function createRamBackend(topology: MemoryTopology, options: RamBackendOptions): RamBackend {
  const { id, size, pageSize = 4096, alignment = BigInt(pageSize), memory = {} } = options;
  const block: RamBlock = { isMigratable: true, ...options.block, id, size, pageSize };
  return {
    id,
    region: topology.createRegion({ name: id, kind: 'ram', size, block }),
    block,
    alignment,
    memory,
  };
}
