/**
 * A memory backend cut into memslots that are mapped and unmapped one by one, without touching their neighbours.
 *
 *     container   ├ memslot-0 ┼ memslot-1 ┼ memslot-2 ┤      unmergeable aliases; only those in use are mapped
 *     backend     0───────────────────────────────────size
 */
import type { MemoryRegion } from '../memory/region.ts';
import { undo } from './undo.ts';

/** How a backend is cut. All memslots have the same size but the last, which may be shorter. */
export interface MemslotLayout {
  readonly size: number;
  readonly memslots: number;
  readonly memslotSize: number;
}

export interface MemslotGranularity {
  /** What memslots must be multiples of; a power of two. */
  readonly alignment: number;
  readonly minSize: number;
}

/** The layout that uses no more than `limit` memslots. Sizes are bytes; `size` is a multiple of the alignment. */
export function layoutOf(
  size: number,
  limit: number,
  { alignment, minSize }: MemslotGranularity,
): MemslotLayout {
  if (limit <= 1) return { size, memslots: 1, memslotSize: size };
  const share = Math.ceil(size / limit / alignment) * alignment;
  const memslotSize = Math.max(share, alignment, minSize);
  const memslots = Math.ceil(size / memslotSize);
  return memslots <= 1 ? { size, memslots: 1, memslotSize: size } : { size, memslots, memslotSize };
}

export class DynamicMemslots {
  readonly layout: MemslotLayout;
  readonly #container: MemoryRegion;
  readonly #aliases: readonly MemoryRegion[];
  #mapped = 0;

  /** @param container what is mapped in place of the backend; nothing else is in it */
  constructor(container: MemoryRegion, backend: MemoryRegion, layout: MemslotLayout) {
    const { topology } = backend;
    const { size, memslots, memslotSize } = layout;
    this.layout = layout;
    this.#container = container;
    this.#aliases = Array.from({ length: memslots }, (_, slot) => {
      const offset = slot * memslotSize;
      const alias = topology.createRegion({
        name: `memslot-${slot}`,
        kind: 'alias',
        target: backend,
        offset: BigInt(offset),
        size: BigInt(Math.min(memslotSize, size - offset)),
      });
      alias.setUnmergeable(true);
      return alias;
    });
  }

  /** How many are mapped. */
  get mapped(): number {
    return this.#mapped;
  }

  isMapped(slot: number): boolean {
    return this.#aliases[slot]!.container !== undefined;
  }

  /**
   * Maps those that hold a byte of [offset, offset + size), in one transaction.
   *
   * @throws what a listener threw: then none of them is mapped that was not before
   */
  activate(offset: number, size: number): void {
    this.#change(offset, size, (slot) => !this.isMapped(slot), true);
  }

  /**
   * Unmaps those that hold a byte of [offset, offset + size) and are not needed any more, in one transaction.
   *
   * @throws what a listener threw: then all of them are mapped that were before
   */
  deactivate(offset: number, size: number, isNeeded: (slot: number) => boolean): void {
    this.#change(offset, size, (slot) => this.isMapped(slot) && !isNeeded(slot), false);
  }

  #change(offset: number, size: number, applies: (slot: number) => boolean, isMapped: boolean): void {
    const { memslotSize } = this.layout;
    const first = Math.floor(offset / memslotSize);
    const last = Math.floor((offset + size - 1) / memslotSize);
    const slots: number[] = [];
    for (let slot = first; slot <= last; slot += 1) if (applies(slot)) slots.push(slot);
    if (slots.length === 0) return;
    try {
      this.#set(slots, isMapped);
    } catch (refused) {
      undo(() => this.#set(slots, !isMapped));
      throw refused;
    }
  }

  #set(slots: readonly number[], isMapped: boolean): void {
    const { topology } = this.#container;
    topology.begin();
    for (const slot of slots) {
      const alias = this.#aliases[slot]!;
      if (isMapped) this.#container.addSubregion(BigInt(slot * this.layout.memslotSize), alias);
      else this.#container.removeSubregion(alias);
    }
    this.#mapped += isMapped ? slots.length : -slots.length;
    topology.commit();
  }
}
