/** What `info mtree` prints of a topology: its region trees. */
import type { MemoryRegion } from '../region.ts';
import type { MemoryTopology } from '../topology.ts';
import { address16, lastOf, ownerText, typeName } from './names.ts';

export interface TreePrintOptions {
  /** `-D`: disabled regions, too. */
  readonly showsDisabled?: boolean;
  /** `-o`: whom regions belong to. */
  readonly showsOwner?: boolean;
  /** The roots in the order to print them. QEMU's is the order of a hash table; ours, without this, that of creation. */
  readonly roots?: readonly MemoryRegion[];
}

export function printTree(topology: MemoryTopology, options: TreePrintOptions = {}): string {
  const printer = new TreePrinter(options);
  for (const root of options.roots ?? rootsOf(topology)) printer.printGroup(spaceNames(topology, root), root);
  printer.printSections();
  return printer.text;
}

/** The tree of one root and the names of its address spaces, as `printTree` prints it in its place. */
export function printGroup(
  topology: MemoryTopology,
  root: MemoryRegion,
  options: TreePrintOptions = {},
): string {
  const printer = new TreePrinter(options);
  printer.printGroup(spaceNames(topology, root), root);
  return printer.text;
}

/** Each root once, by the first address space that has it. */
export const rootsOf = (topology: MemoryTopology): readonly MemoryRegion[] => [
  ...new Set(topology.addressSpaces.map(({ root }) => root)),
];

const spaceNames = (topology: MemoryTopology, root: MemoryRegion): readonly string[] =>
  topology.addressSpaces
    .filter((space) => space.root === root)
    .map(({ name }) => name)
    .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));

class TreePrinter {
  readonly #options: TreePrintOptions;
  /** Targets of aliases, in the order lines name them; each is printed as a section of its own. */
  readonly #targets = new Set<MemoryRegion>();
  text = '';

  constructor(options: TreePrintOptions) {
    this.#options = options;
  }

  printGroup(names: readonly string[], root: MemoryRegion): void {
    for (const name of names) this.text += `address-space: ${name}\n`;
    this.#print(root, 1, 0n);
    this.text += '\n';
  }

  printSections(): void {
    // printing a section may name more
    for (const target of this.#targets) {
      this.text += `memory-region: ${target.name}\n`;
      this.#print(target, 1, 0n);
      this.text += '\n';
    }
  }

  #print(region: MemoryRegion, level: number, base: bigint): void {
    const start = BigInt.asUintN(64, base + region.address);
    const last = lastOf(start, region.size);
    if (start < base || last < start) this.text += '[DETECTED OVERFLOW!] ';
    if (region.target !== undefined) this.#targets.add(region.target);
    if (region.enabled || this.#options.showsDisabled === true) {
      const owner = this.#options.showsOwner === true ? ownerText(region.owner) : '';
      this.text += `${'  '.repeat(level)}${address16(start)}-${address16(last)} ${describe(region)}${owner}\n`;
    }
    for (const child of inPrintOrder(region.subregions)) this.#print(child, level + 1, start);
  }
}

function describe(region: MemoryRegion): string {
  const { target, aliasOffset } = region;
  const type = `(prio ${region.priority}, ${region.nonvolatile ? 'nv-' : ''}${typeName(region)})`;
  const disabled = region.enabled ? '' : ' [disabled]';
  if (target === undefined) return `${type}: ${region.name}${disabled}`;
  const shown = `${address16(aliasOffset)}-${address16(lastOf(aliasOffset, region.size))}`;
  return `${type}: alias ${region.name} @${target.name} ${shown}${disabled}`;
}

/** By address, then priority, then as they lie on each other. */
const inPrintOrder = (subregions: readonly MemoryRegion[]): readonly MemoryRegion[] =>
  [...subregions].sort((a, b) =>
    a.address === b.address ? b.priority - a.priority : a.address < b.address ? -1 : 1,
  );
