import { expect, test } from 'vitest';
import { markdown, svg } from './bench/report.ts';
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

test('page and picture have a row for each figure, whatever was not measured', () => {
  const of = result(figure('getattr <&>', 2), figure('lookup', undefined));
  expect(markdown(of, '# Title')).toContain('| lookup | 1,000,000 | 500,000 | **2.00** | – | – |');
  const picture = svg(of);
  expect(picture).toContain('getattr &lt;&amp;>');
  expect(picture.match(/class="ops"/g)).toHaveLength(2);
});

test('a median of an even count lies between the two in the middle', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([9, 1, 5])).toBe(5);
});
