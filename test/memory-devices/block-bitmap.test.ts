import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BlockBitmap } from '../../src/memory-devices/block-bitmap.ts';

test('ranges of blocks are those of an array of booleans', () => {
  const blocks = 130; // more than four words
  const range = fc
    .tuple(fc.nat(blocks), fc.nat(blocks))
    .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), range, range), { maxLength: 40 }), (steps) => {
      const bitmap = new BlockBitmap(blocks);
      const naive = Array.from({ length: blocks }, () => false);
      for (const [isSet, [from, end], [askFrom, askEnd]] of steps) {
        if (isSet) bitmap.set(from, end - from);
        else bitmap.clear(from, end - from);
        naive.fill(isSet, from, end);
        const next = (wanted: boolean): number => {
          const found = naive.indexOf(wanted, askFrom);
          return found < 0 || found > askEnd ? askEnd : found;
        };
        expect(bitmap.nextSet(askFrom, askEnd)).toBe(next(true));
        expect(bitmap.nextClear(askFrom, askEnd)).toBe(next(false));
        expect(bitmap.isAllSet(askFrom, askEnd - askFrom)).toBe(
          !naive.slice(askFrom, askEnd).includes(false),
        );
        expect(bitmap.isAllClear(askFrom, askEnd - askFrom)).toBe(
          !naive.slice(askFrom, askEnd).includes(true),
        );
      }
      expect(Array.from({ length: blocks }, (_, block) => bitmap.has(block))).toEqual(naive);
    }),
  );
});
