/** Which pages were written, for each client that asked; and the callbacks that bring such logs up to date. */
import type { AddressSpace } from './address-space.ts';
import { DirtyBitmap } from './dirty-bitmap.ts';
import { sectionOf, type MemoryListener, type MemorySection } from './listener.ts';
import type { RamBlock } from './ram-block.ts';
import type { MemoryRegion } from './region.ts';
import { DirtyClient } from './region-description.ts';
import type { MemoryTopology } from './topology.ts';

const PAGE = 4096n;
const CLIENTS = [DirtyClient.VGA, DirtyClient.CODE, DirtyClient.MIGRATION] as const;

/** By RAM block, then by client: regions that share a block share its log. */
const logs = new WeakMap<RamBlock, readonly DirtyBitmap[]>();

/** Marks pages as written, for every client that logs the region now. */
export function markDirty(region: MemoryRegion, offset: bigint, size: bigint): void {
  const mask = region.dirtyMask;
  if (mask === 0 || region.block === undefined || size === 0n) return;
  const { first, count } = pagesOf(offset, size);
  for (const client of CLIENTS)
    if ((mask & (1 << client)) !== 0) logOf(region.block, client).set(first, count);
}

/** Whether some page of the range was written since its log was last reset. */
export function isDirty(region: MemoryRegion, offset: bigint, size: bigint, client: DirtyClient): boolean {
  if (region.block === undefined || size === 0n) return false;
  const { first, count } = pagesOf(offset, size);
  return logOf(region.block, client).hasAny(first, count);
}

/** Forgets what was written, after telling listeners that keep a log of their own. */
export function resetDirty(region: MemoryRegion, offset: bigint, size: bigint, client: DirtyClient): void {
  if (region.block === undefined || size === 0n) return;
  clearLogs(region, offset, size);
  const { first, count } = pagesOf(offset, size);
  logOf(region.block, client).clear(first, count);
}

/** What was written, at one moment: pages written later are not in it. */
export interface DirtySnapshot {
  isDirty(offset: bigint, size: bigint): boolean;
}

/** Takes a snapshot of a client's log and resets it, in one step. */
export function snapshotAndClearDirty(
  region: MemoryRegion,
  offset: bigint,
  size: bigint,
  client: DirtyClient,
): DirtySnapshot {
  syncDirtyLog(region.topology, { region });
  if (region.block === undefined || size === 0n) return { isDirty: () => false };
  const { first, count } = pagesOf(offset, size);
  const taken = logOf(region.block, client).take(first, count);
  clearLogs(region, offset, size);
  return {
    isDirty: (at, bytes) => {
      const pages = pagesOf(at, bytes);
      return bytes > 0n && taken.hasAny(pages.first, pages.count);
    },
  };
}

/** Asks every listener for what it knows of written pages: of one region, or of all. */
export function syncDirtyLog(
  topology: MemoryTopology,
  options: { readonly region?: MemoryRegion; readonly isLastStage?: boolean } = {},
): void {
  topology.notifying(() => {
    forEachListener(topology, (listener, space) => {
      if (listener.logSync === undefined) {
        listener.logSyncGlobal?.(options.isLastStage ?? false);
        return;
      }
      for (const range of space.view.ranges) {
        const isWanted = options.region === undefined || range.region === options.region;
        if (isWanted && range.dirtyMask !== 0) listener.logSync(sectionOf(range, space.view));
      }
    });
  });
}

/** Tells listeners that the dirty logs of all sections have been brought up to date. */
export function afterDirtyLogSync(topology: MemoryTopology): void {
  topology.notifying(() => {
    for (const { listener } of topology.listeners) listener.logGlobalAfterSync?.();
  });
}

/** Tells listeners with logs of their own that this part of a region starts afresh. */
function clearLogs(region: MemoryRegion, offset: bigint, size: bigint): void {
  const { topology } = region;
  topology.notifying(() => {
    forEachListener(topology, (listener, space) => {
      if (listener.logClear === undefined) return;
      for (const range of space.view.ranges) {
        if (range.region !== region || range.dirtyMask === 0) continue;
        const part = cut(sectionOf(range, space.view), offset, size);
        if (part !== undefined) listener.logClear(part);
      }
    });
  });
}

/** The part of a section that shows [offset, offset + size) of its region. */
function cut(section: MemorySection, offset: bigint, size: bigint): MemorySection | undefined {
  const sectionEnd = section.offsetWithinRegion + section.size;
  const from = section.offsetWithinRegion > offset ? section.offsetWithinRegion : offset;
  const to = sectionEnd < offset + size ? sectionEnd : offset + size;
  if (from >= to) return undefined;
  const skipped = from - section.offsetWithinRegion;
  return {
    ...section,
    offsetWithinRegion: from,
    offsetWithinAddressSpace: section.offsetWithinAddressSpace + skipped,
    size: to - from,
  };
}

function forEachListener(
  topology: MemoryTopology,
  call: (listener: MemoryListener, space: AddressSpace) => void,
): void {
  const spaceOf = new Map(
    topology.addressSpaces.flatMap((space) =>
      space.listeners.map(({ listener }) => [listener, space] as const),
    ),
  );
  for (const { listener } of topology.listeners) call(listener, spaceOf.get(listener)!);
}

function logOf(block: RamBlock, client: DirtyClient): DirtyBitmap {
  let bitmaps = logs.get(block);
  if (bitmaps === undefined) {
    bitmaps = CLIENTS.map(() => new DirtyBitmap());
    logs.set(block, bitmaps);
  }
  return bitmaps[client]!;
}

function pagesOf(offset: bigint, size: bigint): { readonly first: number; readonly count: number } {
  const first = offset / PAGE;
  return { first: Number(first), count: Number((offset + size + PAGE - 1n) / PAGE - first) };
}
