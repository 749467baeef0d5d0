/** Questions about a topology as of the last commit. */
import type { FlatView } from './flat-view.ts';
import type { MemorySection } from './listener.ts';
import type { MemoryRegion } from './region.ts';

/**
 * What is seen first in [address, address + size) of `region`, in the first address space whose root is the topmost container
 * of `region`; cut to what was asked for. Its `unmergeable` is always false, as in QEMU.
 */
export function findSection(region: MemoryRegion, address: bigint, size: bigint): MemorySection | undefined {
  let top = region;
  let sum = address + region.address;
  while (top.container !== undefined) {
    top = top.container;
    sum += top.address;
  }
  const view = region.topology.spaceOf(top)?.view;
  return view === undefined ? undefined : sectionAt(view, BigInt.asUintN(64, sum), size);
}

/** What a view shows first in [start, start + size), cut to that. */
export function sectionAt(view: FlatView, start: bigint, size: bigint): MemorySection | undefined {
  const end = start + size;
  const range = view.firstIn(start, end);
  // an empty request is found strictly inside a range only
  if (range === undefined || (size === 0n && range.start === start)) return undefined;
  const from = range.start > start ? range.start : start;
  return {
    region: range.region,
    view,
    offsetWithinRegion: range.offset + (from - range.start),
    offsetWithinAddressSpace: from,
    size: (range.end < end ? range.end : end) - from,
    readonly: range.readonly,
    nonvolatile: range.nonvolatile,
    unmergeable: false,
  };
}

/** Whether something other than `container` itself is seen at this address of it. */
export function isPresent(container: MemoryRegion, address: bigint): boolean {
  const section = findSection(container, address, 1n);
  return section !== undefined && section.region !== container;
}
