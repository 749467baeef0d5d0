/**
 * What the FUSE server needs of the memory under it, as interfaces: this area neither maps memory nor makes views.
 *
 * `NativeMemory` of `host` is a Scratch; `GuestMemory` of `guest-memory` is a GuestAddressing.
 */

/** Memory of ours that does not move, reachable by system calls through `address` and by us through the arrays. */
export interface Scratch {
  /** Address in this process. */
  readonly address: number;
  readonly size: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly view: DataView;
}

/** Moves octets between guest memory, given by host address, and scratch. */
export interface ByteAccess {
  /** Zeroed scratch of at least `size` bytes, which lives as long as the process. A set-up step. */
  allocate(size: number): Scratch;
  /** Guest to scratch. The octets are read once; the guest may change them meanwhile. */
  copyIn(to: Scratch, at: number, source: number, size: number): void;
  /** Scratch to guest. */
  copyOut(target: number, from: Scratch, at: number, size: number): void;
}

/** Finds guest memory again after the memory table may have changed, and logs what was written there. */
export interface GuestAddressing {
  /** Bytes contiguous from `gpa` in one region, at most `size`; 0 when unmapped. Sets `lastAddress`. */
  translate(gpa: number, size: number): number;
  /** Host address of the last translation. */
  readonly lastAddress: number;
  readonly isLogging: boolean;
  markDirty(gpa: number, size: number): void;
}
