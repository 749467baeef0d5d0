/**
 * The mapped regions in order of guest physical address, for lookup without allocation.
 *
 * Looks only at numbers: maps nothing, touches no guest memory.
 */
import type { MappedRegion } from './region.ts';

const FIRST_CAPACITY = 16;

export class RegionTable {
  /** In order of guest physical address; the same indexes as the columns below. */
  readonly #regions: MappedRegion[] = [];
  #starts = new Float64Array(FIRST_CAPACITY);
  #ends = new Float64Array(FIRST_CAPACITY);
  #addresses = new Float64Array(FIRST_CAPACITY);
  #count = 0;
  /** Index of the last hit: requests come in runs from one region. */
  #last = 0;

  get count(): number {
    return this.#count;
  }

  get regions(): readonly MappedRegion[] {
    return this.#regions;
  }

  /** @param gpa a number from the guest: anything, also beyond 2^53 or not exact. @returns index, or −1 */
  find(gpa: number): number {
    const last = this.#last;
    // Both columns hold zeros behind the last region, which no address is inside of.
    if (gpa >= this.#starts[last]! && gpa < this.#ends[last]!) return last;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (gpa < this.#ends[middle]!) high = middle;
      else low = middle + 1;
    }
    if (low === this.#count || !(gpa >= this.#starts[low]!)) return -1;
    this.#last = low;
    return low;
  }

  /** End of the region at `index`: the first guest physical address after it. */
  endOf(index: number): number {
    return this.#ends[index]!;
  }

  /** Address in this process of guest physical address `gpa`, which lies in the region at `index`. */
  addressOf(index: number, gpa: number): number {
    return this.#addresses[index]! + (gpa - this.#starts[index]!);
  }

  /** @returns a region that shares a guest physical address with the range */
  overlapping(gpa: number, size: number): MappedRegion | undefined {
    const next = this.#regions[this.#insertionIndex(gpa)];
    if (next !== undefined && next.gpa < gpa + size) return next;
    return this.#regions[this.find(gpa)];
  }

  /** @param region overlaps none of the table */
  insert(region: MappedRegion): void {
    const index = this.#insertionIndex(region.gpa);
    if (this.#count === this.#starts.length) this.#enlarge();
    this.#regions.splice(index, 0, region);
    this.#count++;
    this.#fillFrom(index);
  }

  /** @param region one of `regions` */
  remove(region: MappedRegion): void {
    const index = this.#regions.indexOf(region);
    if (index < 0) throw new RangeError('remove: no region of this table');
    this.#regions.splice(index, 1);
    this.#count--;
    this.#fillFrom(index);
  }

  /** Index of the first region that starts at `gpa` or after. */
  #insertionIndex(gpa: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#starts[middle]! >= gpa) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #enlarge(): void {
    this.#starts = enlarged(this.#starts);
    this.#ends = enlarged(this.#ends);
    this.#addresses = enlarged(this.#addresses);
  }

  /** Writes the columns anew from `index` on, and zeros behind them. */
  #fillFrom(index: number): void {
    for (let i = index; i < this.#count; i++) {
      const { gpa, size, address } = this.#regions[i]!;
      this.#starts[i] = gpa;
      this.#ends[i] = gpa + size;
      this.#addresses[i] = address;
    }
    if (this.#count < this.#starts.length) {
      this.#starts[this.#count] = 0;
      this.#ends[this.#count] = 0;
      this.#addresses[this.#count] = 0;
    }
    this.#last = 0;
  }
}

function enlarged(column: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * column.length);
  larger.set(column);
  return larger;
}
