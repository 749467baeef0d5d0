/**
 * The subregions of one container, by address: which of them touch a range, in O(log n + found).
 *
 * A B+ tree ordered by (start, order) that knows, of every subtree, how far it reaches. Keys are doubles: rounding keeps their order,
 * so a double may only let a candidate pass too early, and the caller compares the exact addresses. Starts and reaches lie in
 * arrays of their own, so that a search touches few cache lines.
 */
import type { MemoryRegion } from './region.ts';

/** One child: the bytes [start, end) of its container. */
export interface ChildPlace {
  readonly start: number;
  readonly end: number;
  /** Rank by time of mapping: unique, so no two places are equal. */
  readonly order: number;
}

interface Node {
  /** Undefined in a leaf. */
  readonly children: Node[] | undefined;
  /** Of a leaf. */
  readonly regions: MemoryRegion[];
  /** First start of each entry. */
  readonly starts: number[];
  /** First order of each entry. */
  readonly orders: number[];
  /** The furthest end in each entry. */
  readonly reaches: number[];
}

const FANOUT = 32;
/** Whole numbers up to here are doubles. */
const EXACT_LIMIT = 2 ** 53;

export class ChildIndex {
  #root: Node = newNode(true);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The child, if there is exactly one. */
  get only(): MemoryRegion | undefined {
    return this.#size === 1 ? this.all()[0] : undefined;
  }

  insert(region: MemoryRegion, place: ChildPlace): void {
    this.#size += 1;
    const right = insertInto(this.#root, region, place);
    if (right === undefined) return;
    const root = newNode(false);
    appendChild(root, this.#root);
    appendChild(root, right);
    this.#root = root;
  }

  remove(place: ChildPlace): void {
    this.#size -= 1;
    removeFrom(this.#root, place);
    while (this.#root.children !== undefined && this.#root.children.length <= 1) {
      this.#root = this.#root.children[0] ?? newNode(true);
    }
  }

  /** All children, in no order. */
  all(): readonly MemoryRegion[] {
    const found: MemoryRegion[] = [];
    collect(this.#root, -Infinity, Infinity, found);
    return found;
  }

  /** Appends the children that overlap [start, end), in no order; beyond 2^53, perhaps some that just miss it. */
  collect(start: number, end: number, into: MemoryRegion[]): void {
    if (end <= EXACT_LIMIT) collect(this.#root, start, end, into);
    else collect(this.#root, start * (1 - Number.EPSILON), end * (1 + Number.EPSILON), into);
  }
}

const newNode = (isLeaf: boolean): Node => ({
  children: isLeaf ? undefined : [],
  regions: [],
  starts: [],
  orders: [],
  reaches: [],
});

/** The last entry that is not after `place`; −1 if all are. */
function lastNotAfter({ starts, orders }: Node, { start, order }: ChildPlace): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const key = starts[middle]!;
    if (key < start || (key === start && orders[middle]! <= order)) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** @returns the right half of `node`, if it had to be split */
function insertInto(node: Node, region: MemoryRegion, place: ChildPlace): Node | undefined {
  const { children, regions, starts, orders, reaches } = node;
  if (children === undefined) {
    const at = lastNotAfter(node, place) + 1;
    regions.splice(at, 0, region);
    starts.splice(at, 0, place.start);
    orders.splice(at, 0, place.order);
    reaches.splice(at, 0, place.end);
  } else {
    const at = Math.max(0, lastNotAfter(node, place));
    const right = insertInto(children[at]!, region, place);
    summarize(node, at);
    if (right !== undefined) {
      children.splice(at + 1, 0, right);
      starts.splice(at + 1, 0, 0);
      orders.splice(at + 1, 0, 0);
      reaches.splice(at + 1, 0, 0);
      summarize(node, at + 1);
    }
  }
  return starts.length > FANOUT ? split(node) : undefined;
}

function split(node: Node): Node {
  const half = node.starts.length >>> 1;
  return {
    children: node.children?.splice(half),
    regions: node.regions.splice(half),
    starts: node.starts.splice(half),
    orders: node.orders.splice(half),
    reaches: node.reaches.splice(half),
  };
}

function appendChild(node: Node, child: Node): void {
  node.children!.push(child);
  node.starts.push(0);
  node.orders.push(0);
  node.reaches.push(0);
  summarize(node, node.starts.length - 1);
}

/** Brings what `node` says of its child at `at` up to date. */
function summarize(node: Node, at: number): void {
  const { starts, orders, reaches } = node.children![at]!;
  node.starts[at] = starts[0]!;
  node.orders[at] = orders[0]!;
  let reach = -Infinity;
  for (let index = 0; index < reaches.length; index += 1)
    if (reaches[index]! > reach) reach = reaches[index]!;
  node.reaches[at] = reach;
}

/** Empty nodes are taken out; sparse ones are joined with a neighbour where both fit into one. */
function removeFrom(node: Node, place: ChildPlace): void {
  const at = lastNotAfter(node, place);
  const { children } = node;
  if (children === undefined) {
    dropEntry(node, at);
    return;
  }
  const child = children[at]!;
  removeFrom(child, place);
  if (child.starts.length === 0) {
    dropEntry(node, at);
    return;
  }
  summarize(node, at);
  if (child.starts.length < FANOUT / 4) joinWithNeighbour(node, at);
}

function dropEntry({ children, regions, starts, orders, reaches }: Node, at: number): void {
  if (children === undefined) regions.splice(at, 1);
  else children.splice(at, 1);
  starts.splice(at, 1);
  orders.splice(at, 1);
  reaches.splice(at, 1);
}

function joinWithNeighbour(node: Node, at: number): void {
  const left = at > 0 ? at - 1 : at;
  const [a, b] = [node.children![left], node.children![left + 1]];
  if (a === undefined || b === undefined || a.starts.length + b.starts.length > FANOUT) return;
  a.children?.push(...b.children!);
  a.regions.push(...b.regions);
  a.starts.push(...b.starts);
  a.orders.push(...b.orders);
  a.reaches.push(...b.reaches);
  dropEntry(node, left + 1);
  summarize(node, left);
}

function collect(node: Node, start: number, end: number, into: MemoryRegion[]): void {
  const { children, regions, starts, reaches } = node;
  for (let index = lastBefore(starts, end); index >= 0; index -= 1) {
    if (reaches[index]! <= start) continue;
    if (children === undefined) into.push(regions[index]!);
    else collect(children[index]!, start, end, into);
  }
}

/** The last start that is before `end`; −1 if none is. */
function lastBefore(starts: readonly number[], end: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[middle]! < end) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
