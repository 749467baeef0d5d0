/** The subregions of one region: all of them in the order they lie on each other, and the enabled ones by address. */
import { ChildIndex, type ChildPlace } from './child-index.ts';
import type { MemoryRegion } from './region.ts';

const NO_REGIONS: readonly MemoryRegion[] = [];

export class Subregions {
  readonly #enabled = new ChildIndex();
  readonly #disabled = new Set<MemoryRegion>();
  #inListOrder: readonly MemoryRegion[] | undefined = NO_REGIONS;

  /** Highest priority first, newest first among equals. */
  get inListOrder(): readonly MemoryRegion[] {
    this.#inListOrder ??= [...this.#enabled.all(), ...this.#disabled].sort(byListOrder);
    return this.#inListOrder;
  }

  get isEmpty(): boolean {
    return this.#enabled.size === 0 && this.#disabled.size === 0;
  }

  get enabledCount(): number {
    return this.#enabled.size;
  }

  /** The enabled one, if there is exactly one. */
  get onlyEnabled(): MemoryRegion | undefined {
    return this.#enabled.only;
  }

  /** The enabled ones that overlap [start, end), in list order, and perhaps a few that just miss it. */
  within(start: bigint, end: bigint): readonly MemoryRegion[] {
    if (this.#enabled.size === 0) return NO_REGIONS;
    const found: MemoryRegion[] = [];
    this.#enabled.collect(Number(start), Number(end), found);
    return found.length > 1 ? found.sort(byListOrder) : found;
  }

  /** Before the address, size or enabled state of a child changes it is removed, and added again after that. */
  add(child: MemoryRegion): void {
    this.#inListOrder = undefined;
    if (child.enabled) {
      this.#enabled.insert(child, placeOf(child));
    } else {
      this.#disabled.add(child);
    }
  }

  remove(child: MemoryRegion): void {
    this.#inListOrder = undefined;
    if (child.enabled) this.#enabled.remove(placeOf(child));
    else this.#disabled.delete(child);
  }
}

const placeOf = (child: MemoryRegion): ChildPlace => ({
  start: Number(child.address),
  end: Number(child.address + child.size),
  order: child.order,
});

/** How siblings lie on each other, topmost first. */
const byListOrder = (a: MemoryRegion, b: MemoryRegion): number =>
  b.priority - a.priority || b.order - a.order;
