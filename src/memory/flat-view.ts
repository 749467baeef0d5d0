/** What an address space looks like: disjoint ranges, sorted. A view never changes; an edit makes a new one. */
import type { FlatRange } from './flat-range.ts';
import { RangeTree } from './range-tree.ts';
import type { MemoryRegion } from './region.ts';

export class FlatView {
  /** Nothing, for ever: the view of every address space whose root shows nothing. */
  static readonly EMPTY = new FlatView(undefined, RangeTree.EMPTY);

  /** What it was rendered from; see `viewRootOf`. */
  readonly root: MemoryRegion | undefined;
  readonly tree: RangeTree;
  #ranges: readonly FlatRange[] | undefined;

  constructor(root: MemoryRegion | undefined, tree: RangeTree) {
    this.root = root;
    this.tree = tree;
  }

  /** All ranges in address order. Made when first asked for: O(ranges). */
  get ranges(): readonly FlatRange[] {
    this.#ranges ??= this.tree.all();
    return this.#ranges;
  }

  /** The range that holds `address`. */
  rangeAt(address: bigint): FlatRange | undefined {
    const range = this.tree.floor(address);
    return range !== undefined && range.end > address ? range : undefined;
  }

  /** The first range that has a byte in [start, end). */
  firstIn(start: bigint, end: bigint): FlatRange | undefined {
    const at = this.rangeAt(start);
    if (at !== undefined) return at;
    const next = this.tree.after(start);
    return next !== undefined && next.start < end ? next : undefined;
  }
}
