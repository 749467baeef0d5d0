/** What a listener is told about, and the callbacks by which it is told. */
import type { FlatRange } from './flat-range.ts';
import type { FlatView } from './flat-view.ts';
import type { EventNotifier } from './ioeventfd.ts';
import type { MemoryRegion } from './region.ts';

/** A part of an address space that shows one piece of one region. */
export interface MemorySection {
  readonly region: MemoryRegion;
  readonly view: FlatView;
  readonly offsetWithinRegion: bigint;
  readonly offsetWithinAddressSpace: bigint;
  /** Bytes, up to 2^64. */
  readonly size: bigint;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
  readonly unmergeable: boolean;
}

/** An address range that has no region: what ioeventfd callbacks are about. */
export interface EventfdSection {
  readonly view: FlatView;
  readonly offsetWithinAddressSpace: bigint;
  readonly size: bigint;
}

/**
 * Hears what changes in one address space. Callbacks are called in ascending order of priority, equal priorities in order of
 * registration; those marked (reverse) the other way round. A callback must not edit the topology.
 *
 * A commit is: `begin`; for each address space its deletions, then its additions, each in address order; then `commit`. `begin` and
 * `commit` go to every listener of every address space.
 */
export interface MemoryListener {
  readonly name?: string;
  /** Default 0, the first to hear of additions. Accelerators and device back-ends use 10. */
  readonly priority?: number;
  begin?(): void;
  commit?(): void;
  regionAdd?(section: MemorySection): void;
  /** (reverse) */
  regionDel?(section: MemorySection): void;
  /** A range that did not change, at every commit: a listener that has this makes every commit cost O(ranges). */
  regionNop?(section: MemorySection): void;
  /** Clients in `next` but not in `old` begin to log. Not called for added ranges, except on registration. */
  logStart?(section: MemorySection, old: number, next: number): void;
  /** (reverse) Clients in `old` but not in `next` stop. */
  logStop?(section: MemorySection, old: number, next: number): void;
  /** Bring the dirty log of this section up to date. */
  logSync?(section: MemorySection): void;
  /** As `logSync`, for a listener that can only do all at once. */
  logSyncGlobal?(isLastStage: boolean): void;
  /** The dirty log of this section is about to be cleared. */
  logClear?(section: MemorySection): void;
  /** Dirty tracking begins. @returns a text: it could not; nothing is tracked then */
  logGlobalStart?(): string | void;
  /** (reverse) */
  logGlobalStop?(): void;
  logGlobalAfterSync?(): void;
  /** (reverse) */
  eventfdAdd?(section: EventfdSection, matchData: boolean, data: bigint, notifier: EventNotifier): void;
  eventfdDel?(section: EventfdSection, matchData: boolean, data: bigint, notifier: EventNotifier): void;
  coalescedIoAdd?(section: MemorySection, address: bigint, size: bigint): void;
  /** (reverse) */
  coalescedIoDel?(section: MemorySection, address: bigint, size: bigint): void;
}

export const sectionOf = (range: FlatRange, view: FlatView): MemorySection => ({
  region: range.region,
  view,
  offsetWithinRegion: range.offset,
  offsetWithinAddressSpace: range.start,
  size: range.end - range.start,
  readonly: range.readonly,
  nonvolatile: range.nonvolatile,
  unmergeable: range.unmergeable,
});

/** The part of `section` in [start, start + size) of the address space; undefined if it has none. */
export function intersectSection(
  section: MemorySection,
  start: bigint,
  size: bigint,
): MemorySection | undefined {
  const from = section.offsetWithinAddressSpace > start ? section.offsetWithinAddressSpace : start;
  const sectionEnd = section.offsetWithinAddressSpace + section.size;
  const to = sectionEnd < start + size ? sectionEnd : start + size;
  if (from >= to) return undefined;
  return {
    ...section,
    offsetWithinRegion: section.offsetWithinRegion + (from - section.offsetWithinAddressSpace),
    offsetWithinAddressSpace: from,
    size: to - from,
  };
}

/** Listeners by ascending priority, equal ones in order of registration. */
export function insertByPriority<L extends { readonly listener: MemoryListener }>(list: L[], entry: L): void {
  const priority = entry.listener.priority ?? 0;
  let index = list.length;
  while (index > 0 && (list[index - 1]!.listener.priority ?? 0) > priority) index -= 1;
  list.splice(index, 0, entry);
}
