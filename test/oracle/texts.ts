/** Compares what `info mtree` printed with what we print, character by character. */
import type { FlatView } from '../../src/memory/flat-view.ts';
import { printFlatView, printFlatViews, viewsOf } from '../../src/memory/mtree/print-flat.ts';
import { printGroup, printTree, rootsOf } from '../../src/memory/mtree/print-tree.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import type { MemoryTopology } from '../../src/memory/topology.ts';
import { expectSameText } from './recorder.ts';

export interface Texts {
  readonly mtree?: string;
  readonly 'mtree-D'?: string;
  readonly 'mtree-f'?: string;
}

/**
 * Groups come in the order of a hash table; they are put in the recording's order, then everything must be equal. Both texts of
 * the trees have the same order, and `-D` tells more groups apart.
 */
export function checkTexts(topology: MemoryTopology, texts: Texts): void {
  const orderText = texts['mtree-D'] ?? texts.mtree;
  if (orderText !== undefined) {
    const roots = rootsInOrderOf(orderText, topology, texts['mtree-D'] !== undefined);
    for (const [showsDisabled, name] of [
      [false, 'mtree'],
      [true, 'mtree-D'],
    ] as const) {
      const expected = texts[name];
      if (expected !== undefined)
        expectSameText(`info ${name}`, printTree(topology, { showsDisabled, roots }), expected);
    }
  }
  if (texts['mtree-f'] !== undefined) checkFlat(topology, texts['mtree-f']);
}

function rootsInOrderOf(
  text: string,
  topology: MemoryTopology,
  showsDisabled: boolean,
): readonly MemoryRegion[] {
  const groups = groupsOf(text).filter((group) => group.startsWith('address-space:'));
  return inOrderOf(groups, rootsOf(topology), (root) => printGroup(topology, root, { showsDisabled }));
}

function checkFlat(topology: MemoryTopology, expected: string): void {
  const groups = groupsOf(expected).map((group) => group.slice(group.indexOf('\n') + 1));
  const print = (view: FlatView): string => printFlatView(topology, view);
  const views = inOrderOf(groups, viewsOf(topology), print);
  expectSameText('info mtree -f', printFlatViews(topology, { views }), expected);
}

/** Texts that end with a blank line each. */
const groupsOf = (text: string): readonly string[] => text.split(/(?<=\n\n)/);

/** `items` in the order of the texts they print; those that print something else last. */
function inOrderOf<T>(
  texts: readonly string[],
  items: readonly T[],
  print: (item: T) => string,
): readonly T[] {
  const left = items.map((item) => ({ item, text: print(item) }));
  const found = texts.flatMap((text) => {
    const at = left.findIndex((entry) => entry.text === text);
    return at < 0 ? [] : left.splice(at, 1).map(({ item }) => item);
  });
  return [...found, ...left.map(({ item }) => item)];
}
