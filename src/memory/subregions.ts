/** The subregions of one region: all of them in the order they lie on each other, and the enabled ones by address. */
import { ChildIndex } from './child-index.ts';
import type { MemoryRegion } from './region.ts';

const NO_REGIONS: readonly MemoryRegion[] = [];

export class Subregions {
  readonly #all = new Set<MemoryRegion>();
  readonly #enabled = new ChildIndex();
  #inListOrder: readonly MemoryRegion[] | undefined = NO_REGIONS;

  /** Highest priority first, newest first among equals. */
  get inListOrder(): readonly MemoryRegion[] {
    this.#inListOrder ??= [...this.#all].sort(byListOrder);
    return this.#inListOrder;
  }

  get enabledCount(): number {
    return this.#enabled.size;
  }

  /** The enabled one, if there is exactly one. */
  get onlyEnabled(): MemoryRegion | undefined {
    return this.#enabled.only;
  }

  /** The enabled ones that touch [start, end), in list order, and perhaps a few that just miss it. */
  within(start: bigint, end: bigint): readonly MemoryRegion[] {
    if (this.#enabled.size === 0) return NO_REGIONS;
    const found: MemoryRegion[] = [];
    this.#enabled.collect(Number(start), Number(end), found);
    return found.length > 1 ? found.sort(byListOrder) : found;
  }

  add(child: MemoryRegion): void {
    this.#all.add(child);
    this.#inListOrder = undefined;
    this.index(child);
  }

  remove(child: MemoryRegion): void {
    this.#all.delete(child);
    this.#inListOrder = undefined;
    this.unindex(child);
  }

  /** Notes where a child is; call `unindex` before its address, size or enabled state changes, and this after it. */
  index(child: MemoryRegion): void {
    if (!child.enabled) return;
    this.#enabled.insert(child, Number(child.address), Number(child.address + child.size), child.order);
  }

  unindex(child: MemoryRegion): void {
    if (child.enabled) this.#enabled.remove(Number(child.address), child.order);
  }
}

/** How siblings lie on each other, topmost first. */
const byListOrder = (a: MemoryRegion, b: MemoryRegion): number =>
  b.priority - a.priority || b.order - a.order;
