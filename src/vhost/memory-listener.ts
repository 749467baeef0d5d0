/**
 * What a vhost back-end should have of guest memory, kept up to date by the sections that come and go.
 *
 * Sections are filtered and folded as QEMU does; a commit folds again only around what changed, so its cost follows the change.
 * It sends nothing: who made the listener is told which regions go and which come.
 */
import { foldSections, isVhostSection, type FoldedSection } from '../memory-devices/vhost-sections.ts';
import type { MemoryListener, MemorySection } from '../memory/listener.ts';
import { SPACE_SIZE } from '../memory/region-description.ts';
import { SortedByAddress } from './frontend-sorted.ts';

/** What a commit did to the regions a back-end should have. Both lists are in address order. */
export interface RegionChange {
  readonly gone: readonly FoldedSection[];
  readonly come: readonly FoldedSection[];
}

interface Touch {
  readonly address: bigint;
  /** What was put there; undefined if it was taken away. */
  readonly section: MemorySection | undefined;
}

export class VhostMemoryListener implements MemoryListener {
  readonly name: string;
  /** As every vhost device: after those who decide what memory there is. */
  readonly priority = 10;
  readonly #onChange: (change: RegionChange) => void;
  readonly #sections = new SortedByAddress((section: MemorySection) => section.offsetWithinAddressSpace);
  readonly #regions = new SortedByAddress((region: FoldedSection) => region.start);
  /** Since the last commit, in order: where sections were taken away or put. */
  #touched: Touch[] = [];
  /** Of the commit at hand: their addresses, sorted. */
  #addresses: readonly bigint[] = [];

  /** @param onChange called at the end of a commit that changed something; what it throws, the commit throws */
  constructor(name: string, onChange: (change: RegionChange) => void) {
    this.name = name;
    this.#onChange = onChange;
  }

  /** What the back-end should have, in address order. */
  get regions(): readonly FoldedSection[] {
    return this.#regions.all;
  }

  /** The first address above all of it. */
  get end(): bigint {
    const last = this.#regions.below(SPACE_SIZE);
    return last === undefined ? 0n : last.start + last.size;
  }

  /** The region with the byte at `address`. */
  regionAt(address: bigint): FoldedSection | undefined {
    const region = this.#regions.below(address + 1n);
    return region !== undefined && address < region.start + region.size ? region : undefined;
  }

  /** Where `size` bytes at a guest address are in the user address space; undefined if no region holds them all. */
  userAddress(guestAddress: bigint, size: number): bigint | undefined {
    const region = this.regionAt(guestAddress);
    if (region === undefined || guestAddress + BigInt(size) > region.start + region.size) return undefined;
    const base = region.section.region.block?.hostAddress;
    return base === undefined ? undefined : base + region.offset + (guestAddress - region.start);
  }

  regionAdd(section: MemorySection): void {
    if (isVhostSection(section)) this.#touched.push({ address: section.offsetWithinAddressSpace, section });
  }

  regionDel(section: MemorySection): void {
    // not by what it is now: a region that has become read-only goes as what it came as
    const address = section.offsetWithinAddressSpace;
    if (this.#sections.get(address) !== undefined) this.#touched.push({ address, section: undefined });
  }

  commit(): void {
    const touched = this.#touched;
    if (touched.length === 0) return;
    this.#touched = [];
    this.#addresses = touched.map(({ address }) => address).sort((a, b) => (a < b ? -1 : Number(a > b)));
    for (const { address, section } of touched) {
      if (section === undefined) this.#sections.delete(address);
      else this.#sections.set(section);
    }
    const gone: FoldedSection[] = [];
    const come: FoldedSection[] = [];
    let settled = -1n;
    for (const address of this.#addresses) {
      if (address < settled) continue;
      settled = this.#foldAround(address, gone, come);
    }
    if (gone.length > 0 || come.length > 0) this.#onChange({ gone, come });
  }

  /**
   * Folds the sections around the lowest address that changed: from the first section of the region below it, which nothing below
   * can change, to the first region above it that begins as before.
   *
   * @returns where the regions are settled up to
   */
  #foldAround(address: bigint, gone: FoldedSection[], come: FoldedSection[]): bigint {
    const start = this.#regions.below(address)?.start ?? address;
    let next = this.#firstUntouched(address);
    for (;;) {
      const end = next?.start ?? SPACE_SIZE;
      const sections = this.#sections.between(start, end);
      const folded = foldSections(next === undefined ? sections : [...sections, next.section]);
      if (next === undefined || folded.pop()?.section === next.section) {
        const before = this.#regions.replace(start, end, folded);
        gone.push(...missing(before, folded));
        come.push(...missing(folded, before));
        return end;
      }
      next = this.#firstUntouched(next.start + 1n); // it now continues the region below it
    }
  }

  /** The first region from `address` on whose first section is the one it was. */
  #firstUntouched(address: bigint): FoldedSection | undefined {
    let region = this.#regions.atOrAbove(address);
    while (region !== undefined && this.#isTouched(region.start))
      region = this.#regions.atOrAbove(region.start + 1n);
    return region;
  }

  #isTouched(address: bigint): boolean {
    const addresses = this.#addresses;
    let low = 0;
    let high = addresses.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (addresses[middle]! < address) low = middle + 1;
      else high = middle;
    }
    return addresses[low] === address;
  }
}

/** The regions of one list that the other does not have. Both are in address order. */
function missing(regions: readonly FoldedSection[], others: readonly FoldedSection[]): FoldedSection[] {
  let next = 0;
  return regions.filter((region) => {
    while (next < others.length && others[next]!.start < region.start) next += 1;
    const other = others[next];
    return other === undefined || !isSame(region, other);
  });
}

const isSame = (a: FoldedSection, b: FoldedSection): boolean =>
  a.start === b.start &&
  a.size === b.size &&
  a.offset === b.offset &&
  a.section.region.block === b.section.region.block;
