/**
 * The subregions of one container, by address: which of them touch a range, in O(log n + found).
 *
 * A treap ordered by (start, order) that knows, of every subtree, how far it reaches. Keys are doubles: rounding keeps their
 * order, so a double may only let a candidate pass too early, and the caller compares the exact addresses.
 */
import type { MemoryRegion } from './region.ts';

interface Node {
  readonly region: MemoryRegion;
  readonly start: number;
  readonly end: number;
  /** Rank by time of mapping: unique, so no two keys are equal. */
  readonly order: number;
  readonly weight: number;
  reach: number;
  left: Node | undefined;
  right: Node | undefined;
}

export class ChildIndex {
  #root: Node | undefined;
  #size = 0;
  #seed = 0x9e3779b9;

  get size(): number {
    return this.#size;
  }

  /** The child, if there is exactly one. */
  get only(): MemoryRegion | undefined {
    return this.#size === 1 ? this.#root?.region : undefined;
  }

  insert(region: MemoryRegion, start: number, end: number, order: number): void {
    // xorshift32: the shape must not depend on what a guest maps, and must be the same in every run
    let seed = this.#seed;
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    this.#seed = seed;
    const node: Node = {
      region,
      start,
      end,
      order,
      weight: seed,
      reach: end,
      left: undefined,
      right: undefined,
    };
    this.#root = insertNode(this.#root, node);
    this.#size += 1;
  }

  remove(start: number, order: number): void {
    this.#root = removeNode(this.#root, start, order);
    this.#size -= 1;
  }

  /** Appends the children that may touch [start, end), rounded outwards, in no order. */
  collect(start: number, end: number, into: MemoryRegion[]): void {
    collectFrom(this.#root, start, end, into);
  }
}

const isBefore = (node: Node, start: number, order: number): boolean =>
  node.start < start || (node.start === start && node.order < order);

function insertNode(tree: Node | undefined, node: Node): Node {
  if (tree === undefined) return node;
  if (node.weight > tree.weight) {
    split(tree, node);
    updateReach(node);
    return node;
  }
  if (isBefore(tree, node.start, node.order)) tree.right = insertNode(tree.right, node);
  else tree.left = insertNode(tree.left, node);
  if (node.end > tree.reach) tree.reach = node.end;
  return tree;
}

/** Hangs everything before `at` under its left, everything after under its right. */
function split(tree: Node | undefined, at: Node): void {
  if (tree === undefined) {
    at.left = undefined;
    at.right = undefined;
  } else if (isBefore(tree, at.start, at.order)) {
    split(tree.right, at);
    tree.right = at.left;
    at.left = tree;
    updateReach(tree);
  } else {
    split(tree.left, at);
    tree.left = at.right;
    at.right = tree;
    updateReach(tree);
  }
}

function removeNode(tree: Node | undefined, start: number, order: number): Node | undefined {
  if (tree === undefined) return undefined;
  if (tree.start === start && tree.order === order) return join(tree.left, tree.right);
  if (isBefore(tree, start, order)) tree.right = removeNode(tree.right, start, order);
  else tree.left = removeNode(tree.left, start, order);
  updateReach(tree);
  return tree;
}

function join(left: Node | undefined, right: Node | undefined): Node | undefined {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.weight > right.weight) {
    left.right = join(left.right, right);
    updateReach(left);
    return left;
  }
  right.left = join(left, right.left);
  updateReach(right);
  return right;
}

function updateReach(node: Node): void {
  let reach = node.end;
  if (node.left !== undefined && node.left.reach > reach) reach = node.left.reach;
  if (node.right !== undefined && node.right.reach > reach) reach = node.right.reach;
  node.reach = reach;
}

function collectFrom(tree: Node | undefined, start: number, end: number, into: MemoryRegion[]): void {
  let node = tree;
  while (node !== undefined && node.reach >= start) {
    collectFrom(node.left, start, end, into);
    if (node.start > end) return;
    if (node.end >= start) into.push(node.region);
    node = node.right;
  }
}
