/** Which parts of a view another process could map: what a vhost device gets as its memory table. */
import type { FlatRange } from './flat-range.ts';
import type { FlatView } from './flat-view.ts';
import type { MemoryRegion } from './region.ts';

/** One entry of a memory table: RAM of one region, contiguous in the guest and in its block. */
export interface ShareableRange {
  readonly start: bigint;
  readonly size: bigint;
  readonly region: MemoryRegion;
  /** Of `start`, in the region. */
  readonly offset: bigint;
}

/**
 * The RAM of a view, folded as QEMU folds it for vhost: neighbours of one region whose pages touch become one entry, unless one of
 * them is unmergeable. Memory that is readonly by itself is left out; memory seen through a readonly alias is not.
 *
 * @param isShareable whether a region's memory can be mapped elsewhere; without it, if its block has a descriptor
 */
export function shareableRanges(
  view: FlatView,
  isShareable: (region: MemoryRegion) => boolean = ({ block }) => block?.fd !== undefined,
): readonly ShareableRange[] {
  const folded: { last: FlatRange; entry: ShareableRange }[] = [];
  for (const range of view.ranges) {
    const { region } = range;
    if (region.kind !== 'ram' || region.readonly || !isShareable(region)) continue;
    const previous = folded.at(-1);
    if (previous !== undefined && continues(previous.last, range)) {
      previous.entry = { ...previous.entry, size: range.end - previous.entry.start };
      previous.last = range;
    } else {
      const { start, end, offset } = range;
      folded.push({ last: range, entry: { start, size: end - start, region, offset } });
    }
  }
  return folded.map(({ entry }) => entry);
}

/** Same memory, and no whole page between the two. */
function continues(a: FlatRange, b: FlatRange): boolean {
  if (a.region !== b.region || a.unmergeable || b.unmergeable) return false;
  if (b.start - a.start !== b.offset - a.offset) return false;
  const page = BigInt(a.region.block?.pageSize ?? 4096);
  return (b.start / page) * page <= ((a.end + page - 1n) / page) * page;
}
