import { describe, expect, test } from 'vitest';
import type { CaseResult, ConformanceReport } from '../../src/conformance/report.ts';
import { reportHtml } from '../../src/conformance/reports/html.ts';
import { parseReport, reportJson } from '../../src/conformance/reports/json.ts';
import { reportTap } from '../../src/conformance/reports/tap.ts';
import { resultLine, summaryText } from '../../src/conformance/reports/terminal.ts';
import { ConfigError } from '../../src/errors.ts';

const result = (change: Partial<CaseResult>): CaseResult => ({
  id: 'memory.add.overlap',
  title: 'An overlap is refused',
  level: 'must',
  spec: { section: 'vhost-user § X', says: 'it is refused' },
  verdict: 'pass',
  expected: 'a refusal',
  seen: 'as expected',
  trace: ['> ADD_MEM_REG', '< ADD_MEM_REG reply 0x1'],
  ms: 3,
  ...change,
});

const CASES: readonly CaseResult[] = [
  result({}),
  result({ id: 'memory.table.0', verdict: 'fail', seen: 'was "accepted"', level: 'should' }),
  result({ id: 'ring.num.3', verdict: 'dead', level: 'robustness', seen: 'exit status 1\nand # more' }),
  result({ id: 'ring.skip', verdict: 'skip', seen: 'no CONFIG' }),
];

const report = (name: string, cases: readonly CaseResult[] = CASES): ConformanceReport => ({
  backend: {
    name,
    from: 'run {socket}',
    device: 'fs',
    features: '0x1',
    protocolFeatures: '0x2',
    queues: 2,
    memSlots: 32,
    reconnects: false,
  },
  versions: { backend: '1.2', suite: '0.1.0', node: 'v20', kernel: '6.1' },
  date: '2026-01-02T03:04:05.000Z',
  ms: 1234,
  cases,
});

describe('JSON', () => {
  test('is read back as it was', () => {
    expect(parseReport(reportJson(report('a')), 'a.json')).toEqual(report('a'));
  });

  test.each([
    ['not JSON', '{'],
    ['no report', '{"cases":[]}'],
    ['a verdict nobody knows', reportJson(report('a', [result({ verdict: 'maybe' as 'pass' })]))],
  ])('is refused: %s', (_, text) => {
    expect(() => parseReport(text, 'x.json')).toThrow(ConfigError);
  });
});

describe('TAP', () => {
  const lines = reportTap(report('a')).split('\n');

  test('has a plan and a line for each case, in order', () => {
    expect(lines.slice(0, 3)).toEqual(['TAP version 14', '# a 1.2', '1..4']);
    expect(lines.filter((line) => /^(not )?ok /.test(line)).map((line) => line.slice(0, 24))).toEqual([
      'ok 1 - memory.add.overla',
      'not ok 2 - memory.table.',
      'not ok 3 - ring.num.3: A',
      'ok 4 - ring.skip: An ove',
    ]);
  });

  test('a failure at the level robustness is TODO, a skipped case is SKIP', () => {
    expect(lines.find((line) => line.includes('ring.num.3'))).toMatch(/# TODO dead/);
    expect(lines.find((line) => line.includes('ring.skip'))).toMatch(/# SKIP no CONFIG$/);
    expect(lines.find((line) => line.includes('memory.table.0'))).not.toMatch(/TODO/);
  });

  test('a failure is explained in YAML, each value on one line', () => {
    expect(lines).toContain(String.raw`  seen: "was \"accepted\""`);
    expect(lines).toContain(String.raw`  seen: "exit status 1\nand # more"`);
  });
});

describe('HTML', () => {
  const html = reportHtml([
    report('a'),
    report('b', [result({ verdict: 'fail', seen: '<script>x</script>' })]),
  ]);

  test('needs nothing else: no address in it is loaded', () => {
    expect(html).not.toMatch(/(src|href)=|@import|url\(/);
  });

  test('shows back-ends side by side, and a dash where one has no result', () => {
    expect(html).toContain('<th class="backend">a 1.2</th><th class="backend">b 1.2</th>');
    expect(html).toMatch(/<td class="verdict dead"[^>]*>dead<\/td><td class="verdict">–<\/td>/);
  });

  test('what a back-end says stays text', () => {
    expect(html).toContain('&lt;script&gt;x&lt;/script&gt;');
    expect(html.match(/<script>/g)).toHaveLength(1);
  });

  test('names each case once, under its area', () => {
    expect(html.match(/class="case"/g)).toHaveLength(4);
    expect(
      html.match(/<tbody class="area">.*?<\/tbody>/g)!.map((area) => /<th[^>]*>(.*?)</.exec(area)![1]),
    ).toEqual(['memory', 'ring']);
  });
});

describe('the terminal', () => {
  test('a line says verdict, level, id and title; what was seen follows if it did not pass', () => {
    expect(resultLine(CASES[0]!, false)).toMatch(
      /^pass {2}must +memory\.add\.overlap +An overlap is refused \(3 ms\)\n$/,
    );
    expect(resultLine(CASES[1]!, false)).toMatch(/^fail .*\n +was "accepted"\n$/);
    expect(resultLine(CASES[0]!, true)).toContain('\x1b[32mpass\x1b[0m');
  });

  test('the table counts verdicts of each level', () => {
    expect(
      summaryText(report('a'))
        .split('\n')
        .map((line) => line.trim().split(/\s+/).join(' ')),
    ).toEqual([
      '',
      'a 1.2: 4 cases in 1.2 s',
      'pass fail dead skip',
      'must 1 0 0 1',
      'should 0 1 0 0',
      'robustness 0 0 1 0',
      '',
    ]);
  });
});
