/**
 * A view with some parts painted anew: the same ranges a full rendering gives, at the cost of what changed.
 *
 *     old      [ aaaaaaaaaa ][ bb ]        [ cccc ]
 *     damage           [.........]                      painted anew
 *     window   [ aaaaaaaaaa ][ bb ]                     the old ranges that touch the damage; their undamaged ends are kept,
 *                                                       and joined with what was painted if they are one piece with it
 *
 * Outside the window both renderings agree: an address that no edit can have changed shows the same byte through the same path, so
 * two such neighbours are one range in both or in neither.
 */
import { united, type Interval } from './damage.ts';
import { isIdentical, simplify, withBounds, type FlatRange } from './flat-range.ts';
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
  for (const { touched, damaged } of windowsOf(view, united(damage))) {
    const window = trimmed(touched, repaint(view, touched, damaged));
    if (window === undefined) continue;
    windows.push(window);
    const { before, after } = window;
    tree = tree.replace(before, after);
  }
  return windows.length === 0 ? { view, windows } : { view: new FlatView(view.root, tree), windows };
}

interface Damaged {
  /** Old ranges that overlap or touch the damage, in order. */
  readonly touched: FlatRange[];
  /** Disjoint, sorted. */
  readonly damaged: Interval[];
}

/** Damaged intervals that touch the same old range belong together: it may become one piece with all of them. */
function windowsOf(view: FlatView, damage: readonly Interval[]): readonly Damaged[] {
  const windows: Damaged[] = [];
  for (const interval of damage) {
    const touched = view.tree.touching(interval.start, interval.end);
    const last = windows.at(-1);
    if (last !== undefined && touched[0] !== undefined && touched[0] === last.touched.at(-1)) {
      last.touched.push(...touched.slice(1));
      last.damaged.push(interval);
    } else {
      windows.push({ touched, damaged: [interval] });
    }
  }
  return windows;
}

/** Old ranges where nothing was damaged, painted ones between, joined. */
function repaint(view: FlatView, old: readonly FlatRange[], damaged: readonly Interval[]): FlatRange[] {
  const pieces: FlatRange[] = [];
  let index = 0;
  let from = 0n;
  for (const { start, end } of damaged) {
    index = keep(old, index, from, start, pieces);
    if (view.root !== undefined) for (const range of renderWindow(view.root, start, end)) pieces.push(range);
    from = end;
  }
  keep(old, index, from, undefined, pieces);
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

/** What is left of a window without the ranges that are the same at its ends. @returns undefined: nothing differs */
function trimmed(before: FlatRange[], after: FlatRange[]): Window | undefined {
  let start = 0;
  while (start < before.length && start < after.length && isIdentical(before[start]!, after[start]!))
    start += 1;
  let beforeEnd = before.length;
  let afterEnd = after.length;
  while (beforeEnd > start && afterEnd > start && isIdentical(before[beforeEnd - 1]!, after[afterEnd - 1]!)) {
    beforeEnd -= 1;
    afterEnd -= 1;
  }
  if (start === beforeEnd && start === afterEnd) return undefined;
  return { before: before.slice(start, beforeEnd), after: after.slice(start, afterEnd) };
}
