/** Feature masks: 64-bit sets of bit numbers. Constants name bits, never masks, as the specifications do. */

/** The mask with these bits set. */
export const maskOf = (...bits: readonly number[]): bigint =>
  bits.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

/** True if `mask` has `bit`. */
export const hasBit = (mask: bigint, bit: number): boolean => ((mask >> BigInt(bit)) & 1n) === 1n;

/** The bit numbers of `mask`, lowest first. */
export const bitsOf = (mask: bigint): readonly number[] =>
  Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => hasBit(mask, bit));
