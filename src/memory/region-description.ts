/** What a region is made from, and the limits of its numbers. */
import { MemoryError } from '../errors.ts';
import { hex } from '../units.ts';
import type { IommuRegion } from './iommu.ts';
import type { RamBlock } from './ram-block.ts';
import type { MemoryRegion } from './region.ts';
import type { RegionOps } from './region-ops.ts';

/** Addresses of a space are 64 bits: this is the size of the largest region and the end of the last. */
export const SPACE_SIZE = 1n << 64n;

/** Who a region belongs to, as `info mtree -o` shows it: a device or another object, by id or else by path. */
export interface RegionOwner {
  readonly kind: 'dev' | 'obj';
  readonly id?: string;
  readonly path?: string;
}

/** What a region is made of. Every kind may have subregions, which lie on top of it; those of an alias are never seen. */
export type RegionDescription = {
  readonly name: string;
  /** Bytes, 0 … 2^64. 2^64 − 1 means 2^64, as in QEMU. */
  readonly size: bigint;
  readonly owner?: RegionOwner;
} & (
  | { readonly kind: 'container' | 'reservation' }
  | { readonly kind: 'io'; readonly ops?: RegionOps }
  | { readonly kind: 'ram' | 'rom' | 'ram-device'; readonly block: RamBlock }
  | { readonly kind: 'rom-device'; readonly block: RamBlock; readonly ops?: RegionOps }
  | { readonly kind: 'iommu'; readonly iommu?: IommuRegion }
  | { readonly kind: 'alias'; readonly target: MemoryRegion; readonly offset?: bigint }
);
export type RegionKind = RegionDescription['kind'];

/** What a region can be besides its kind. The first three are inherited downwards when it is rendered. */
export const RegionFlag = { READONLY: 1, NONVOLATILE: 2, UNMERGEABLE: 4, ROMD_MODE: 8 } as const;

/** Clients of the dirty log, as bit numbers. */
export const DirtyClient = { VGA: 0, CODE: 1, MIGRATION: 2 } as const;
export type DirtyClient = (typeof DirtyClient)[keyof typeof DirtyClient];

/** A size as QEMU takes it: 2^64 − 1 stands for 2^64. @throws {MemoryError} BAD_SIZE */
export function checkedSize(size: bigint): bigint {
  if (size < 0n || size > SPACE_SIZE)
    throw new MemoryError('BAD_SIZE', `${hex(size)} bytes; 0 … 2^64 are possible`);
  return size === SPACE_SIZE - 1n ? SPACE_SIZE : size;
}

/** @throws {MemoryError} SIZE_MISMATCH if a region of this size is larger than its RAM block */
export function checkBlock(
  { name, block }: { name: string; block: RamBlock | undefined },
  size: bigint,
): void {
  if (block === undefined || size <= block.size) return;
  throw new MemoryError('SIZE_MISMATCH', `${name}: ${hex(size)} bytes, its RAM block has ${hex(block.size)}`);
}

/** @throws {MemoryError} BAD_ADDRESS */
export function checkedAddress(address: bigint): bigint {
  if (address < 0n || address >= SPACE_SIZE)
    throw new MemoryError('BAD_ADDRESS', `${hex(address)} is not 64 bits`);
  return address;
}
