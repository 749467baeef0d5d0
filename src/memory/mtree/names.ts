/** The words of `info mtree`. */
import type { FlatRange } from '../flat-range.ts';
import type { MemoryRegion } from '../region.ts';
import type { RegionOwner } from '../region-description.ts';

/** What a line calls the kind of a region: containers, IOMMUs and ROM devices that trap are all `i/o`. */
export type TypeName = 'ramd' | 'romd' | 'rom' | 'ram' | 'i/o';

/** An alias is of its target's type; its own readonly does not show. */
export function typeName(region: MemoryRegion): TypeName {
  let shown = region;
  while (shown.target !== undefined) shown = shown.target;
  if (shown.kind === 'ram-device') return 'ramd';
  if (shown.kind === 'rom-device' && shown.romdMode) return 'romd';
  if (!shown.isRam) return 'i/o';
  return shown.readonly ? 'rom' : 'ram';
}

/** In a flat view everything that cannot be written is `rom`. */
export const rangeTypeName = (range: FlatRange): TypeName =>
  range.readonly ? 'rom' : typeName(range.region);

/** ` owner:{dev id=vm0}`; an object that is no device is called the parent. */
export function ownerText(owner: RegionOwner | undefined): string {
  if (owner === undefined) return '';
  const word = owner.kind === 'dev' ? 'owner' : 'parent';
  return ` ${word}:{${owner.kind} ${owner.id === undefined ? `path=${owner.path ?? ''}` : `id=${owner.id}`}}`;
}

/** 16 hexadecimal digits. */
export const address16 = (address: bigint): string =>
  BigInt.asUintN(64, address).toString(16).padStart(16, '0');

/** The last byte of `size` bytes at `start`, as printed: sizes 0 and 1 look alike. */
export const lastOf = (start: bigint, size: bigint): bigint =>
  BigInt.asUintN(64, start + (size > 0n ? size - 1n : 0n));
