/**
 * From a region tree to flat ranges: QEMU's rules of clipping, priority and inheritance.
 *
 * What is painted first stays on top. A region's subregions are painted before itself, in list order (highest priority first,
 * newest first among equals), each clipped to its parent; so priority orders the siblings of one container only, and a container,
 * which paints nothing itself, leaves its holes to lower siblings of its ancestors. An alias paints its target, shifted and clipped.
 *
 *      container  [==========================]          prio 1: B over A; the hole of container C shows A
 *        A (0)    [aaaaaaaaaaaaaaaaaaaaaaaaaa]
 *        C (1)          [   bbbb     ]          →       aaaaaaaaabbbbaaaaaaaaaaaaa
 */
import { MemoryError } from '../errors.ts';
import { simplify, type FlatRange } from './flat-range.ts';
import type { MemoryRegion } from './region.ts';
import { RegionFlag, SPACE_SIZE } from './region-description.ts';

const DEPTH_LIMIT = 200;
const VISIT_LIMIT = 1_000_000;

/** Which children of a region to paint for [start, end) of it, in list order. More than touch the range is allowed. */
export type ChildrenOf = (region: MemoryRegion, start: bigint, end: bigint) => readonly MemoryRegion[];

const everyChild: ChildrenOf = (region) => region.subregions;
const childrenWithin: ChildrenOf = (region, start, end) => region.subregionIndex?.within(start, end) ?? [];

/** All of `root`, as QEMU renders it: every subregion is visited. The slow way, kept as the oracle of the other. */
export function renderAll(root: MemoryRegion): FlatRange[] {
  return simplify(new Painter(everyChild).paintRoot(root, 0n, SPACE_SIZE));
}

/** What `root` shows in [start, end) only, not yet simplified. Costs what is there, not what the tree holds. */
export function renderWindow(root: MemoryRegion, start: bigint, end: bigint): FlatRange[] {
  return new Painter(childrenWithin).paintRoot(root, start, end);
}

/** Whether rendering `region` comes to an end within reason: false for a region that shows itself again and again. */
export function isRenderable(region: MemoryRegion): boolean {
  try {
    new Painter(childrenWithin, VISIT_LIMIT).paintRoot(region, 0n, SPACE_SIZE);
    return true;
  } catch (error) {
    if (error instanceof MemoryError && error.code === 'ALIAS_CYCLE') return false;
    throw error;
  }
}

const { READONLY, NONVOLATILE, UNMERGEABLE } = RegionFlag;

class Painter {
  readonly #childrenOf: ChildrenOf;
  readonly #visitLimit: number;
  readonly #ranges: FlatRange[] = [];
  /** Where we are: the regions from the root to the one being painted. */
  readonly #path: MemoryRegion[] = [];
  #visits = 0;

  constructor(childrenOf: ChildrenOf, visitLimit = Infinity) {
    this.#childrenOf = childrenOf;
    this.#visitLimit = visitLimit;
  }

  paintRoot(root: MemoryRegion, start: bigint, end: bigint): FlatRange[] {
    this.#paint(root, 0n, start, end, 0);
    return this.#ranges;
  }

  /** `base` is where the container of `region` begins, perhaps below 0; [clipStart, clipEnd) is what of it may show. */
  #paint(region: MemoryRegion, base: bigint, clipStart: bigint, clipEnd: bigint, inherited: number): void {
    if (!region.enabled) return;
    const origin = base + region.address;
    const limit = origin + region.size;
    const start = origin > clipStart ? origin : clipStart;
    const end = limit < clipEnd ? limit : clipEnd;
    if (start >= end) return;
    this.#path.push(region);
    this.#visits += 1;
    if (this.#path.length > DEPTH_LIMIT || this.#visits > this.#visitLimit) {
      throw new MemoryError('ALIAS_CYCLE', `${region.name}: shown inside itself without end`);
    }
    const flags = inherited | region.flags;
    const target = region.target;
    if (target !== undefined) {
      this.#paint(target, origin - target.address - region.aliasOffset, start, end, flags);
    } else {
      for (const child of this.#childrenOf(region, start - origin, end - origin)) {
        this.#paint(child, origin, start, end, flags);
      }
      if (region.terminates) this.#fill(region, origin, start, end, flags);
    }
    this.#path.pop();
  }

  /** Puts `region` into what is still free of [start, end). */
  #fill(region: MemoryRegion, origin: bigint, start: bigint, end: bigint, flags: number): void {
    const ranges = this.#ranges;
    let index = firstEndingAfter(ranges, start);
    let from = start;
    while (from < end) {
      const next = ranges[index];
      const to = next === undefined || next.start > end ? end : next.start;
      if (from < to) {
        ranges.splice(index, 0, {
          start: from,
          end: to,
          region,
          offset: from - origin,
          dirtyMask: region.dirtyMask,
          romdMode: region.romdMode,
          readonly: (flags & READONLY) !== 0,
          nonvolatile: (flags & NONVOLATILE) !== 0,
          unmergeable: (flags & UNMERGEABLE) !== 0,
          path: (flags & UNMERGEABLE) === 0 ? undefined : [...this.#path],
        });
        index += 1;
      }
      if (next === undefined) return;
      from = next.end;
      index += 1;
    }
  }
}

function firstEndingAfter(ranges: readonly FlatRange[], address: bigint): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ranges[middle]!.end > address) high = middle;
    else low = middle + 1;
  }
  return low;
}
