/** The two passes by which listeners learn the difference between two views: first all that goes, then all that stays or comes. */
import { notifyCoalesced, replayCoalesced } from './coalesced.ts';
import { isSameRange, type FlatRange } from './flat-range.ts';
import type { FlatView } from './flat-view.ts';
import { eventfdSection, type Ioeventfd } from './ioeventfd.ts';
import { sectionOf, type MemoryListener } from './listener.ts';

/** A listener with the order it was registered in. */
export interface Registered {
  readonly listener: MemoryListener;
}

/** Two lists of ranges of one address space, walked in parallel. */
export interface Difference {
  readonly before: readonly FlatRange[];
  readonly after: readonly FlatRange[];
}

/** Tells `listeners` what differs. `windows` are parts of the two views, in address order. */
export function notifyDifference(
  listeners: readonly Registered[],
  before: FlatView,
  after: FlatView,
  windows: readonly Difference[],
): void {
  for (const window of windows) walk(window, (old) => tellDeleted(listeners, old, before), undefined);
  for (const window of windows) {
    walk(window, undefined, (next, old) => {
      if (old === undefined) tellAdded(listeners, next, after);
      else tellUnchanged(listeners, old, next, after);
    });
  }
}

/** Calls `deleted` for ranges that go; `kept` for those that stay (with the old one) or come (without). */
function walk(
  { before, after }: Difference,
  deleted: ((old: FlatRange) => void) | undefined,
  kept: ((next: FlatRange, old: FlatRange | undefined) => void) | undefined,
): void {
  let oldIndex = 0;
  let newIndex = 0;
  while (oldIndex < before.length || newIndex < after.length) {
    const old = before[oldIndex];
    const next = after[newIndex];
    const isSame = old !== undefined && next !== undefined && isSameRange(old, next);
    if (isSame) {
      kept?.(next, old);
      oldIndex += 1;
      newIndex += 1;
    } else if (old !== undefined && (next === undefined || old.start <= next.start)) {
      deleted?.(old);
      oldIndex += 1;
    } else {
      kept?.(next!, undefined);
      newIndex += 1;
    }
  }
}

function tellDeleted(listeners: readonly Registered[], range: FlatRange, view: FlatView): void {
  notifyCoalesced(listeners, range, view, 'coalescedIoDel');
  const section = sectionOf(range, view);
  for (let index = listeners.length - 1; index >= 0; index -= 1)
    listeners[index]!.listener.regionDel?.(section);
}

function tellAdded(listeners: readonly Registered[], range: FlatRange, view: FlatView): void {
  const section = sectionOf(range, view);
  for (const { listener } of listeners) listener.regionAdd?.(section);
  notifyCoalesced(listeners, range, view, 'coalescedIoAdd');
}

function tellUnchanged(
  listeners: readonly Registered[],
  old: FlatRange,
  range: FlatRange,
  view: FlatView,
): void {
  const section = sectionOf(range, view);
  for (const { listener } of listeners) listener.regionNop?.(section);
  const [before, after] = [old.dirtyMask, range.dirtyMask];
  if ((after & ~before) !== 0)
    for (const { listener } of listeners) listener.logStart?.(section, before, after);
  if ((before & ~after) !== 0) {
    for (let index = listeners.length - 1; index >= 0; index -= 1) {
      listeners[index]!.listener.logStop?.(section, before, after);
    }
  }
}

/** Shows a new listener all there is. */
export function replayTo(
  listener: MemoryListener,
  view: FlatView,
  fds: readonly Ioeventfd[],
  isTracking: boolean,
): void {
  listener.begin?.();
  if (isTracking) listener.logGlobalStart?.();
  for (const range of view.ranges) {
    const section = sectionOf(range, view);
    listener.regionAdd?.(section);
    replayCoalesced(listener, range, section, 'coalescedIoAdd');
    if (range.dirtyMask !== 0) listener.logStart?.(section, 0, range.dirtyMask);
  }
  for (const fd of fds) listener.eventfdAdd?.(eventfdSection(view, fd), fd.matchData, fd.data, fd.notifier);
  listener.commit?.();
}

/** Takes everything away from a listener that leaves. */
export function withdrawFrom(listener: MemoryListener, view: FlatView, fds: readonly Ioeventfd[]): void {
  listener.begin?.();
  for (const range of view.ranges) {
    const section = sectionOf(range, view);
    if (range.dirtyMask !== 0) listener.logStop?.(section, range.dirtyMask, 0);
    replayCoalesced(listener, range, section, 'coalescedIoDel');
    listener.regionDel?.(section);
  }
  for (const fd of fds) listener.eventfdDel?.(eventfdSection(view, fd), fd.matchData, fd.data, fd.notifier);
  listener.commit?.();
}
