/** Which sections of guest memory a vhost back-end gets, and how many entries of its table they take. */
import type { MemoryListener, MemorySection } from '../memory/listener.ts';
import type { MemslotConsumer } from './memslot-budget.ts';

/** Whether a section is memory that another process can map: RAM with a descriptor, writable as such. */
export const isVhostSection = ({ region }: MemorySection): boolean =>
  region.isRam && !region.readonly && region.block?.fd !== undefined;

/** Adjoining pieces of one RAM region that are one entry of the table. Offsets are bytes inside the RAM region. */
export interface FoldedSection {
  readonly section: MemorySection;
  readonly start: bigint;
  readonly size: bigint;
  readonly offset: bigint;
}

/**
 * Joins sections that are one piece of the same RAM region. Sections are rounded to pages of that memory for the comparison, so
 * a hole smaller than a huge page disappears; a section that joins nothing keeps its bounds.
 *
 * @param sections in address order
 */
export function foldSections(sections: readonly MemorySection[]): FoldedSection[] {
  const folded: FoldedSection[] = [];
  for (const section of sections) {
    const last = folded.at(-1);
    const joined = last === undefined ? undefined : join(last, section);
    if (joined === undefined) folded.push(unfolded(section));
    else folded[folded.length - 1] = joined;
  }
  return folded;
}

const unfolded = (section: MemorySection): FoldedSection => ({
  section,
  start: section.offsetWithinAddressSpace,
  size: section.size,
  offset: section.offsetWithinRegion,
});

function join(last: FoldedSection, section: MemorySection): FoldedSection | undefined {
  const { section: first } = last;
  if (section.unmergeable || first.unmergeable || section.region !== first.region) return undefined;
  const pageSize = BigInt(section.region.block?.pageSize ?? 1);
  const lead = section.offsetWithinRegion % pageSize;
  const offset = section.offsetWithinRegion - lead;
  const start = section.offsetWithinAddressSpace - lead;
  const size = ((section.size + lead + pageSize - 1n) / pageSize) * pageSize;
  if (start > last.start + last.size || start < last.start) return undefined;
  if (offset - last.offset !== start - last.start) return undefined;
  const end = start + size > last.start + last.size ? start + size : last.start + last.size;
  return { ...last, size: end - last.start };
}

/** Counts the entries a vhost device needs, as a listener of system memory. It sends nothing. */
export class VhostSlotCounter implements MemoryListener, MemslotConsumer {
  readonly name: string;
  readonly limit: number;
  readonly priority = 10;
  readonly #sections = new Map<bigint, MemorySection>();
  #used: number | undefined;

  constructor(name: string, limit: number) {
    this.name = name;
    this.limit = limit;
  }

  get used(): number {
    this.#used ??= foldSections(this.sections).length;
    return this.#used;
  }

  /** What the device gets, before folding, in address order. */
  get sections(): readonly MemorySection[] {
    return [...this.#sections.values()].sort((a, b) =>
      a.offsetWithinAddressSpace < b.offsetWithinAddressSpace ? -1 : 1,
    );
  }

  regionAdd(section: MemorySection): void {
    if (!isVhostSection(section)) return;
    this.#sections.set(section.offsetWithinAddressSpace, section);
    this.#used = undefined;
  }

  regionDel(section: MemorySection): void {
    if (!isVhostSection(section)) return;
    this.#sections.delete(section.offsetWithinAddressSpace);
    this.#used = undefined;
  }
}
