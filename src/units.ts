/** Sizes and the two kinds of guest address. They are distinct types, so passing one for the other does not compile. */

declare const gpaTag: unique symbol;
declare const uvaTag: unique symbol;
declare const hostTag: unique symbol;

/** A guest physical address, in bytes; always a safe integer (< 2^53). */
export type Gpa = number & { readonly [gpaTag]: true };
/** An address in the front-end's address space (`userspace_addr`), 64 bits: never an address of this process. */
export type Uva = bigint & { readonly [uvaTag]: true };
/** An address in this process, as passed to system calls. A safe integer. */
export type HostAddress = number & { readonly [hostTag]: true };

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

/** Marks a number as a guest physical address. The caller has checked that it is a safe integer. */
export const gpa = (address: number): Gpa => address as Gpa;
/** Marks a 64-bit value as a front-end address. */
export const uva = (address: bigint): Uva => address as Uva;
/** Marks a number as an address of this process. */
export const hostAddress = (address: number): HostAddress => address as HostAddress;

/** An address or size for humans: hexadecimal. */
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
