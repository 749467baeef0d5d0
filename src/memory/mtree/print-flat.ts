/** What `info mtree -f` prints of a topology: its flat views. */
import type { FlatRange } from '../flat-range.ts';
import type { FlatView } from '../flat-view.ts';
import type { MemoryTopology } from '../topology.ts';
import { address16, lastOf, ownerText, rangeTypeName } from './names.ts';

export interface FlatPrintOptions {
  readonly showsOwner?: boolean;
  /** The views in the order to print them. QEMU's is the order of a hash table; ours, without this, that of the spaces. */
  readonly views?: readonly FlatView[];
}

export const printFlatViews = (topology: MemoryTopology, options: FlatPrintOptions = {}): string =>
  (options.views ?? viewsOf(topology))
    .map((view, index) => `FlatView #${index}\n${printFlatView(topology, view, options)}`)
    .join('');

/** One view, without its number. */
export function printFlatView(
  topology: MemoryTopology,
  view: FlatView,
  options: FlatPrintOptions = {},
): string {
  const spaces = topology.addressSpaces
    .filter((space) => space.view === view)
    .map(({ name, root }) => {
      const alias = root.target === undefined ? '' : `, alias ${root.target.name}`;
      return ` AS "${name}", root: ${root.name}${alias}\n`;
    });
  const root = ` Root memory region: ${view.root?.name ?? '(none)'}\n`;
  const lines = view.ranges.map(
    (range) => `  ${rangeText(range)}${options.showsOwner === true ? ownerText(range.region.owner) : ''}\n`,
  );
  return `${spaces.join('')}${root}${lines.length === 0 ? '  No rendered FlatView\n' : lines.join('')}\n`;
}

/** Each view once, by the first address space that has it. */
export const viewsOf = (topology: MemoryTopology): readonly FlatView[] => [
  ...new Set(topology.addressSpaces.map(({ view }) => view)),
];

function rangeText(range: FlatRange): string {
  const { start, end, offset, region } = range;
  const type = `(prio ${region.priority}, ${range.nonvolatile ? 'nv-' : ''}${rangeTypeName(range)})`;
  const bounds = `${address16(start)}-${address16(lastOf(start, end - start))}`;
  return `${bounds} ${type}: ${region.name}${offset === 0n ? '' : ` @${address16(offset)}`}`;
}
