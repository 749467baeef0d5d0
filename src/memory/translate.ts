/** From an address of a space to the region that answers, through any IOMMUs on the way. */
import type { AddressSpace } from './address-space.ts';
import type { FlatRange } from './flat-range.ts';
import { IommuAccess } from './iommu.ts';
import type { MemTxAttrs } from './region-ops.ts';

export interface Translation {
  /** The address space it ends in: not that it began in, if there is an IOMMU. */
  readonly space: AddressSpace;
  /** Undefined: nothing is there, or the IOMMU does not permit it. */
  readonly range: FlatRange | undefined;
  /** The byte of the region. Without a range, meaningless. */
  readonly offset: bigint;
  /** Bytes from here on that are answered alike; at most what was asked for. */
  readonly size: bigint;
}

/** A chain of IOMMUs longer than this is a loop. */
const IOMMU_LIMIT = 16;

export function translate(
  space: AddressSpace,
  address: bigint,
  size: bigint,
  access: { readonly isWrite: boolean; readonly attrs: MemTxAttrs },
): Translation {
  let at = address;
  let left = size;
  let here = space;
  for (let step = 0; step < IOMMU_LIMIT; step += 1) {
    const range = here.view.rangeAt(at);
    if (range === undefined) return hole(here, at, left);
    left = smaller(left, range.end - at);
    const offset = range.offset + (at - range.start);
    const { iommu } = range.region;
    if (iommu === undefined) return { space: here, range, offset, size: left };
    const wanted = access.isWrite ? IommuAccess.WRITE : IommuAccess.READ;
    const entry = iommu.translate(offset, wanted, iommu.attrsToIndex?.(access.attrs) ?? 0);
    const inPage = offset & entry.addressMask;
    left = smaller(left, entry.addressMask + 1n - inPage);
    if ((entry.access & wanted) === 0) return { space: here, range: undefined, offset: 0n, size: left };
    at = (entry.translated & ~entry.addressMask) | inPage;
    here = entry.target;
  }
  return { space: here, range: undefined, offset: 0n, size: left };
}

/** Nothing, up to the next range. */
function hole(space: AddressSpace, address: bigint, size: bigint): Translation {
  const next = space.view.firstIn(address, address + size);
  return { space, range: undefined, offset: 0n, size: next === undefined ? size : next.start - address };
}

const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);
