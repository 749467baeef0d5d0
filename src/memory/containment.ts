/**
 * Which region the tree shows through which. An alias may show what it lies in, somewhere else (real machines mirror their buses
 * so): that ends, because each round is clipped further. These questions find such loops; `render.ts` says whether they end.
 */
import type { MemoryRegion } from './region.ts';

/** Longer chains of levels that add nothing are loops of empty regions. */
const LEVEL_LIMIT = 1000;

/** Whether `region` is `outer` or lies in it, by containers alone. */
export function isInside(region: MemoryRegion, outer: MemoryRegion): boolean {
  for (let at: MemoryRegion | undefined = region; at !== undefined; at = at.container)
    if (at === outer) return true;
  return false;
}

/** Whether mapping `child` in `container` makes some region show itself: whether `child` reaches `container` already. */
export function isShownBy(child: MemoryRegion, container: MemoryRegion): boolean {
  // what the child shows: itself, its target, the target of that …
  let last = child;
  for (; last.target !== undefined; last = last.target) if (last === container) return true;
  if (last === container) return true;
  if (last.subregionIndex?.isEmpty !== false) return false;
  const shown = new Set<MemoryRegion>([child]);
  for (let at = child.target; at !== undefined; at = at.target) shown.add(at);
  const seen = new Set<MemoryRegion>([container]);
  for (const region of seen) {
    if (shown.has(region)) return true;
    if (region.container !== undefined) seen.add(region.container);
    const { aliasUsers } = region;
    if (aliasUsers !== undefined) for (const alias of aliasUsers) seen.add(alias);
  }
  return false;
}

/**
 * The region a view of `root` is rendered from. Levels that add nothing are skipped, so that address spaces that look alike
 * share one view; what those levels say about readonly, nonvolatile and unmergeable is lost on the way, as in QEMU.
 *
 * @returns undefined: nothing is enabled, the view is the empty one
 */
export function viewRootOf(root: MemoryRegion): MemoryRegion | undefined {
  let region = root;
  for (let level = 0; region.enabled && level < LEVEL_LIMIT; level += 1) {
    let next: MemoryRegion | undefined;
    if (region.target !== undefined) {
      if (region.aliasOffset === 0n && region.size >= region.target.size) next = region.target;
    } else if (!region.terminates) {
      const children = region.subregionIndex;
      if (children === undefined || children.enabledCount === 0) return undefined;
      const child = children.onlyEnabled;
      if (child !== undefined && child.address === 0n && region.size >= child.size) next = child;
    }
    if (next === undefined) return region;
    region = next;
  }
  return undefined;
}
