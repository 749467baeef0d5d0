/** A line for each case while it runs, and a table at the end. */
import { LEVELS } from '../case.ts';
import { type CaseResult, type ConformanceReport, tally } from '../report.ts';
import { type Verdict, VERDICTS } from '../verdict.ts';

const COLOURS: { readonly [verdict in Verdict]: number } = { pass: 32, fail: 31, dead: 35, skip: 90 };
const ID_WIDTH = 44;

export function resultLine({ id, title, level, verdict, seen, ms }: CaseResult, hasColours: boolean): string {
  const line = `${paint(verdict.padEnd(4), verdict, hasColours)}  ${level.padEnd(10)}  ${id.padEnd(ID_WIDTH)}  ${title}`;
  if (verdict === 'pass') return `${line} (${ms} ms)\n`;
  return `${line}\n${' '.repeat(18)}${seen}\n`;
}

export function summaryText({ backend, versions, cases, ms }: ConformanceReport): string {
  const width = 8;
  const head = ['', ...VERDICTS]
    .map((text, i) => (i === 0 ? text.padEnd(12) : text.padStart(width)))
    .join('');
  const rows = LEVELS.map((level) => {
    const counts = tally(cases, level);
    return `${level.padEnd(12)}${VERDICTS.map((verdict) => String(counts[verdict]).padStart(width)).join('')}`;
  });
  const title = `${backend.name} ${versions.backend}`.trim();
  return ['', `${title}: ${cases.length} cases in ${(ms / 1000).toFixed(1)} s`, head, ...rows, ''].join('\n');
}

const paint = (text: string, verdict: Verdict, hasColours: boolean): string =>
  hasColours ? `\x1b[${COLOURS[verdict]}m${text}\x1b[0m` : text;
