/** Sizes in bytes, and how addresses are shown. */

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

/** An address or size for humans: hexadecimal. */
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
