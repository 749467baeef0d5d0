/**
 * A topology from the text of `info mtree`. The text does not say everything (memory-model.md § 6): what is missing is guessed, and
 * every kind of guess that was made is reported.
 */
import { MemoryError } from '../../errors.ts';
import type { MemoryRegion } from '../region.ts';
import type { RegionDescription } from '../region-description.ts';
import { MemoryTopology } from '../topology.ts';
import type { TreeText } from './parse.ts';
import { canonical, nodesOf, type TreeNode } from './tree-nodes.ts';

export interface BuiltTree {
  readonly topology: MemoryTopology;
  /** What the text does not say, and was decided, in words; no text twice. */
  readonly guesses: readonly string[];
}

export function buildTopology(text: TreeText): BuiltTree {
  const guesses = new Set<string>();
  const builder = new Builder((guess) => guesses.add(guess));
  const nodes = nodesOf(text, (guess) => guesses.add(guess));
  const { topology } = builder;
  topology.begin();
  const trees = [...nodes.spaces, ...nodes.sections];
  for (const { root } of trees) builder.create(root);
  for (const { root } of trees) builder.mapChildren(root);
  topology.commit();
  for (const { names, root } of nodes.spaces) {
    for (const name of names) topology.createAddressSpace(name, builder.create(root));
  }
  return { topology, guesses: [...guesses] };
}

class Builder {
  readonly topology = new MemoryTopology();
  readonly #guess: (text: string) => void;
  readonly #regions = new Map<TreeNode, MemoryRegion>();
  readonly #mapped = new Set<TreeNode>();
  readonly #open = new Set<TreeNode>();

  constructor(guess: (text: string) => void) {
    this.#guess = guess;
  }

  create(printed: TreeNode): MemoryRegion {
    const node = canonical(printed);
    const known = this.#regions.get(node);
    if (known !== undefined) return known;
    if (this.#open.has(node)) throw new MemoryError('BAD_TREE', `${node.line.name} is an alias of itself`);
    this.#open.add(node);
    const region = this.topology.createRegion(this.#describe(node));
    this.#open.delete(node);
    this.#regions.set(node, region);
    this.#setAttributes(region, node);
    return region;
  }

  mapChildren(printed: TreeNode): void {
    const node = canonical(printed);
    if (this.#mapped.has(node)) return;
    this.#mapped.add(node);
    const region = this.create(node);
    this.#reportOverlaps(node);
    // of overlapping siblings with one priority the first printed lies on top, so it is mapped last
    for (const child of node.children.toReversed()) {
      this.mapChildren(child);
      const subregion = this.create(child);
      if (subregion.container !== undefined) continue;
      try {
        region.addSubregion(child.address, subregion, child.line.priority);
      } catch (error) {
        if (!(error instanceof MemoryError)) throw error;
        this.#guess(`${child.line.name} in ${node.line.name} is left out: ${error.message}`);
      }
    }
  }

  #setAttributes(region: MemoryRegion, { line, isHidden, address }: TreeNode): void {
    if (line.isDisabled || isHidden) region.setEnabled(false);
    if (isHidden)
      this.#guess(
        `${line.name} is taken to be inside a disabled region that is not printed: use info mtree -D`,
      );
    if (line.nonvolatile) region.setNonvolatile(true);
    region.setAddress(address);
    if (line.target === undefined) return;
    if (/^memslot-\d+$/.test(line.name)) {
      region.setUnmergeable(true);
      this.#guess('aliases called memslot-N are unmergeable');
    }
    if (READONLY_ALIASES.test(line.name)) {
      region.setReadonly(true);
      this.#guess(`alias ${line.name} is readonly, by its name`);
    }
  }

  #describe(node: TreeNode): RegionDescription {
    const { line, size, children, target } = node;
    const common = { name: line.name, size, ...(line.owner === undefined ? {} : { owner: line.owner }) };
    const block = { id: line.name, size: 1n << 64n, pageSize: 4096 };
    if (size === 1n && !line.isDisabled) this.#guess('regions that could have no byte or one have one');
    if (line.target !== undefined) {
      if (target === undefined)
        throw new MemoryError('BAD_TREE', `no section "memory-region: ${line.target.name}"`);
      return { ...common, kind: 'alias', target: this.create(target), offset: line.target.offset };
    }
    const kind = MEMORY_KINDS[line.type];
    if (kind !== undefined) return { ...common, kind, block };
    if (children.length === 0) return { ...common, kind: 'io' };
    this.#guess('i/o regions with subregions are containers, those without answer themselves');
    return { ...common, kind: 'container' };
  }

  /** Siblings of one priority that overlap: the text does not say which was mapped last. */
  #reportOverlaps({ line, children }: TreeNode): void {
    for (const [index, a] of children.entries()) {
      const b = children.find(
        (other, at) =>
          at > index &&
          other.line.priority === a.line.priority &&
          other.address !== a.address &&
          other.address < a.address + a.size &&
          !other.line.isDisabled &&
          !a.line.isDisabled,
      );
      if (b !== undefined)
        this.#guess(`in ${line.name}, ${a.line.name} lies on ${b.line.name}: printed first`);
    }
  }
}

const MEMORY_KINDS = {
  ram: 'ram',
  rom: 'rom',
  ramd: 'ram-device',
  romd: 'rom-device',
  'i/o': undefined,
} as const;

/** Aliases that QEMU makes readonly. */
const READONLY_ALIASES = /^(pam-rom|isa-bios)$/;
