/**
 * Which lines of an `info mtree` text are the same region. One region can be printed several times: in the tree of its container,
 * as the root of address spaces, and as a section because an alias shows it.
 */
import type { TreeGroup, TreeLine, TreeText } from './parse.ts';

export interface TreeNode {
  readonly line: TreeLine;
  /** Where it begins in its container. */
  readonly address: bigint;
  readonly size: bigint;
  readonly children: TreeNode[];
  /** Printed below a region that the text leaves out because it is disabled. */
  readonly isHidden: boolean;
  /** The node that stands for the same region, if this one is only another print of it. */
  same: TreeNode | undefined;
  target: TreeNode | undefined;
}

export interface NodeTree {
  readonly names: readonly string[];
  readonly root: TreeNode;
}

export interface Nodes {
  readonly spaces: readonly NodeTree[];
  readonly sections: readonly NodeTree[];
}

export function nodesOf(text: TreeText, guess: (text: string) => void): Nodes {
  const nodes = { spaces: treesOf(text.spaces), sections: treesOf(text.sections) };
  joinReprints(nodes);
  findTargets(nodes, guess);
  return nodes;
}

/** The node that stands for the region. */
export const canonical = (node: TreeNode): TreeNode =>
  node.same === undefined ? node : canonical(node.same);

const treesOf = (groups: readonly TreeGroup[]): readonly NodeTree[] =>
  groups.flatMap((group) => {
    const root = treeOf(group.lines);
    return root === undefined ? [] : [{ names: group.names, root }];
  });

function treeOf(lines: readonly TreeLine[]): TreeNode | undefined {
  const [first, ...rest] = lines;
  if (first === undefined) return undefined;
  const root = nodeOf(first, 0n, false);
  const open = [root];
  for (const line of rest) {
    while (open.length > 1 && open.at(-1)!.line.level >= line.level) open.pop();
    const parent = open.at(-1)!;
    const node = nodeOf(line, parent.line.start, line.level > parent.line.level + 1);
    parent.children.push(node);
    open.push(node);
  }
  return root;
}

const nodeOf = (line: TreeLine, base: bigint, isHidden: boolean): TreeNode => ({
  line,
  address: BigInt.asUintN(64, line.start - base),
  size: BigInt.asUintN(64, line.last - line.start) + 1n,
  children: [],
  isHidden,
  same: undefined,
  target: undefined,
});

/** Roots that look exactly like a region inside some tree are that region. */
function joinReprints({ spaces, sections }: Nodes): void {
  const roots = [...spaces, ...sections].map(({ root }) => root);
  const inner = new Map<string, TreeNode[]>();
  for (const root of roots) {
    for (const child of root.children) {
      walk(child, (node) => {
        const key = keyOf(node);
        const list = inner.get(key);
        if (list === undefined) inner.set(key, [node]);
        else list.push(node);
      });
    }
  }
  const rootOf = new Map<string, TreeNode>();
  for (const root of roots) {
    const key = keyOf(root);
    const printed = rootOf.get(key);
    // an address space and a section of the same look are one region; two sections never are
    if (printed !== undefined && isIn(spaces, printed) && isIn(sections, root)) {
      root.same = printed;
      continue;
    }
    rootOf.set(key, root);
    const place = inner.get(key)?.find((node) => !isBelow(root, node) && node.same === undefined);
    if (place !== undefined) root.same = place;
  }
  joinCopies([...spaces, ...sections]);
}

/** Once a root is known to be a region inside another tree, its children are that region's children. */
function joinCopies(trees: readonly NodeTree[]): void {
  for (const { root } of trees) {
    if (root.same === undefined) continue;
    const original = root.same;
    root.children.forEach((child, index) => joinTree(child, original.children[index]));
  }
}

function joinTree(copy: TreeNode, original: TreeNode | undefined): void {
  if (original === undefined || copy === original || canonical(original) === copy) return;
  copy.same = original;
  copy.children.forEach((child, index) => joinTree(child, original.children[index]));
}

const isIn = (trees: readonly NodeTree[], node: TreeNode): boolean => trees.some(({ root }) => root === node);

function isBelow(root: TreeNode, node: TreeNode): boolean {
  return root === node || root.children.some((child) => isBelow(child, node));
}

function walk(node: TreeNode, visit: (node: TreeNode) => void): void {
  visit(node);
  for (const child of node.children) walk(child, visit);
}

const keys = new WeakMap<TreeNode, string>();

/** Everything a text says of a region and its subregions, independent of where it is printed. */
function keyOf(node: TreeNode): string {
  let key = keys.get(node);
  if (key === undefined) {
    const { line, address, size, children } = node;
    const { name, priority, type, nonvolatile, isDisabled, target, owner } = line;
    const own = [
      name,
      address,
      size,
      priority,
      type,
      nonvolatile,
      isDisabled,
      target?.name,
      target?.offset,
      owner?.id,
      owner?.path,
    ];
    key = `${own.join('|')}[${children.map(keyOf).join(';')}]`;
    keys.set(node, key);
  }
  return key;
}

/** Sections come in the order in which alias lines first name them: that tells targets of one name apart. */
function findTargets({ spaces, sections }: Nodes, guess: (text: string) => void): void {
  let next = 0;
  const named: NodeTree[] = [];
  for (const { root } of [...spaces, ...sections]) {
    walk(root, (node) => {
      const { target } = node.line;
      if (target === undefined) return;
      const old = named.filter(({ names }) => names[0] === target.name);
      let isNew = sections[next]?.names[0] === target.name;
      if (!isNew && old.length === 0) {
        // skipped sections are named by aliases that are not printed
        const found = sections.findIndex(({ names }, index) => index >= next && names[0] === target.name);
        if (found < 0) return;
        named.push(...sections.slice(next, found));
        next = found;
        isNew = true;
      }
      if (isNew && old.length > 0) {
        isNew =
          sections[next]!.root.size === node.size || !old.some(({ root: { size } }) => size === node.size);
        guess(
          `${node.line.name}: several regions are called ${target.name}; took ${isNew ? 'a new one' : 'a known one'}`,
        );
      } else if (!isNew && old.length > 1) {
        guess(`${node.line.name}: several regions are called ${target.name}; took the last named`);
      }
      if (isNew) {
        named.push(sections[next]!);
        node.target = sections[next]!.root;
        next += 1;
      } else {
        node.target = (old.findLast(({ root: { size } }) => size === node.size) ?? old.at(-1))?.root;
      }
    });
  }
}
