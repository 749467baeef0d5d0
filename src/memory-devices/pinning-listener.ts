/**
 * A user of guest memory that pins all it can reach, as VFIO does for a device that is passed through: RAM that has holes is pinned only
 * where it is populated.
 *
 * It keeps account and nothing else. It proves the discard contract: what is pinned is at any time what is plugged.
 */
import type { MemoryListener, MemorySection } from '../memory/listener.ts';
import type { RamDiscardListener, RamDiscardManager } from '../memory/ram-discard.ts';

const ENOSPC = 28;

export interface PinningOptions {
  /** How many mappings there may be; one more is refused. Default: any number. */
  readonly maxMappings?: number;
}

/** A section with a discard manager, and what listens to it. */
interface Watched {
  readonly manager: RamDiscardManager;
  readonly listener: RamDiscardListener;
}

export class PinningListener implements MemoryListener {
  readonly name = 'pinning';
  readonly priority = 10;
  readonly #maxMappings: number;
  /** Size of each mapping, by guest physical address. */
  readonly #mappings = new Map<bigint, bigint>();
  readonly #watched = new Map<bigint, Watched>();
  #pinnedBytes = 0n;

  constructor({ maxMappings = Number.POSITIVE_INFINITY }: PinningOptions = {}) {
    this.#maxMappings = maxMappings;
  }

  get pinnedBytes(): bigint {
    return this.#pinnedBytes;
  }
  get mappings(): number {
    return this.#mappings.size;
  }
  /** Whether this byte of guest memory is pinned; all mappings but those of whole sections are of one block. O(mappings). */
  isPinned(address: bigint): boolean {
    for (const [start, size] of this.#mappings) if (address >= start && address < start + size) return true;
    return false;
  }

  regionAdd(section: MemorySection): void {
    if (!section.region.isRam) return;
    const manager = section.region.discardManager;
    if (manager === undefined) this.#pin(section.offsetWithinAddressSpace, section.size);
    else this.#watch(section, manager);
  }

  regionDel(section: MemorySection): void {
    if (!section.region.isRam) return;
    const watched = this.#watched.get(section.offsetWithinAddressSpace);
    if (watched === undefined) {
      this.#unpin(section.offsetWithinAddressSpace, section.size);
      return;
    }
    watched.manager.unregisterListener(watched.listener);
    this.#watched.delete(section.offsetWithinAddressSpace);
  }

  #watch(section: MemorySection, manager: RamDiscardManager): void {
    const granularity = manager.minGranularity();
    const listener: RamDiscardListener = {
      populate: (piece) => this.#populate(piece, granularity),
      discard: (piece) => {
        this.#unpin(piece.offsetWithinAddressSpace, piece.size);
      },
    };
    this.#watched.set(section.offsetWithinAddressSpace, { manager, listener });
    manager.registerListener(listener, section);
  }

  /** One mapping for each block, since blocks may be discarded one by one. */
  #populate({ offsetWithinAddressSpace: start, size }: MemorySection, granularity: bigint): number {
    const end = start + size;
    for (let at = start; at < end; at += granularity) {
      const answer = this.#pin(at, end - at < granularity ? end - at : granularity);
      if (answer !== 0) {
        this.#unpin(start, at - start);
        return answer;
      }
    }
    return 0;
  }

  #pin(start: bigint, size: bigint): number {
    if (this.#mappings.size >= this.#maxMappings) return -ENOSPC;
    this.#mappings.set(start, size);
    this.#pinnedBytes += size;
    return 0;
  }

  /** Gives up every mapping that begins in the range; mappings never reach beyond a range that is given up. */
  #unpin(start: bigint, size: bigint): void {
    let at = start;
    while (at < start + size) {
      const mapped = this.#mappings.get(at);
      if (mapped === undefined) return; // it was refused
      this.#mappings.delete(at);
      this.#pinnedBytes -= mapped;
      at += mapped;
    }
  }
}
