/** One piece of a flat view: where it is, which part of which region it shows, and the attributes it has there. */
import type { MemoryRegion } from './region.ts';

export interface FlatRange {
  /** Where it begins in the address space. */
  readonly start: bigint;
  /** The first address after it; up to 2^64. */
  readonly end: bigint;
  readonly region: MemoryRegion;
  /** The byte of the region that is seen at `start`. */
  readonly offset: bigint;
  /** Bit set of `DirtyClient`s that log writes here. */
  readonly dirtyMask: number;
  /** False: a ROM device that answers reads by its ops. True for every other kind. */
  readonly romdMode: boolean;
  /** Of the region or of anything it was reached through. */
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
  /** Never joined with a neighbour. */
  readonly unmergeable: boolean;
  /** Of an unmergeable range: the regions it was reached through, topmost first. Two pieces with one path are one range. */
  readonly path: readonly MemoryRegion[] | undefined;
}

/** `range` cut or stretched to [start, end): the same bytes at the same addresses. */
export function withBounds(range: FlatRange, start: bigint, end: bigint): FlatRange {
  return {
    start,
    end,
    region: range.region,
    offset: range.offset + (start - range.start),
    dirtyMask: range.dirtyMask,
    romdMode: range.romdMode,
    readonly: range.readonly,
    nonvolatile: range.nonvolatile,
    unmergeable: range.unmergeable,
    path: range.path,
  };
}

/** Whether a listener sees no difference. The dirty mask does not count: it has callbacks of its own. */
export const isSameRange = (a: FlatRange, b: FlatRange): boolean =>
  a === b ||
  (a.region === b.region &&
    a.start === b.start &&
    a.end === b.end &&
    a.offset === b.offset &&
    a.romdMode === b.romdMode &&
    a.readonly === b.readonly &&
    a.nonvolatile === b.nonvolatile &&
    a.unmergeable === b.unmergeable);

/** Whether nothing at all differs, not even what listeners cannot see. */
export const isIdentical = (a: FlatRange, b: FlatRange): boolean =>
  a === b || (isSameRange(a, b) && a.dirtyMask === b.dirtyMask && isSamePath(a.path, b.path));

/** Whether `b`, which follows `a`, is its continuation in every respect. */
const canMerge = (a: FlatRange, b: FlatRange): boolean =>
  a.region === b.region &&
  a.end === b.start &&
  a.offset + (a.end - a.start) === b.offset &&
  a.dirtyMask === b.dirtyMask &&
  a.romdMode === b.romdMode &&
  a.readonly === b.readonly &&
  a.nonvolatile === b.nonvolatile &&
  a.unmergeable === b.unmergeable &&
  (!a.unmergeable || isSamePath(a.path, b.path));

/** Unmergeable ranges never join their neighbours, but parts of one that were painted apart are one range. */
const isSamePath = (a: FlatRange['path'], b: FlatRange['path']): boolean =>
  a === b ||
  (a !== undefined &&
    b !== undefined &&
    a.length === b.length &&
    a.every((region, index) => region === b[index]));

/** Joins neighbours that are one piece of one region. `ranges` is sorted and disjoint; it is changed in place. */
export function simplify(ranges: FlatRange[]): FlatRange[] {
  let kept = 0;
  for (let next = 0; next < ranges.length;) {
    const first = ranges[next]!;
    let last = first;
    next += 1;
    while (next < ranges.length && canMerge(last, ranges[next]!)) {
      last = ranges[next]!;
      next += 1;
    }
    ranges[kept] = last === first ? first : withBounds(first, first.start, last.end);
    kept += 1;
  }
  ranges.length = kept;
  return ranges;
}
