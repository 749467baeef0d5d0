/** Ranges whose writes may be queued and delivered later, all at once. They belong to a region and follow it wherever it shows. */
import type { FlatRange } from './flat-range.ts';
import { sectionOf, type MemoryListener, type MemorySection } from './listener.ts';
import type { MemoryRegion } from './region.ts';
import type { FlatView } from './flat-view.ts';

/** Bytes of the region, in its own addresses. */
export interface CoalescedRange {
  readonly address: bigint;
  readonly size: bigint;
}

/** Adds a range, and tells every listener at once: no transaction. */
export function addCoalescing(region: MemoryRegion, address: bigint, size: bigint): void {
  region.topology.assertEditable();
  const range = { address, size };
  region.coalesced = [...region.coalesced, range];
  notifyEverywhere(region, range, 'coalescedIoAdd');
}

/** Makes the whole region one coalesced range. */
export function setCoalescing(region: MemoryRegion): void {
  clearCoalescing(region);
  addCoalescing(region, 0n, region.size);
}

/** Takes all ranges away, in the order they were added. */
export function clearCoalescing(region: MemoryRegion): void {
  region.topology.assertEditable();
  for (;;) {
    const [first, ...rest] = region.coalesced;
    if (first === undefined) return;
    region.coalesced = rest;
    notifyEverywhere(region, first, 'coalescedIoDel');
  }
}

type Callback = 'coalescedIoAdd' | 'coalescedIoDel';

function notifyEverywhere(region: MemoryRegion, coalesced: CoalescedRange, callback: Callback): void {
  const { topology } = region;
  for (const space of topology.addressSpaces) {
    if (space.listeners.length === 0) continue;
    for (const range of space.view.ranges) {
      if (range.region !== region) continue;
      topology.notifying(() => notify(space.listeners, range, space.view, coalesced, callback));
    }
  }
}

/** Tells all listeners of an address space about the coalesced ranges that show in `range`. */
export function notifyCoalesced(
  listeners: readonly { readonly listener: MemoryListener }[],
  range: FlatRange,
  view: FlatView,
  callback: Callback,
): void {
  for (const coalesced of range.region.coalesced) notify(listeners, range, view, coalesced, callback);
}

function notify(
  listeners: readonly { readonly listener: MemoryListener }[],
  range: FlatRange,
  view: FlatView,
  coalesced: CoalescedRange,
  callback: Callback,
): void {
  const shown = shownPart(range, coalesced);
  if (shown === undefined) return;
  const section = sectionOf(range, view);
  if (callback === 'coalescedIoAdd') {
    for (const { listener } of listeners) listener.coalescedIoAdd?.(section, shown.address, shown.size);
    return;
  }
  for (let index = listeners.length - 1; index >= 0; index -= 1) {
    listeners[index]!.listener.coalescedIoDel?.(section, shown.address, shown.size);
  }
}

/**
 * Tells one listener, as it registers or leaves. As in QEMU the list is left at the first range that does not show in this
 * section, although later ones might.
 */
export function replayCoalesced(
  listener: MemoryListener,
  range: FlatRange,
  section: MemorySection,
  callback: Callback,
): void {
  for (const coalesced of range.region.coalesced) {
    const shown = shownPart(range, coalesced);
    if (shown === undefined) return;
    listener[callback]?.(section, shown.address, shown.size);
  }
}

/** Where a coalesced range shows in a flat range, in addresses of the space. */
function shownPart(range: FlatRange, coalesced: CoalescedRange): CoalescedRange | undefined {
  const start = coalesced.address + (range.start - range.offset);
  const end = start + coalesced.size;
  // ranges intersect if one holds the start of the other: an empty one can
  const isTouching =
    (range.start >= start && range.start < end) || (start >= range.start && start < range.end);
  if (!isTouching) return undefined;
  const from = start > range.start ? start : range.start;
  const to = end < range.end ? end : range.end;
  return { address: from, size: to - from };
}
