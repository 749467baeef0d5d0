/**
 * Which parts of which views an edit can have changed.
 *
 * An edit is noted as a range of one region. At commit the range is carried upwards, through containers and through the aliases
 * that show the region, clipped at every level as rendering would, until it reaches the regions that views are rendered from.
 */
import type { MemoryRegion } from './region.ts';
import { SPACE_SIZE } from './region-description.ts';

/** [start, end): of a region, or of a view. */
export interface Interval {
  readonly start: bigint;
  readonly end: bigint;
}

interface Edit extends Interval {
  readonly region: MemoryRegion;
}

/** More steps than this are dearer than rendering anew. */
const STEP_LIMIT = 20_000;

/** The edits since the last commit. */
export class Damage {
  #edits: Edit[] = [];
  #everything = false;

  note(region: MemoryRegion, start: bigint, end: bigint): void {
    if (start < end && !this.#everything) this.#edits.push({ region, start, end });
  }

  /** Something changed that shows everywhere. */
  noteEverything(): void {
    this.#everything = true;
    this.#edits = [];
  }

  clear(): void {
    this.#everything = false;
    this.#edits = [];
  }

  /**
   * What must be painted anew of each view root.
   *
   * @param isViewRoot whether a view is rendered from the region
   * @returns undefined: everything
   */
  perView(isViewRoot: (region: MemoryRegion) => boolean): Map<MemoryRegion, Interval[]> | undefined {
    if (this.#everything) return undefined;
    const perView = new Map<MemoryRegion, Interval[]>();
    const pending = this.#edits;
    this.#edits = [];
    // what the edit itself named counts even if it is disabled now; what lies above must be enabled
    const direct = pending.length;
    for (let index = 0; index < pending.length; index += 1) {
      if (index > STEP_LIMIT + direct) return undefined;
      const { region, start, end } = pending[index]!;
      if (index >= direct && !region.enabled) continue;
      if (isViewRoot(region)) addTo(perView, region, start + region.address, end + region.address);
      carryUp(region, start, end, pending);
    }
    return perView;
  }
}

function carryUp(region: MemoryRegion, start: bigint, end: bigint, pending: Edit[]): void {
  const { container } = region;
  if (container !== undefined) {
    pushClipped(pending, container, start + region.address, end + region.address);
  }
  const { aliasUsers } = region;
  if (aliasUsers !== undefined) {
    for (const alias of aliasUsers) {
      pushClipped(pending, alias, start - alias.aliasOffset, end - alias.aliasOffset);
    }
  }
}

function pushClipped(pending: Edit[], region: MemoryRegion, start: bigint, end: bigint): void {
  const from = start > 0n ? start : 0n;
  const to = end < region.size ? end : region.size;
  if (from < to) pending.push({ region, start: from, end: to });
}

function addTo(perView: Map<MemoryRegion, Interval[]>, root: MemoryRegion, start: bigint, end: bigint): void {
  const to = end < SPACE_SIZE ? end : SPACE_SIZE;
  if (start >= to) return;
  const intervals = perView.get(root);
  if (intervals === undefined) perView.set(root, [{ start, end: to }]);
  else intervals.push({ start, end: to });
}

/** Sorted, with overlapping and touching intervals joined. */
export function united(intervals: readonly Interval[]): Interval[] {
  if (intervals.length < 2) return [...intervals];
  const result: Interval[] = [];
  for (const next of [...intervals].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))) {
    const last = result.at(-1);
    if (last === undefined || next.start > last.end) result.push(next);
    else if (next.end > last.end) result[result.length - 1] = { start: last.start, end: next.end };
  }
  return result;
}
