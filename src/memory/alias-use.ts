/** Who shows a region: the aliases of it that are in use. An edit of the region is carried to them. */
import type { MemoryRegion } from './region.ts';

export interface AliasUse {
  /** How often an alias is in use: mapped, the root of an address space, the target of another alias in use. */
  uses: number;
  /** Aliases of the region that are in use themselves. */
  users: Set<MemoryRegion> | undefined;
}

/** An alias is mapped, or becomes the root of an address space: its target learns by whom it is shown. */
export function holdAlias(alias: MemoryRegion): void {
  const { target } = alias;
  if (target === undefined) return;
  alias.aliasUse.uses += 1;
  if (alias.aliasUse.uses > 1) return;
  (target.aliasUse.users ??= new Set()).add(alias);
  holdAlias(target);
}

export function releaseAlias(alias: MemoryRegion): void {
  const { target } = alias;
  if (target === undefined) return;
  alias.aliasUse.uses -= 1;
  if (alias.aliasUse.uses > 0) return;
  target.aliasUse.users?.delete(alias);
  releaseAlias(target);
}
