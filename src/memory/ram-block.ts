/** Host memory with an identity. The model only names it; `RamBytes`, where present, is how its bytes are reached. */

/** Reads and writes the bytes of a RAM block. Implemented by whoever maps them; offsets are inside the block. */
export interface RamBytes {
  read(offset: number, into: Uint8Array): void;
  write(offset: number, from: Uint8Array): void;
  /** The bytes themselves, not a copy, where that is possible. */
  view?(offset: number, size: number): Uint8Array;
}

export interface RamBlock {
  /** Unique, such as `pc.ram` or `/objects/mem0`. */
  readonly id: string;
  readonly size: bigint;
  /** Of the memory behind it: 4096, or the huge page size. */
  readonly pageSize: number;
  /** A descriptor that can be shared with another process; borrowed. Absent: memory of this process only. */
  readonly fd?: number;
  /** Where the block begins in the file behind `fd`. */
  readonly fdOffset?: bigint;
  /** Where the block is mapped in the process that owns it; vhost-user's `userspace_addr` is counted from here. */
  readonly hostAddress?: bigint;
  /** Taken along by migration, and so logged by it. */
  readonly isMigratable?: boolean;
  /** Mapped shared: another process sees writes. */
  readonly isShared?: boolean;
  readonly bytes?: RamBytes;
}
