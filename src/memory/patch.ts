/**
 * A view with some parts painted anew: the same ranges a full rendering gives, at the cost of what changed.
 *
 *     old      [ aaaaaaaaaa ][ U ]      [ bbbb ]        a, b may merge with what is new; U (unmergeable) may not
 *     damage           [......]
 *     painted          [...........]                    whole unmergeable ranges are painted again: whether two
 *     window   [...................]                    neighbours came from one piece cannot be seen afterwards
 *
 * Outside the window both renderings agree: an address that no edit can have changed shows the same byte through the same path, so
 * two such neighbours are one range in both or in neither.
 */
import { united, type Interval } from './damage.ts';
import { simplify, withBounds, type FlatRange } from './flat-range.ts';
import { FlatView } from './flat-view.ts';
import { renderWindow } from './render.ts';

/** The ranges of one part of a view before and after. */
export interface Window {
  readonly before: readonly FlatRange[];
  readonly after: readonly FlatRange[];
}

export interface Patch {
  readonly view: FlatView;
  /** In address order. */
  readonly windows: readonly Window[];
}

export function patchView(view: FlatView, damage: readonly Interval[]): Patch {
  const windows: Window[] = [];
  let { tree } = view;
  for (const { start, end, painted } of windowsOf(view, united(damage))) {
    const before = view.tree.slice(start, end);
    const after = repaint(view, before, painted);
    if (isUnchanged(before, after)) continue;
    windows.push({ before, after });
    tree = tree.replace(start, end, after);
  }
  return windows.length === 0 ? { view, windows } : { view: new FlatView(view.root, tree), windows };
}

interface WindowBounds extends Interval {
  /** Disjoint, sorted. */
  readonly painted: readonly Interval[];
}

/** Widens each damaged interval to whole old ranges, so that a window begins and ends where ranges do. */
function windowsOf(view: FlatView, damage: readonly Interval[]): readonly WindowBounds[] {
  const windows: { start: bigint; end: bigint; painted: Interval[] }[] = [];
  for (const { start, end } of damage) {
    const left = touchingBefore(view, start);
    const right = touchingAfter(view, end);
    const window = {
      start: left?.start ?? start,
      end: right?.end ?? end,
      painted: [
        {
          start: left?.unmergeable === true ? left.start : start,
          end: right?.unmergeable === true ? right.end : end,
        },
      ],
    };
    const last = windows.at(-1);
    if (last === undefined || window.start >= last.end) {
      windows.push(window);
    } else {
      if (window.end > last.end) last.end = window.end;
      last.painted = united([...last.painted, ...window.painted]);
    }
  }
  return windows;
}

/** The old range that begins before `address` and reaches it. */
function touchingBefore(view: FlatView, address: bigint): FlatRange | undefined {
  const range = address > 0n ? view.tree.floor(address - 1n) : undefined;
  return range !== undefined && range.end >= address ? range : undefined;
}

/** The old range that begins at or before `address` and ends after it. */
function touchingAfter(view: FlatView, address: bigint): FlatRange | undefined {
  const range = view.tree.floor(address);
  return range !== undefined && range.end > address ? range : undefined;
}

/** Old ranges where nothing was damaged, painted ones between, joined. */
function repaint(
  view: FlatView,
  before: readonly FlatRange[],
  painted: readonly Interval[],
): readonly FlatRange[] {
  const pieces: FlatRange[] = [];
  let index = 0;
  let from = 0n;
  for (const { start, end } of painted) {
    index = keep(before, index, from, start, pieces);
    if (view.root !== undefined) for (const range of renderWindow(view.root, start, end)) pieces.push(range);
    from = end;
  }
  keep(before, index, from, undefined, pieces);
  return simplify(pieces);
}

/** Appends what `ranges`, from `index` on, have in [from, to). @returns the first that may go on after `to` */
function keep(
  ranges: readonly FlatRange[],
  index: number,
  from: bigint,
  to: bigint | undefined,
  pieces: FlatRange[],
): number {
  let at = index;
  for (; at < ranges.length; at += 1) {
    const range = ranges[at]!;
    if (to !== undefined && range.start >= to) break;
    const start = range.start > from ? range.start : from;
    const end = to === undefined || range.end < to ? range.end : to;
    if (start < end) {
      pieces.push(start === range.start && end === range.end ? range : withBounds(range, start, end));
    }
    if (to !== undefined && range.end > to) break;
  }
  return at;
}

const isUnchanged = (before: readonly FlatRange[], after: readonly FlatRange[]): boolean =>
  before.length === after.length &&
  before.every((range, index) => range.start === after[index]!.start && isIdentical(range, after[index]!));

function isIdentical(a: FlatRange, b: FlatRange): boolean {
  return (
    a === b ||
    (a.region === b.region &&
      a.end === b.end &&
      a.offset === b.offset &&
      a.dirtyMask === b.dirtyMask &&
      a.romdMode === b.romdMode &&
      a.readonly === b.readonly &&
      a.nonvolatile === b.nonvolatile &&
      a.unmergeable === b.unmergeable)
  );
}
