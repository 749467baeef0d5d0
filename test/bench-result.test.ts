import { describe, expect, test } from 'vitest';
import { svg } from './bench/picture.ts';
import { markdown } from './bench/report.ts';
import { baselineOf, type Figure, median, regressions, type Result } from './bench/result.ts';

const figure = (name: string, cpu: number | undefined): Figure => ({
  group: 'throughput',
  name,
  unit: 'op/s',
  value: { ours: 1_000_000, rust: 500_000 },
  ratio: { rust: 2 },
  ...(cpu === undefined ? {} : { cpu: { ours: 1 }, cpuRatio: { rust: cpu } }),
});
const result = (...figures: readonly Figure[]): Result => ({
  when: '',
  node: '20',
  kernel: '6',
  processors: 2,
  seconds: 1,
  peers: ['ours', 'rust'],
  figures,
});

test('more than a tenth more processor time per request is a regression, and named', () => {
  const baseline = baselineOf(
    result(figure('getattr', 2), figure('lookup', 1.5), figure('start', undefined)),
  );
  expect(baseline).toEqual({ 'throughput: getattr': 2, 'throughput: lookup': 1.5 });
  expect(
    regressions(result(figure('getattr', 1.83), figure('lookup', 3), figure('new', 1)), baseline),
  ).toEqual([]);
  const [found, ...others] = regressions(result(figure('getattr', 1.8)), baseline);
  expect(found).toMatch(/^throughput: getattr: 11 % more/);
  expect(others).toEqual([]);
});

test('the page has a row for each figure, whatever was not measured, and says where the unit is another', () => {
  const slots = { ...figure('slots', undefined), unit: 'us' };
  const page = markdown(result(figure('getattr', 2), figure('lookup', undefined), slots), '# Title');
  expect(page).toContain('| workload (op/s) |');
  expect(page).toContain('| lookup | 1,000,000 | 500,000 | **2.00** | – | – |');
  expect(page).toContain('| slots (us) |');
});

describe('the picture', () => {
  const drawn = (...figures: readonly Figure[]): string => svg(markdown(result(...figures), '# Title'));

  test('has a bar and a figure for each ratio of the page, and a mark for that of processor time', () => {
    const lookup = figure('lookup', undefined);
    const before = drawn(lookup);
    const after = drawn(lookup, figure('getattr <&>', 1.5));
    const added = (what: string): number => after.split(what).length - before.split(what).length;
    expect(after).toContain('getattr &lt;&amp;>');
    expect(['>2.00<', 'class="peer0"', 'class="cpu"'].map(added)).toEqual([1, 1, 1]);
  });

  test('marks bars that are longer than they are drawn', () => {
    const cuts = (rust: number): number =>
      drawn({ ...figure('a', undefined), ratio: { rust } }).split('class="cut"').length;
    expect([0.02, 0.25, 1, 16, 17].map((ratio) => cuts(ratio) - cuts(1))).toEqual([2, 0, 0, 0, 2]);
  });
});

test('a median of an even count lies between the two in the middle', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([9, 1, 5])).toBe(5);
});
