import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FlatRange } from '../../src/memory/flat-range.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { renderAll } from '../../src/memory/render.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import {
  applyEdit,
  closeTransactions,
  createRegions,
  editPlans,
  regionPlans,
  SPACE_BYTES,
} from './random-tree.ts';

interface Cell {
  readonly region: MemoryRegion;
  readonly offset: number;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
  readonly unmergeable: boolean;
}

/** The naive model: asks, for one byte, which region answers. No ranges, no clipping of intervals, no gaps. */
function lookUp(
  region: MemoryRegion,
  position: number,
  inherited: Omit<Cell, 'region' | 'offset'>,
): Cell | undefined {
  const at = position - Number(region.address);
  if (!region.enabled || at < 0 || at >= Number(region.size)) return undefined;
  const flags = {
    readonly: inherited.readonly || region.readonly,
    nonvolatile: inherited.nonvolatile || region.nonvolatile,
    unmergeable: inherited.unmergeable || region.unmergeable,
  };
  if (region.target !== undefined) {
    return lookUp(region.target, at + Number(region.aliasOffset) + Number(region.target.address), flags);
  }
  for (const child of region.subregions) {
    const cell = lookUp(child, at, flags);
    if (cell !== undefined) return cell;
  }
  return region.terminates ? { region, offset: at, ...flags } : undefined;
}

const PLAIN = { readonly: false, nonvolatile: false, unmergeable: false };

const cellsOf = (ranges: readonly FlatRange[]): (Cell | undefined)[] => {
  const cells = Array.from<Cell | undefined>({ length: SPACE_BYTES });
  for (const { start, end, region, offset, readonly, nonvolatile, unmergeable } of ranges) {
    for (let at = Number(start); at < Number(end); at += 1) {
      cells[at] = { region, offset: Number(offset) + at - Number(start), readonly, nonvolatile, unmergeable };
    }
  }
  return cells;
};

test('a rendered view shows at every byte what a byte-by-byte lookup finds', () => {
  fc.assert(
    fc.property(regionPlans, editPlans(40), (plans, edits) => {
      const topology = new MemoryTopology();
      const regions = createRegions(topology, plans);
      for (const edit of edits) applyEdit(topology, regions, edit);
      closeTransactions(topology);
      const root = regions[0]!;
      const expected = Array.from({ length: SPACE_BYTES }, (_, at) => lookUp(root, at, PLAIN));
      expect(cellsOf(renderAll(root))).toEqual(expected);
    }),
    { numRuns: 400 },
  );
});

test('ranges are sorted, disjoint and not empty, and no two neighbours could be one', () => {
  fc.assert(
    fc.property(regionPlans, editPlans(40), (plans, edits) => {
      const topology = new MemoryTopology({ logsCode: true });
      const regions = createRegions(topology, plans);
      for (const edit of edits) applyEdit(topology, regions, edit);
      closeTransactions(topology);
      const ranges = renderAll(regions[0]!);
      for (const [index, range] of ranges.entries()) {
        expect(range.end).toBeGreaterThan(range.start);
        const next = ranges[index + 1];
        if (next === undefined) continue;
        expect(next.start).toBeGreaterThanOrEqual(range.end);
        const isContinuation =
          next.region === range.region &&
          next.start === range.end &&
          next.offset === range.offset + (range.end - range.start) &&
          next.readonly === range.readonly &&
          next.nonvolatile === range.nonvolatile;
        expect(isContinuation && !next.unmergeable && !range.unmergeable).toBe(false);
      }
    }),
    { numRuns: 200 },
  );
});
