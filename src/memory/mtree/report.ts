/** What a memory tree comes to, as plain data: the views, the table a vhost device would get, and what had to be guessed. */
import { shareableRanges } from '../shareable.ts';
import { buildTopology } from './build.ts';
import { rangeTypeName, type TypeName } from './names.ts';
import type { FlatText, FlatTextView, TreeText } from './parse.ts';
import { viewsOf } from './print-flat.ts';

export interface ReportRange {
  readonly start: bigint;
  readonly size: bigint;
  readonly type: TypeName;
  readonly name: string;
  /** The byte of the region that is seen at `start`. */
  readonly offset: bigint;
  readonly priority: number;
  readonly nonvolatile: boolean;
}

/** An entry of a vhost memory table. */
export interface ReportSlot {
  readonly guestPhysAddr: bigint;
  readonly memorySize: bigint;
  readonly name: string;
  /** Where it begins in the memory it is a part of. */
  readonly offset: bigint;
}

export interface ReportView {
  readonly spaces: readonly string[];
  readonly root: string;
  readonly ranges: readonly ReportRange[];
  readonly memoryTable: readonly ReportSlot[];
}

export interface MtreeReport {
  readonly views: readonly ReportView[];
  readonly guesses: readonly string[];
}

const ALL_RAM_SHARED = 'all RAM can be shared: the text does not say which has a file behind it';

export const reportOf = (text: TreeText | FlatText): MtreeReport =>
  text.kind === 'tree' ? treeReport(text) : flatReport(text);

function treeReport(text: TreeText): MtreeReport {
  const { topology, guesses } = buildTopology(text);
  const views = viewsOf(topology).map((view) => ({
    spaces: topology.addressSpaces.filter((space) => space.view === view).map(({ name }) => name),
    root: view.root?.name ?? '(none)',
    ranges: view.ranges.map((range) => ({
      start: range.start,
      size: range.end - range.start,
      type: rangeTypeName(range),
      name: range.region.name,
      offset: range.offset,
      priority: range.region.priority,
      nonvolatile: range.nonvolatile,
    })),
    memoryTable: shareableRanges(view, () => true).map(({ start, size, region, offset }) => ({
      guestPhysAddr: start,
      memorySize: size,
      name: region.name,
      offset,
    })),
  }));
  return { views, guesses: [...guesses, ALL_RAM_SHARED] };
}

function flatReport({ views }: FlatText): MtreeReport {
  return {
    views: views.map((view) => ({
      spaces: view.spaces.map(({ name }) => name),
      root: view.root,
      ranges: view.ranges.map(({ start, last, type, name, offset, priority, nonvolatile }) => ({
        start,
        size: last - start + 1n,
        type,
        name,
        offset,
        priority,
        nonvolatile,
      })),
      memoryTable: tableOf(view),
    })),
    guesses: [
      ALL_RAM_SHARED,
      'what is printed as rom is not RAM behind a readonly alias',
      'no RAM is unmergeable',
    ],
  };
}

function tableOf({ ranges }: FlatTextView): readonly ReportSlot[] {
  const table: ReportSlot[] = [];
  for (const { type, name, start, last, offset } of ranges) {
    if (type !== 'ram') continue;
    const size = last - start + 1n;
    const previous = table.at(-1);
    const isContinuation =
      previous !== undefined &&
      previous.name === name &&
      previous.guestPhysAddr + previous.memorySize === start &&
      previous.offset + previous.memorySize === offset;
    if (isContinuation) table[table.length - 1] = { ...previous, memorySize: previous.memorySize + size };
    else table.push({ guestPhysAddr: start, memorySize: size, name, offset });
  }
  return table;
}
