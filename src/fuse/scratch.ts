/**
 * What the FUSE server needs of the memory under it, as interfaces: this area neither maps memory nor makes views.
 *
 * `NativeMemory` of `host` is a Scratch; `GuestMemory` of `guest-memory` is a GuestAccess.
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

/** What the server needs of the machine: `NativeMemory.allocate` and `copyMemory` of `host`. */
export interface HostMemory {
  /** Zeroed scratch of at least `size` bytes, which lives as long as the thread. A set-up step. */
  allocate(size: number): Scratch;
  /** memcpy between addresses of this process. */
  copy(target: number, source: number, size: number): void;
}

/** What the server needs of guest memory; `GuestMemory` has it. */
export interface GuestAccess {
  /** Bytes contiguous from `gpa` in one region, at most `size`; 0 when unmapped. Sets `lastAddress`. */
  translate(gpa: number, size: number): number;
  /** Host address of the last translation. */
  readonly lastAddress: number;
  /** Permanent 32-bit words that include host `address`; may end before the region does. Sets `lastWordsAddress`. */
  wordsAround(address: number): Uint32Array;
  /** Host address of the first word that `wordsAround` answered. */
  readonly lastWordsAddress: number;
  readonly isLogging: boolean;
  /** Marks guest pages written, for live migration. */
  markDirty(gpa: number, size: number): void;
}
