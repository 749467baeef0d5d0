/** Reads what `info mtree` printed, with any of `-D`, `-o` and `-f`, into plain lines. What they mean is decided elsewhere. */
import { MemoryError } from '../../errors.ts';
import type { RegionOwner } from '../region-description.ts';
import { outputLines } from './monitor.ts';
import type { TypeName } from './names.ts';

export interface TreeLine {
  /** 1 for a root. */
  readonly level: number;
  readonly start: bigint;
  /** The last byte, as printed: below `start` if the region wraps around. */
  readonly last: bigint;
  readonly priority: number;
  readonly nonvolatile: boolean;
  readonly type: TypeName;
  readonly name: string;
  readonly target: { readonly name: string; readonly offset: bigint } | undefined;
  readonly isDisabled: boolean;
  readonly owner: RegionOwner | undefined;
}

/** A tree of regions: under names of address spaces, or a section of its own. */
export interface TreeGroup {
  readonly names: readonly string[];
  readonly lines: readonly TreeLine[];
}

export interface TreeText {
  readonly kind: 'tree';
  readonly spaces: readonly TreeGroup[];
  /** `memory-region:` groups: targets of aliases, in the order they are first named. */
  readonly sections: readonly TreeGroup[];
}

export interface FlatLine extends Omit<TreeLine, 'level' | 'target' | 'isDisabled'> {
  readonly offset: bigint;
}

export interface FlatTextView {
  readonly spaces: readonly { readonly name: string; readonly root: string }[];
  readonly root: string;
  readonly ranges: readonly FlatLine[];
}

export interface FlatText {
  readonly kind: 'flat';
  readonly views: readonly FlatTextView[];
}

const RANGE = /^([0-9a-f]{16})-([0-9a-f]{16}) \(prio (-?\d+), (nv-)?(ramd|romd|rom|ram|i\/o)\): (.*)$/;
const OWNER = / (owner|parent):\{(?:(dev|obj) )?(?:(id|path)=)?([^}]*)\}$/;
/** What is expected, in error texts. */
const SPACE_HEADING = '"address-space: NAME"';
const VIEW_HEADING = '"FlatView #N"';
const RANGE_FORM =
  'a range, "0000000000000000-00000000000003ff (prio 0, ram): NAME", addresses with 16 digits';
const ALIAS = /^alias (.*?) @(.*) ([0-9a-f]{16})-[0-9a-f]{16}$/;

/**
 * @param text what was printed, alone or as it was copied from the monitor, with banner, prompts and commands
 * @throws {MemoryError} BAD_TREE, naming the line and what was expected there
 */
export function parseMtree(text: string): TreeText | FlatText {
  const lines = outputLines(text);
  return lines.some((line) => line.startsWith('FlatView #')) ? parseFlat(lines) : parseTree(lines);
}

function parseTree(lines: readonly string[]): TreeText {
  interface OpenGroup {
    readonly isSpace: boolean;
    readonly names: string[];
    readonly lines: TreeLine[];
  }
  const groups: OpenGroup[] = [];
  for (const [index, raw] of lines.entries()) {
    const line = raw.replaceAll('[DETECTED OVERFLOW!] ', '').trimEnd();
    if (line === '') continue;
    const heading = /^(address-space|memory-region): (.*)$/.exec(line);
    let group = groups.at(-1);
    if (heading !== null) {
      const isSpace = heading[1] === 'address-space';
      if (group === undefined || !isSpace || !group.isSpace || group.lines.length > 0) {
        group = { isSpace, names: [], lines: [] };
        groups.push(group);
      }
      group.names.push(heading[2]!);
    } else if (group === undefined) {
      throw unexpected(index, raw, SPACE_HEADING);
    } else {
      group.lines.push(treeLine(index, line));
    }
  }
  if (groups.length === 0)
    throw new MemoryError('BAD_TREE', `there is no line ${SPACE_HEADING} or ${VIEW_HEADING}`);
  return {
    kind: 'tree',
    spaces: groups.filter((group) => group.isSpace),
    sections: groups.filter((group) => !group.isSpace),
  };
}

function treeLine(index: number, line: string): TreeLine {
  const indent = line.length - line.trimStart().length;
  if (indent === 0 || indent % 2 === 1)
    throw unexpected(index, line, 'two spaces for each level of the tree before it');
  const range = rangeLine(index, line);
  let { rest } = range;
  const isDisabled = rest.endsWith(' [disabled]');
  if (isDisabled) rest = rest.slice(0, -' [disabled]'.length);
  const alias = ALIAS.exec(rest);
  return {
    ...range.fields,
    level: indent / 2,
    name: alias?.[1] ?? rest,
    target: alias === null ? undefined : { name: alias[2]!, offset: BigInt(`0x${alias[3]}`) },
    isDisabled,
  };
}

function parseFlat(lines: readonly string[]): FlatText {
  const views: { spaces: { name: string; root: string }[]; root: string; ranges: FlatLine[] }[] = [];
  let isDispatch = false;
  for (const [index, raw] of lines.entries()) {
    const line = raw.trimEnd();
    const view = views.at(-1);
    if (line.startsWith('FlatView #')) {
      views.push({ spaces: [], root: '(none)', ranges: [] });
      isDispatch = false;
    } else if (line === '' || isDispatch || line === '  No rendered FlatView') {
      continue;
    } else if (view === undefined) {
      throw unexpected(index, raw, VIEW_HEADING);
    } else if (line === '  Dispatch') {
      isDispatch = true;
    } else if (line.startsWith(' AS "')) {
      const space = /^ AS "(.*)", root: (.*?)(?:, alias .*)?$/.exec(line);
      if (space === null) throw unexpected(index, raw, '" AS "NAME", root: REGION"');
      view.spaces.push({ name: space[1]!, root: space[2]! });
    } else if (line.startsWith(' Root memory region: ')) {
      view.root = line.slice(' Root memory region: '.length);
    } else {
      view.ranges.push(flatLine(index, line));
    }
  }
  return { kind: 'flat', views };
}

function flatLine(index: number, line: string): FlatLine {
  const { fields, rest } = rangeLine(index, line);
  // the dispatch of an accelerator may follow the name
  const plain = rest.replace(/ (?:KVM|HVF|MSHV)$/, '');
  const offset = / @([0-9a-f]{16})$/.exec(plain);
  return {
    ...fields,
    name: offset === null ? plain : plain.slice(0, offset.index),
    offset: BigInt(`0x${offset?.[1] ?? '0'}`),
  };
}

/** What both kinds of lines begin and end with. */
function rangeLine(index: number, line: string) {
  const match = RANGE.exec(line.trimStart());
  if (match === null) throw unexpected(index, line, RANGE_FORM);
  const owner = OWNER.exec(match[6]!);
  const type = match[5] as TypeName;
  return {
    fields: {
      start: BigInt(`0x${match[1]}`),
      last: BigInt(`0x${match[2]}`),
      priority: Number(match[3]),
      nonvolatile: match[4] !== undefined,
      type,
      owner: owner === null ? undefined : ownerOf(owner),
    },
    rest: owner === null ? match[6]! : match[6]!.slice(0, owner.index),
  };
}

function ownerOf([, word, kind, key, value]: RegExpExecArray): RegionOwner {
  const owner = kind === 'dev' || kind === 'obj' ? kind : word === 'owner' ? 'dev' : 'obj';
  return key === 'id' ? { kind: owner, id: value ?? '' } : { kind: owner, path: value ?? '' };
}

const unexpected = (index: number, line: string, expected: string): MemoryError =>
  new MemoryError(
    'BAD_TREE',
    `line ${index + 1} is ${JSON.stringify(line.slice(0, 80))}; expected ${expected}`,
  );
