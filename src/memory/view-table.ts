/** The flat views in use, one for each region that views are rendered from; spaces that look alike share one. */
import { viewRootOf } from './containment.ts';
import type { Damage } from './damage.ts';
import { FlatView } from './flat-view.ts';
import { patchView, type Window } from './patch.ts';
import { RangeTree } from './range-tree.ts';
import type { MemoryRegion } from './region.ts';
import { renderAll } from './render.ts';

/** A view, and what the last update did to it. */
export interface ViewEntry {
  readonly view: FlatView;
  /** What it was before that; itself if nothing changed; undefined if it was rendered in full. */
  readonly before: FlatView | undefined;
  /** Where the two differ. */
  readonly windows: readonly Window[];
}

interface MutableEntry extends ViewEntry {
  view: FlatView;
  before: FlatView | undefined;
  windows: readonly Window[];
  /** The update that last found it in use. */
  round: number;
}

const NO_WINDOWS: readonly Window[] = [];
const EMPTY: ViewEntry = { view: FlatView.EMPTY, before: FlatView.EMPTY, windows: NO_WINDOWS };

export class ViewTable {
  readonly #entries = new Map<MemoryRegion, MutableEntry>();
  /** View roots whose own address changed: everything in their view is elsewhere now. */
  readonly #moved = new Set<MemoryRegion>();
  #round = 0;

  /** The view of an address space with this root, rendered if no other space has it. */
  entryFor(root: MemoryRegion): ViewEntry {
    const viewRoot = viewRootOf(root);
    if (viewRoot === undefined) return EMPTY;
    return this.#entries.get(viewRoot) ?? this.#add(viewRoot);
  }

  noteMoved(region: MemoryRegion): void {
    if (this.#entries.has(region)) this.#moved.add(region);
  }

  /** Brings the views of these address spaces up to date and forgets all others. */
  update(spaces: readonly { readonly root: MemoryRegion }[], damage: Damage): void {
    const perView = damage.perView((region) => this.#entries.has(region));
    this.#round += 1;
    let used = 0;
    for (const { root } of spaces) {
      const viewRoot = viewRootOf(root);
      if (viewRoot === undefined) continue;
      const entry = this.#entries.get(viewRoot);
      if (entry?.round === this.#round) continue;
      used += 1;
      if (entry === undefined) {
        this.#add(viewRoot);
        continue;
      }
      entry.round = this.#round;
      if (perView === undefined || this.#moved.has(viewRoot)) {
        entry.before = undefined;
        entry.view = rendered(viewRoot);
        entry.windows = NO_WINDOWS;
        continue;
      }
      const damaged = perView.get(viewRoot);
      const patch = damaged === undefined ? undefined : patchView(entry.view, damaged);
      entry.before = entry.view;
      entry.view = patch?.view ?? entry.view;
      entry.windows = patch?.windows ?? NO_WINDOWS;
    }
    if (used < this.#entries.size) this.#forgetUnused();
    this.#moved.clear();
    damage.clear();
  }

  /** Drops what an update is no longer needed for: the views of before. */
  release(): void {
    for (const entry of this.#entries.values()) {
      entry.before = entry.view;
      entry.windows = NO_WINDOWS;
    }
  }

  #add(viewRoot: MemoryRegion): MutableEntry {
    const entry = { view: rendered(viewRoot), before: undefined, windows: NO_WINDOWS, round: this.#round };
    this.#entries.set(viewRoot, entry);
    return entry;
  }

  #forgetUnused(): void {
    for (const [root, entry] of this.#entries) if (entry.round !== this.#round) this.#entries.delete(root);
  }
}

const rendered = (root: MemoryRegion): FlatView => new FlatView(root, RangeTree.from(renderAll(root)));
