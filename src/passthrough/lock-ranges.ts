/**
 * Who in the guest holds which range lock on one file: what the host's kernel knows only as "another open file".
 * It names the holder's process to F_GETLK, and finds circles of waiting. Pure bookkeeping.
 *
 * Ranges are inclusive at both ends here, as in `fuse_file_lock`.
 */

/** Identity of a lock owner: all 64 bits, as text. */
export type Owner = string;

export interface LockRange {
  readonly owner: Owner;
  /** Process in the guest. */
  readonly pid: number;
  readonly isWrite: boolean;
  readonly start: bigint;
  readonly end: bigint;
}

export class LockRanges {
  #ranges: LockRange[] = [];

  /** The owner's lock now covers the range, whatever of its own was there. */
  set(range: LockRange): void {
    this.clear(range.owner, range.start, range.end);
    this.#ranges.push(range);
  }

  /** The owner has no lock on the range any more. */
  clear(owner: Owner, start: bigint, end: bigint): void {
    this.#ranges = this.#ranges.flatMap((range) =>
      range.owner === owner ? without(range, start, end) : [range],
    );
  }

  /** Somebody else's lock that is in the way of this one. */
  conflict(wanted: LockRange): LockRange | undefined {
    return this.#ranges.find(
      (held) =>
        held.owner !== wanted.owner &&
        (held.isWrite || wanted.isWrite) &&
        held.start <= wanted.end &&
        wanted.start <= held.end,
    );
  }
}

function without(range: LockRange, start: bigint, end: bigint): LockRange[] {
  if (range.end < start || end < range.start) return [range];
  const left: LockRange[] = [];
  if (range.start < start) left.push({ ...range, end: start - 1n });
  if (range.end > end) left.push({ ...range, start: end + 1n });
  return left;
}
