/**
 * The flat ranges of a view, sorted by address: a persistent B+ tree. Replacing a few ranges copies one path and shares the rest,
 * so an old view stays what it was, and costs O(log n + replaced).
 */
import type { FlatRange } from './flat-range.ts';

interface Leaf {
  readonly isLeaf: true;
  readonly start: bigint;
  readonly entries: readonly FlatRange[];
}
interface Branch {
  readonly isLeaf: false;
  readonly start: bigint;
  readonly entries: readonly Node[];
}
type Node = Leaf | Branch;

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
    return RangeTree.#over(leavesOf(ranges));
  }

  /** The last range that begins at or before `address`. */
  floor(address: bigint): FlatRange | undefined {
    let node = this.#root;
    if (node === undefined || node.start > address) return undefined;
    while (!node.isLeaf) node = node.entries[lastAtOrBefore(node.entries, address)]!;
    return node.entries[lastAtOrBefore(node.entries, address)];
  }

  /** The first range that begins after `address`. */
  after(address: bigint): FlatRange | undefined {
    let node = this.#root;
    let next: Node | FlatRange | undefined;
    while (node !== undefined) {
      const index: number = lastAtOrBefore(node.entries, address);
      next = node.entries[index + 1] ?? next;
      if (node.isLeaf) break;
      node = index < 0 ? undefined : node.entries[index];
    }
    while (next !== undefined && 'entries' in next) next = next.entries[0];
    return next;
  }

  /** The ranges that begin in [start, end). */
  slice(start: bigint, end: bigint): FlatRange[] {
    const found: FlatRange[] = [];
    if (this.#root !== undefined) collect(this.#root, start, end, found);
    return found;
  }

  /** The tree with `ranges` in place of all that begin in [start, end). They must fit there. */
  replace(start: bigint, end: bigint, ranges: readonly FlatRange[]): RangeTree {
    if (this.#root === undefined) return RangeTree.from(ranges);
    return RangeTree.#over(replaceIn(this.#root, start, end, ranges));
  }

  static #over(level: readonly Node[]): RangeTree {
    let nodes = level;
    while (nodes.length > 1) nodes = branchesOf(nodes);
    let root = nodes[0];
    while (root !== undefined && !root.isLeaf && root.entries.length === 1) root = root.entries[0];
    return root === undefined ? RangeTree.EMPTY : new RangeTree(root);
  }
}

/** −1 if all begin after `address`. */
function lastAtOrBefore(entries: readonly { readonly start: bigint }[], address: bigint): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries[middle]!.start <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** How many begin before `address`. */
function countBefore(entries: readonly { readonly start: bigint }[], address: bigint): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries[middle]!.start < address) low = middle + 1;
    else high = middle;
  }
  return low;
}

function collect(node: Node, start: bigint, end: bigint, into: FlatRange[]): void {
  if (node.isLeaf) {
    for (let index = countBefore(node.entries, start); index < node.entries.length; index += 1) {
      const range = node.entries[index]!;
      if (range.start >= end) return;
      into.push(range);
    }
    return;
  }
  for (
    let index = Math.max(0, lastAtOrBefore(node.entries, start));
    index < node.entries.length;
    index += 1
  ) {
    const child = node.entries[index]!;
    if (child.start >= end) return;
    collect(child, start, end, into);
  }
}

/** @returns what takes the place of `node`: nodes of its level, perhaps none */
function replaceIn(node: Node, start: bigint, end: bigint, ranges: readonly FlatRange[]): readonly Node[] {
  if (node.isLeaf) {
    const { entries } = node;
    const from = countBefore(entries, start);
    const to = countBefore(entries, end);
    return leavesOf([...entries.slice(0, from), ...ranges, ...entries.slice(to)]);
  }
  const { entries } = node;
  const first = Math.max(0, lastAtOrBefore(entries, start));
  const last = Math.max(first, countBefore(entries, end) - 1);
  const replaced = [...replaceIn(entries[first]!, start, end, ranges)];
  if (last > first) replaced.push(...replaceIn(entries[last]!, start, end, []));
  const all = [...entries.slice(0, first), ...replaced, ...entries.slice(last + 1)];
  joinSparse(all, first, first + replaced.length);
  return branchesOf(all);
}

/** Joins nodes that became too small, among those at [from, to), with a neighbour. */
function joinSparse(nodes: Node[], from: number, to: number): void {
  for (let index = Math.min(to, nodes.length) - 1; index >= from; index -= 1) {
    if (nodes[index]!.entries.length >= SPARSE || nodes.length === 1) continue;
    const left = index > 0 ? index - 1 : index;
    nodes.splice(left, 2, ...joined(nodes[left]!, nodes[left + 1]!));
  }
}

function joined(a: Node, b: Node): readonly Node[] {
  return a.isLeaf && b.isLeaf
    ? leavesOf([...a.entries, ...b.entries])
    : branchesOf([...(a as Branch).entries, ...(b as Branch).entries]);
}

const leavesOf = (ranges: readonly FlatRange[]): readonly Leaf[] =>
  chunked(ranges).map((entries) => ({ isLeaf: true, start: entries[0]!.start, entries }));

const branchesOf = (nodes: readonly Node[]): readonly Branch[] =>
  chunked(nodes).map((entries) => ({ isLeaf: false, start: entries[0]!.start, entries }));

/** Cuts a list into even pieces of at most FANOUT. */
function chunked<T>(list: readonly T[]): readonly (readonly T[])[] {
  if (list.length === 0) return [];
  if (list.length <= FANOUT) return [list];
  const pieces = Math.ceil(list.length / (FANOUT * 0.75));
  const size = Math.ceil(list.length / pieces);
  return Array.from({ length: pieces }, (_, index) => list.slice(index * size, (index + 1) * size)).filter(
    (piece) => piece.length > 0,
  );
}
