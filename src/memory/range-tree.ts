/**
 * The flat ranges of a view, sorted by address: a persistent B+ tree. Replacing a few ranges copies one path and shares the rest,
 * so an old view stays what it was, and costs O(log n + replaced).
 *
 * Each node keeps the starts of its entries as doubles beside them: a search then stays in one or two cache lines of a node. A double
 * is exact below 2^53; where it equals what is sought, the exact addresses decide.
 */
import type { FlatRange } from './flat-range.ts';

interface Leaf {
  readonly isLeaf: true;
  readonly start: bigint;
  readonly keys: readonly number[];
  readonly entries: readonly FlatRange[];
}
interface Branch {
  readonly isLeaf: false;
  readonly start: bigint;
  readonly keys: readonly number[];
  readonly entries: readonly Node[];
}
type Node = Leaf | Branch;
type Entry = FlatRange | Node;

const FANOUT = 32;
/** A node with fewer entries is joined with a neighbour. */
const SPARSE = 8;

export class RangeTree {
  static readonly EMPTY = new RangeTree(undefined);

  readonly #root: Node | undefined;

  private constructor(root: Node | undefined) {
    this.#root = root;
  }

  static from(ranges: readonly FlatRange[]): RangeTree {
    return RangeTree.#over(cutLeaves(ranges, keysOf(ranges)));
  }

  /** The last range that begins at or before `address`. */
  floor(address: bigint): FlatRange | undefined {
    let node = this.#root;
    if (node === undefined || node.start > address) return undefined;
    const key = Number(address);
    while (!node.isLeaf) node = node.entries[lastAtOrBefore(node, key, address)]!;
    return node.entries[lastAtOrBefore(node, key, address)];
  }

  /** The first range that begins after `address`. */
  after(address: bigint): FlatRange | undefined {
    const key = Number(address);
    let node = this.#root;
    let next: Entry | undefined;
    while (node !== undefined) {
      const index: number = lastAtOrBefore(node, key, address);
      next = node.entries[index + 1] ?? next;
      node = node.isLeaf || index < 0 ? undefined : node.entries[index];
    }
    while (next !== undefined && 'entries' in next) next = next.entries[0];
    return next;
  }

  /** All ranges, in order. */
  all(): FlatRange[] {
    const found: FlatRange[] = [];
    if (this.#root !== undefined) collect(this.#root, found);
    return found;
  }

  /** The ranges that overlap [start, end) or touch its ends. */
  touching(start: bigint, end: bigint): FlatRange[] {
    const found: FlatRange[] = [];
    if (this.#root !== undefined) collectTouching(this.#root, Number(start), start, end, found);
    return found;
  }

  /** The tree with `after` in place of `before`: neighbours in the tree, perhaps none, and what fits where they were. */
  replace(before: readonly FlatRange[], after: readonly FlatRange[]): RangeTree {
    const start = before[0]?.start ?? after[0]?.start;
    if (start === undefined) return this;
    if (this.#root === undefined) return RangeTree.from(after);
    const end = before.at(-1)?.end ?? start;
    return RangeTree.#over(replaceIn(this.#root, { start, end, ranges: after }));
  }

  static #over(level: readonly Node[]): RangeTree {
    let nodes = level;
    while (nodes.length > 1) nodes = cutBranches(nodes, keysOf(nodes));
    let root = nodes[0];
    while (root !== undefined && !root.isLeaf && root.entries.length === 1) root = root.entries[0];
    return root === undefined ? RangeTree.EMPTY : new RangeTree(root);
  }
}

/** The index of the last entry that begins at or before `address`, whose double is `key`; −1 if there is none. */
function lastAtOrBefore({ keys, entries }: Node, key: number, address: bigint): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! <= key) low = middle + 1;
    else high = middle;
  }
  let index = low - 1;
  while (index >= 0 && keys[index] === key && entries[index]!.start > address) index -= 1;
  return index;
}

/** The index of the first entry that does not begin before `address`. */
function firstAtOrAfter(node: Node, key: number, address: bigint): number {
  const index = lastAtOrBefore(node, key, address);
  return index >= 0 && node.keys[index] === key && node.entries[index]!.start === address ? index : index + 1;
}

function collect(node: Node, into: FlatRange[]): void {
  if (node.isLeaf) into.push(...node.entries);
  else for (const child of node.entries) collect(child, into);
}

function collectTouching(node: Node, key: number, start: bigint, end: bigint, into: FlatRange[]): void {
  let index = Math.max(0, firstAtOrAfter(node, key, start) - 1);
  if (node.isLeaf) {
    for (; index < node.entries.length; index += 1) {
      const range = node.entries[index]!;
      if (range.start > end) return;
      if (range.end >= start) into.push(range);
    }
    return;
  }
  for (; index < node.entries.length; index += 1) {
    const child = node.entries[index]!;
    if (child.start > end) return;
    collectTouching(child, key, start, end, into);
  }
}

interface Replacement {
  /** Ranges that begin in [start, end) go. */
  readonly start: bigint;
  readonly end: bigint;
  readonly ranges: readonly FlatRange[];
}

/** @returns what takes the place of `node`: nodes of its level, perhaps none */
function replaceIn(node: Node, replacement: Replacement): readonly Node[] {
  const { start, end, ranges } = replacement;
  const from = firstAtOrAfter(node, Number(start), start);
  const to = end === start ? from : firstAtOrAfter(node, Number(end), end);
  if (node.isLeaf) {
    return cutLeaves(spliced(node.entries, from, to, ranges), spliced(node.keys, from, to, keysOf(ranges)));
  }
  const { entries, keys } = node;
  // the child before the first that begins in the range may reach into it
  const isExact = from < entries.length && entries[from]!.start === start;
  const first = isExact ? from : Math.max(0, from - 1);
  const last = Math.max(first, to - 1);
  let replaced = replaceIn(entries[first]!, replacement);
  if (last > first) replaced = [...replaced, ...replaceIn(entries[last]!, { start, end, ranges: [] })];
  const all = spliced(entries, first, last + 1, replaced);
  const isSparse = joinSparse(all, first, first + replaced.length);
  return cutBranches(all, isSparse ? keysOf(all) : spliced(keys, first, last + 1, keysOf(replaced)));
}

/** `list` with `items` in place of [from, to). */
const spliced = <T>(list: readonly T[], from: number, to: number, items: readonly T[]): T[] =>
  list.toSpliced(from, to - from, ...items);

/** Joins nodes that became too small, among those at [from, to), with a neighbour. @returns whether there were any */
function joinSparse(nodes: Node[], from: number, to: number): boolean {
  let isChanged = false;
  for (let index = Math.min(to, nodes.length) - 1; index >= from; index -= 1) {
    if (nodes[index]!.entries.length >= SPARSE || nodes.length === 1) continue;
    const left = index > 0 ? index - 1 : index;
    nodes.splice(left, 2, ...joined(nodes[left]!, nodes[left + 1]!));
    isChanged = true;
  }
  return isChanged;
}

function joined(a: Node, b: Node): readonly Node[] {
  const keys = [...a.keys, ...b.keys];
  if (a.isLeaf && b.isLeaf) return cutLeaves([...a.entries, ...b.entries], keys);
  if (!a.isLeaf && !b.isLeaf) return cutBranches([...a.entries, ...b.entries], keys);
  throw new TypeError('nodes of different levels');
}

const leaf = (entries: readonly FlatRange[], keys: readonly number[]): Leaf => ({
  isLeaf: true,
  start: entries[0]!.start,
  keys,
  entries,
});

const branch = (entries: readonly Node[], keys: readonly number[]): Branch => ({
  isLeaf: false,
  start: entries[0]!.start,
  keys,
  entries,
});

const cutLeaves = (entries: readonly FlatRange[], keys: readonly number[]): readonly Leaf[] =>
  entries.length <= FANOUT && entries.length > 0 ? [leaf(entries, keys)] : cut(entries, keys, leaf);

const cutBranches = (entries: readonly Node[], keys: readonly number[]): readonly Branch[] =>
  entries.length <= FANOUT && entries.length > 0 ? [branch(entries, keys)] : cut(entries, keys, branch);

/** Nodes of even size, at most FANOUT. */
function cut<E, N>(
  entries: readonly E[],
  keys: readonly number[],
  make: (entries: readonly E[], keys: readonly number[]) => N,
): readonly N[] {
  const pieces = Math.ceil(entries.length / (FANOUT * 0.75));
  return Array.from({ length: pieces }, (_, index) => {
    const from = Math.floor((index * entries.length) / pieces);
    const to = Math.floor(((index + 1) * entries.length) / pieces);
    return make(entries.slice(from, to), keys.slice(from, to));
  });
}

function keysOf(entries: readonly { readonly start: bigint }[]): number[] {
  const keys: number[] = [];
  for (let index = 0; index < entries.length; index += 1) keys.push(Number(entries[index]!.start));
  return keys;
}
