/** The flat views in use, one for each region that views are rendered from; spaces that look alike share one. */
import { viewRootOf } from './containment.ts';
import type { Damage } from './damage.ts';
import { FlatView } from './flat-view.ts';
import { patchView, type Window } from './patch.ts';
import { RangeTree } from './range-tree.ts';
import type { MemoryRegion } from './region.ts';
import { renderAll } from './render.ts';

/** What an update did to one view. */
export interface ViewChange {
  readonly before: FlatView;
  readonly windows: readonly Window[];
}

/** For each view that was patched, how it came about. Views not in it are unchanged, or rendered in full. */
export type ViewChanges = ReadonlyMap<FlatView, ViewChange>;

export class ViewTable {
  #views = new Map<MemoryRegion, FlatView>();
  /** View roots whose own address changed: everything in their view is elsewhere now. */
  readonly #moved = new Set<MemoryRegion>();

  /** The view of an address space with this root, rendered if no other space has it. */
  viewFor(root: MemoryRegion): FlatView {
    const viewRoot = viewRootOf(root);
    if (viewRoot === undefined) return FlatView.EMPTY;
    const present = this.#views.get(viewRoot);
    if (present !== undefined) return present;
    const view = rendered(viewRoot);
    this.#views.set(viewRoot, view);
    return view;
  }

  noteMoved(region: MemoryRegion): void {
    if (this.#views.has(region)) this.#moved.add(region);
  }

  /** Brings the views of these address spaces up to date and forgets all others. */
  update(spaces: readonly { readonly root: MemoryRegion }[], damage: Damage): ViewChanges {
    const old = this.#views;
    const perView = damage.perView((region) => old.has(region));
    const changes = new Map<FlatView, ViewChange>();
    const views = new Map<MemoryRegion, FlatView>();
    for (const { root } of spaces) {
      const viewRoot = viewRootOf(root);
      if (viewRoot === undefined || views.has(viewRoot)) continue;
      const before = old.get(viewRoot);
      if (before === undefined || perView === undefined || this.#moved.has(viewRoot)) {
        views.set(viewRoot, rendered(viewRoot));
        continue;
      }
      const damaged = perView.get(viewRoot);
      const { view, windows } =
        damaged === undefined ? { view: before, windows: [] } : patchView(before, damaged);
      views.set(viewRoot, view);
      if (view !== before) changes.set(view, { before, windows });
    }
    this.#views = views;
    this.#moved.clear();
    damage.clear();
    return changes;
  }
}

const rendered = (root: MemoryRegion): FlatView => new FlatView(root, RangeTree.from(renderAll(root)));
