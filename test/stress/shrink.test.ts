import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { shrink } from '../../src/stress/shrink.ts';

const forever = { isSpent: () => false };

/** The culprits, in this order, are what shows the fault. */
const isSubsequence = (part: readonly number[], whole: readonly number[]): boolean => {
  let at = 0;
  for (const item of whole) if (item === part[at]) at += 1;
  return at === part.length;
};

test('what is left shows the fault, in order, and nothing of it can go', async () => {
  const lists = fc
    .tuple(fc.uniqueArray(fc.nat(200), { maxLength: 120 }), fc.infiniteStream(fc.boolean()))
    .map(([items, isCulprit]) => {
      const chosen = items.filter(() => isCulprit.next().value === true).slice(0, 5);
      return { items, culprits: chosen };
    });
  await fc.assert(
    fc.asyncProperty(lists, async ({ items, culprits }) => {
      const shows = (list: readonly number[]): Promise<boolean> =>
        Promise.resolve(isSubsequence(culprits, list));
      const { items: left, isMinimal } = await shrink(items, shows, forever);
      expect(left).toEqual(culprits);
      expect(isMinimal).toBe(true);
    }),
  );
});

test('any fault at all: the result shows it, and single elements that can go are gone', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(9), { minLength: 1, maxLength: 40 }),
      fc.func(fc.boolean()),
      async (items, whim) => {
        const shows = (list: readonly number[]): Promise<boolean> =>
          Promise.resolve(list.length === items.length || whim(list));
        const { items: left, isMinimal } = await shrink(items, shows, forever);
        expect(await shows(left)).toBe(true);
        expect(isSubsequence(left, items)).toBe(true);
        const without = left.map((_, at) => left.filter((_item, index) => index !== at));
        for (const list of isMinimal ? without : []) expect(await shows(list)).toBe(false);
      },
    ),
  );
});

test('a fault at the end of 100,000 operations is found in a few tries', async () => {
  const items = Array.from({ length: 100_000 }, (_, index) => index);
  const shows = (list: readonly number[]): Promise<boolean> =>
    Promise.resolve(list.includes(99_990) && list.includes(99_999));
  const { items: left, tries } = await shrink(items, shows, forever);
  expect(left).toEqual([99_990, 99_999]);
  expect(tries).toBeLessThan(60);
});

test('a spent budget gives what was found so far', async () => {
  let budget = 3;
  const items = Array.from({ length: 64 }, (_, index) => index);
  const shows = (list: readonly number[]): Promise<boolean> => {
    budget -= 1;
    return Promise.resolve(list.includes(0));
  };
  const shrunk = await shrink(items, shows, { isSpent: () => budget <= 0 });
  expect(shrunk.isMinimal).toBe(false);
  expect(shrunk.items).toContain(0);
  expect(shrunk.tries).toBe(3);
});

test('a fault that needs nothing is shown by the empty list', async () => {
  const { items } = await shrink([1, 2, 3], () => Promise.resolve(true), forever);
  expect(items).toEqual([]);
});
