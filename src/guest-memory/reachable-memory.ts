/** Guest memory as those see it who serve requests: found, reached, marked dirty; never changed. */
export interface ReachableMemory {
  /** Where the last `translate` that found something starts in this process. */
  readonly lastAddress: number;
  /** Bytes contiguous from `gpa` in one region, at most `size`; 0 when unmapped. Sets `lastAddress`. */
  translate(gpa: number, size: number): number;
  /** The address of front-end memory in this process, or −1 if no region holds the whole range. */
  resolveUva(uva: bigint, size: number): number;
  /** A view for a ring, which may be kept: it stays safe to access whatever happens to the region. */
  ringView(address: number, size: number): DataView<ArrayBuffer>;
  /** Permanent 32-bit words that include the one at `address`. Sets `lastWordsAddress`. */
  wordsAround(address: number): Uint32Array;
  readonly lastWordsAddress: number;
  readonly isLogging: boolean;
  /** Marks the pages of a range dirty, after the bytes were written; does nothing while there is no log. */
  markDirty(gpa: number, size: number): void;
}
