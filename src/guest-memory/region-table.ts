/**
 * The mapped regions in order of guest physical address.
 *
 * Looks only at numbers: maps nothing, touches no guest memory.
 */
import { RegionColumns } from './region-columns.ts';
import type { MappedRegion } from './region.ts';

export class RegionTable {
  /** In order of guest physical address; the same indexes as the columns. */
  readonly #regions: MappedRegion[] = [];
  readonly #columns = new RegionColumns();

  get count(): number {
    return this.#regions.length;
  }

  get regions(): readonly MappedRegion[] {
    return this.#regions;
  }

  /** @param gpa a number from the guest: anything, also beyond 2^53 or not exact. @returns index, or −1 */
  find(gpa: number): number {
    return this.#columns.find(gpa);
  }

  /** End of the region at `index`: the first guest physical address after it. */
  endOf(index: number): number {
    return this.#columns.ends[index]!;
  }

  /** Address in this process of guest physical address `gpa`, which lies in the region at `index`. */
  addressOf(index: number, gpa: number): number {
    return this.#columns.addresses[index]! + (gpa - this.#columns.starts[index]!);
  }

  /** @returns a region that shares a guest physical address with the range */
  overlapping(gpa: number, size: number): MappedRegion | undefined {
    const next = this.#regions[this.#columns.indexFrom(gpa)];
    if (next !== undefined && next.gpa < gpa + size) return next;
    return this.#regions[this.find(gpa)];
  }

  /** The region that begins at `gpa`; any number, as in `find`. */
  startingAt(gpa: number): MappedRegion | undefined {
    const region = this.#regions[this.find(gpa)];
    return region?.gpa === gpa ? region : undefined;
  }

  /** @param region overlaps none of the table. @returns its index: those from there on have moved */
  insert(region: MappedRegion): number {
    const { gpa, size, address } = region;
    const index = this.#columns.indexFrom(gpa);
    this.#regions.splice(index, 0, region);
    this.#columns.insert(index, gpa, gpa + size, address);
    return index;
  }

  /** @param region one of `regions`. @returns the index it had: those after it have moved */
  remove(region: MappedRegion): number {
    const index = this.find(region.gpa);
    if (index < 0 || this.#regions[index] !== region) throw new RangeError('remove: no region of this table');
    this.#regions.splice(index, 1);
    this.#columns.remove(index);
    return index;
  }
}
