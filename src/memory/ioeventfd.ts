/** Doorbells: a guest's write to an address signals a notifier, without a call of the region's ops. */
import type { FlatRange } from './flat-range.ts';
import type { FlatView } from './flat-view.ts';
import type { EventfdSection, MemoryListener } from './listener.ts';
import type { MemoryRegion } from './region.ts';

/** What is signalled. The layers that own descriptors implement it. */
export interface EventNotifier {
  /** Puts notifiers of one doorbell in an order (QEMU compares their addresses). Any fixed number, different for each. */
  readonly order: number;
  /** Called for a write of the guest, if the access went through this model and not through an accelerator. */
  signal?(): void;
}

export interface Ioeventfd {
  /** Within the region; in the list of an address space, within that. */
  readonly address: bigint;
  /** 0: a write of any size. */
  readonly size: bigint;
  /** Whether only a write of `data` signals. */
  readonly matchData: boolean;
  readonly data: bigint;
  readonly notifier: EventNotifier;
}

/** Negative: `a` is before `b`; 0: they are the same doorbell. */
export function compareIoeventfds(a: Ioeventfd, b: Ioeventfd): number {
  if (a.address !== b.address) return a.address < b.address ? -1 : 1;
  if (a.size !== b.size) return a.size < b.size ? -1 : 1;
  if (a.matchData !== b.matchData) return a.matchData ? 1 : -1;
  if (a.matchData && a.data !== b.data) return a.data < b.data ? -1 : 1;
  return a.notifier.order - b.notifier.order;
}

/** Whether a write hits this doorbell. */
export const ioeventfdMatches = (fd: Ioeventfd, address: bigint, size: number, data: bigint): boolean =>
  fd.address === address &&
  (fd.size === 0n || (fd.size === BigInt(size) && (!fd.matchData || fd.data === data)));

/** Adds a doorbell to a region. */
export function addIoeventfd(region: MemoryRegion, fd: Ioeventfd): void {
  region.topology.assertEditable();
  const at = region.ioeventfds.findIndex((other) => compareIoeventfds(fd, other) < 0);
  region.ioeventfds = region.ioeventfds.toSpliced(at < 0 ? region.ioeventfds.length : at, 0, fd);
  region.topology.ioeventfdsEdited(region, 1);
}

/** Takes the first doorbell away that equals `fd`; with size 0, the first at its address. @returns false: there was none */
export function removeIoeventfd(region: MemoryRegion, fd: Ioeventfd): boolean {
  region.topology.assertEditable();
  const at = region.ioeventfds.findIndex((other) => isSelectedBy(other, fd));
  if (at < 0) return false;
  region.ioeventfds = region.ioeventfds.toSpliced(at, 1);
  region.topology.ioeventfdsEdited(region, -1);
  return true;
}

const isSelectedBy = (fd: Ioeventfd, wanted: Ioeventfd): boolean =>
  fd.address === wanted.address && (wanted.size === 0n || compareIoeventfds(fd, wanted) === 0);

/** All doorbells of a view, at their addresses in it. */
export function ioeventfdsOf(view: FlatView): readonly Ioeventfd[] {
  const found: Ioeventfd[] = [];
  for (const range of view.ranges) {
    for (const fd of range.region.ioeventfds) {
      const address = fd.address + (range.start - range.offset);
      if (touches(range, address, address + fd.size)) found.push({ ...fd, address });
    }
  }
  return found;
}

/** As ranges intersect in QEMU: one contains the start of the other, so an empty one can. */
const touches = (range: FlatRange, start: bigint, end: bigint): boolean =>
  (start >= range.start && start < range.end) || (range.start >= start && range.start < end);

/** Tells the listeners of an address space what is in one list and not in the other. */
export function notifyIoeventfds(
  listeners: readonly { readonly listener: MemoryListener }[],
  view: FlatView,
  before: readonly Ioeventfd[],
  after: readonly Ioeventfd[],
): void {
  let oldIndex = 0;
  let newIndex = 0;
  while (oldIndex < before.length || newIndex < after.length) {
    const old = before[oldIndex];
    const next = after[newIndex];
    if (old !== undefined && (next === undefined || compareIoeventfds(old, next) < 0)) {
      const section = eventfdSection(view, old);
      for (const { listener } of listeners)
        listener.eventfdDel?.(section, old.matchData, old.data, old.notifier);
      oldIndex += 1;
    } else if (next !== undefined && (old === undefined || compareIoeventfds(next, old) < 0)) {
      const section = eventfdSection(view, next);
      for (let index = listeners.length - 1; index >= 0; index -= 1) {
        listeners[index]!.listener.eventfdAdd?.(section, next.matchData, next.data, next.notifier);
      }
      newIndex += 1;
    } else {
      oldIndex += 1;
      newIndex += 1;
    }
  }
}

export const eventfdSection = (view: FlatView, fd: Ioeventfd): EventfdSection => ({
  view,
  offsetWithinAddressSpace: fd.address,
  size: fd.size,
});
