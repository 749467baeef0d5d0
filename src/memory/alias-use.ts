/**
 * Who shows a region: the aliases of it that are in use. An edit of the region is carried to them.
 *
 * An alias is in use while it is mapped, the root of an address space, or the target of another alias in use.
 */
import type { MemoryRegion } from './region.ts';

/** An alias is mapped, or becomes the root of an address space: its target learns by whom it is shown. */
export function holdAlias(alias: MemoryRegion): void {
  const { target } = alias;
  if (target === undefined) return;
  alias.aliasUses += 1;
  if (alias.aliasUses > 1) return;
  (target.aliasUsers ??= new Set()).add(alias);
  holdAlias(target);
}

export function releaseAlias(alias: MemoryRegion): void {
  const { target } = alias;
  if (target === undefined) return;
  alias.aliasUses -= 1;
  if (alias.aliasUses > 0) return;
  target.aliasUsers?.delete(alias);
  releaseAlias(target);
}
