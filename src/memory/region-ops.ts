/** What a device supplies for a region that is not plain memory: the callbacks of an access, and which accesses it takes. */

/** The outcome of an access. Bits: several can come together when an access was split. */
export const MemTxResult = { OK: 0, ERROR: 1, DECODE_ERROR: 2, ACCESS_ERROR: 4 } as const;
export type MemTxResult = number;

/** Who accesses, as the bus tells it. */
export interface MemTxAttrs {
  readonly requesterId?: number;
  readonly secure?: boolean;
  readonly user?: boolean;
  /** Refuses anything that is not memory: used by devices that must not reach other devices. */
  readonly memory?: boolean;
}

/** The byte order of a device's registers. */
export type Endian = 'little' | 'big';

export interface AccessSizes {
  /** Smallest access, in bytes: 1, 2, 4 or 8. Default 1. */
  readonly min?: number;
  /** Largest access. Default 4, as in QEMU. */
  readonly max?: number;
  /** Whether an address need not be a multiple of the access size. Default false. */
  readonly unaligned?: boolean;
}

export interface RegionOps {
  /** Called with an access of `impl` size. May answer a value, or refuse with a result other than OK. */
  read?(offset: bigint, size: number, attrs: MemTxAttrs): bigint | MemTxRefusal;
  /** @returns nothing, or a result other than OK */
  write?(offset: bigint, value: bigint, size: number, attrs: MemTxAttrs): MemTxResult | void;
  /** Default `little`. */
  readonly endianness?: Endian;
  /** What a guest may do; anything else is refused without a call. */
  readonly valid?: AccessSizes & {
    accepts?(offset: bigint, size: number, isWrite: boolean, attrs: MemTxAttrs): boolean;
  };
  /** What `read` and `write` can do; other accesses are split or widened to these. */
  readonly impl?: AccessSizes;
}

/** A read that failed. */
export interface MemTxRefusal {
  readonly result: MemTxResult;
}
