/** The sorted items against a Map that is sorted whenever it is asked. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SortedByAddress } from '../../src/vhost/frontend-sorted.ts';

interface Item {
  readonly at: bigint;
  readonly mark: number;
}
const address = fc.bigInt({ min: 0n, max: 400n });
const step = fc.record({
  what: fc.constantFrom('set', 'set', 'set', 'delete', 'replace'),
  at: address,
  span: address,
});

/** From the second on, hundreds of addresses are the same number. */
test.each([0n, 1n << 62n])(
  'after any steps from %d on, every question has the answer of a sorted list',
  (base) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 300, maxLength: 600 }), address, (offsets, offset) => {
        const steps = offsets.map((each) => ({ ...each, at: base + each.at }));
        const asked = base + offset;
        const sorted = new SortedByAddress((item: Item) => item.at);
        const model = new Map<bigint, Item>();
        const list = (): Item[] => [...model.values()].sort((a, b) => (a.at < b.at ? -1 : 1));
        steps.forEach(({ what, at, span }, mark) => {
          if (what === 'set') {
            sorted.set({ at, mark });
            model.set(at, { at, mark });
          } else if (what === 'delete') {
            sorted.delete(at);
            model.delete(at);
          } else {
            const end = at + span / 40n; // short, or nothing would be left
            const before = list().filter((item) => item.at >= at && item.at < end);
            expect(sorted.replace(at, end, end > at ? [{ at, mark }] : [])).toEqual(before);
            for (const item of before) model.delete(item.at);
            if (end > at) model.set(at, { at, mark });
          }
        });
        const all = list();
        expect(sorted.all).toEqual(all);
        expect(sorted.size).toBe(all.length);
        expect(sorted.get(asked)).toEqual(model.get(asked));
        expect(sorted.below(asked)).toEqual(all.findLast(({ at }) => at < asked));
        expect(sorted.atOrAbove(asked)).toEqual(all.find(({ at }) => at >= asked));
        const within = all.filter(({ at }) => at >= asked && at < asked + 100n);
        expect(sorted.between(asked, asked + 100n)).toEqual(within);
      }),
      { numRuns: 40 },
    );
  },
);
