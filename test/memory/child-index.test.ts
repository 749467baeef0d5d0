import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ChildIndex } from '../../src/memory/child-index.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';

const topology = new MemoryTopology();

const places = fc.array(
  fc.record({
    start: fc.nat(500),
    size: fc.oneof(fc.nat(4), fc.nat(300)),
    removes: fc.nat(9),
    pick: fc.nat(1000),
  }),
  { minLength: 1, maxLength: 300 },
);

test('children are found as a list finds them, through growth, splits and removal', () => {
  fc.assert(
    fc.property(places, (plans) => {
      const index = new ChildIndex();
      const model: { name: string; start: number; end: number; order: number }[] = [];
      for (const [order, { start, size, removes, pick }] of plans.entries()) {
        if (removes < 3 && model.length > 0) {
          const [gone] = model.splice(pick % model.length, 1);
          index.remove(gone!);
        } else {
          const place = { name: `r${order}`, start, end: start + size, order };
          model.push(place);
          index.insert(topology.createRegion({ kind: 'io', name: place.name, size: 1n }), place);
        }
        expect(index.size).toBe(model.length);
        const end = start + size + 1;
        const found: { name: string }[] = [];
        index.collect(start, end, found as never);
        const expected = model.filter((child) => child.start < end && child.end > start);
        expect(found.map(({ name }) => name).sort()).toEqual(expected.map(({ name }) => name).sort());
      }
      const all = index.all().map(({ name }) => name);
      expect(all.sort()).toEqual(model.map(({ name }) => name).sort());
    }),
    { numRuns: 150 },
  );
});
