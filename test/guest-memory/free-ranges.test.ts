import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FreeRanges } from '../../src/guest-memory/free-ranges.ts';

const whole = (start: number, size: number): FreeRanges => {
  const ranges = new FreeRanges();
  ranges.give(start, size);
  return ranges;
};

test('the lowest place at the asked phase is taken, and what lies before it stays free', () => {
  const ranges = whole(0x1000, 0x10_0000);
  expect(ranges.take({ size: 0x1000, alignment: 0x1_0000, phase: 0x3000 })).toBe(0x3000);
  expect(ranges.take({ size: 0x2000, alignment: 0x1000, phase: 0 })).toBe(0x1000);
  expect(ranges.take({ size: 0x1000, alignment: 0x1000, phase: 0 })).toBe(0x4000);
});

test('what does not fit is refused', () => {
  const ranges = whole(0x1000, 0x2000);
  expect(ranges.take({ size: 0x3000, alignment: 0x1000, phase: 0 })).toBe(-1);
  expect(ranges.take({ size: 0x2000, alignment: 0x2000, phase: 0 })).toBe(-1);
  expect(ranges.take({ size: 0x2000, alignment: 0x1000, phase: 0 })).toBe(0x1000);
  expect(ranges.count).toBe(0);
});

test('any sequence of takes and gives hands out disjoint aligned ranges, lowest first, and joins what touches', () => {
  const UNITS = 64;
  const command = fc.oneof(
    fc.record({
      size: fc.integer({ min: 1, max: 12 }),
      shift: fc.nat({ max: 3 }),
      phase: fc.nat({ max: 7 }),
    }),
    fc.record({ give: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 80 }), (commands) => {
      const ranges = whole(0, UNITS);
      const isTaken: boolean[] = Array.from({ length: UNITS }, () => false);
      const taken: { start: number; size: number }[] = [];
      for (const each of commands) {
        if ('give' in each) {
          const [back] = taken.splice(each.give % Math.max(1, taken.length), 1);
          if (back === undefined) continue;
          ranges.give(back.start, back.size);
          isTaken.fill(false, back.start, back.start + back.size);
        } else {
          const alignment = 2 ** each.shift;
          const phase = each.phase % alignment;
          const fits = (at: number): boolean =>
            at % alignment === phase &&
            at + each.size <= UNITS &&
            !isTaken.slice(at, at + each.size).includes(true);
          const expected = Array.from({ length: UNITS }, (_, at) => at).find(fits) ?? -1;
          expect(ranges.take({ size: each.size, alignment, phase })).toBe(expected);
          if (expected < 0) continue;
          isTaken.fill(true, expected, expected + each.size);
          taken.push({ start: expected, size: each.size });
        }
      }
      const runs = isTaken.filter((used, i) => !used && (i === 0 || isTaken[i - 1] === true)).length;
      expect(ranges.count).toBe(runs);
    }),
  );
});
