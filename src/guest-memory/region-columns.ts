/**
 * Where regions start and end and lie, in columns of numbers: lookup without allocation.
 *
 * Looks only at numbers: maps nothing, touches no guest memory.
 */
const FIRST_CAPACITY = 16;

export class RegionColumns {
  /** Guest physical addresses, ascending; the same indexes in all columns. Zeros behind the last region. */
  starts = new Float64Array(FIRST_CAPACITY);
  ends = new Float64Array(FIRST_CAPACITY);
  /** Addresses of this process. */
  addresses = new Float64Array(FIRST_CAPACITY);
  #count = 0;
  /** Index of the last hit: requests come in runs from one region. */
  #last = 0;

  get count(): number {
    return this.#count;
  }

  /** @param gpa a number from the guest: anything, also beyond 2^53 or not exact. @returns index, or −1 */
  find(gpa: number): number {
    const last = this.#last;
    // Both columns hold zeros behind the last region, which no address is inside of.
    if (gpa >= this.starts[last]! && gpa < this.ends[last]!) return last;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (gpa < this.ends[middle]!) high = middle;
      else low = middle + 1;
    }
    if (low === this.#count || !(gpa >= this.starts[low]!)) return -1;
    this.#last = low;
    return low;
  }

  /** Index of the first region that starts at `gpa` or after. */
  indexFrom(gpa: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle]! >= gpa) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Puts a region in; those from `index` on move up. */
  insert(index: number, start: number, end: number, address: number): void {
    const count = this.#count;
    this.#reserve(count + 1);
    for (const column of [this.starts, this.ends, this.addresses]) column.copyWithin(index + 1, index, count);
    this.set(index, start, end, address);
    this.#count = count + 1;
    this.#last = 0;
  }

  /** Takes a region out; those behind it move down. */
  remove(index: number): void {
    const count = this.#count;
    for (const column of [this.starts, this.ends, this.addresses]) column.copyWithin(index, index + 1, count);
    this.set(count - 1, 0, 0, 0);
    this.#count = count - 1;
    this.#last = 0;
  }

  /** Makes room for `count` regions, which the caller then fills in. */
  resize(count: number): void {
    this.#reserve(count);
    this.#count = count;
    this.#last = 0;
    if (count < this.starts.length) this.set(count, 0, 0, 0);
  }

  set(index: number, start: number, end: number, address: number): void {
    this.starts[index] = start;
    this.ends[index] = end;
    this.addresses[index] = address;
  }

  #reserve(count: number): void {
    while (this.starts.length < count) {
      this.starts = enlarged(this.starts);
      this.ends = enlarged(this.ends);
      this.addresses = enlarged(this.addresses);
    }
  }
}

function enlarged(column: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * column.length);
  larger.set(column);
  return larger;
}
