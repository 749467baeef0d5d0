import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FlatRange } from '../../src/memory/flat-range.ts';
import { RangeTree } from '../../src/memory/range-tree.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';

const region = new MemoryTopology().createRegion({ kind: 'io', name: 'io', size: 1n << 64n });

const rangeOf = (start: bigint, end: bigint): FlatRange => ({
  start,
  end,
  region,
  offset: start,
  dirtyMask: 0,
  romdMode: true,
  readonly: false,
  nonvolatile: false,
  unmergeable: false,
  path: undefined,
});

const bounds = (ranges: readonly FlatRange[]): readonly (readonly [bigint, bigint])[] =>
  ranges.map(({ start, end }) => [start, end]);

// low addresses, where doubles are exact, and high ones, where many addresses have one double
const bases = fc.constantFrom(0n, 0x1_0000_0000n, (1n << 53n) - 64n, (1n << 64n) - 0x4000n);

/** Replacements: where, how much of the old goes, and how many ranges of which size come. */
const replacements = fc.array(
  fc.record({
    at: fc.nat(3000),
    length: fc.nat(200),
    size: fc.integer({ min: 1, max: 8 }),
    count: fc.nat(60),
  }),
  { minLength: 1, maxLength: 40 },
);

test('replacing ranges gives the list that splicing an array gives, and leaves the old tree as it was', () => {
  fc.assert(
    fc.property(bases, replacements, (base, plans) => {
      let tree = RangeTree.EMPTY;
      let model: FlatRange[] = [];
      for (const { at, length, size, count } of plans) {
        const start = base + BigInt(at);
        const before = model.filter((range) => range.start >= start && range.end <= start + BigInt(length));
        const [first, last] = [model.indexOf(before[0]!), model.indexOf(before.at(-1)!)];
        const from = before.length > 0 ? first : model.filter((range) => range.start < start).length;
        // room between the neighbours that stay
        const low = [start, model[from - 1]?.end ?? base].reduce((a, b) => (a > b ? a : b));
        const high = model[before.length > 0 ? last + 1 : from]?.start ?? base + 0x4000n;
        const after: FlatRange[] = [];
        for (let index = 0; index < count; index += 1) {
          const where = low + BigInt(index * (size + (size % 3)));
          if (where + BigInt(size) <= high) after.push(rangeOf(where, where + BigInt(size)));
        }
        const old = tree;
        const oldModel = model;
        tree = tree.replace(before, after);
        model = model.toSpliced(from, before.length, ...after);
        expect(bounds(tree.all())).toEqual(bounds(model));
        expect(bounds(old.all())).toEqual(bounds(oldModel));
      }
      for (let probe = 0; probe < 50; probe += 1) {
        const address = base + BigInt((probe * 131) % 4000);
        expect(tree.floor(address)).toBe(model.findLast(({ start }) => start <= address));
        expect(tree.after(address)).toBe(model.find(({ start }) => start > address));
        const end = address + BigInt((probe * 17) % 90);
        const touching = model.filter((range) => range.start <= end && range.end >= address);
        expect(bounds(tree.touching(address, end))).toEqual(bounds(touching));
      }
    }),
    { numRuns: 150 },
  );
});
