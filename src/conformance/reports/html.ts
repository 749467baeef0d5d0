/** One or several reports as a page that needs nothing else: back-ends side by side, a row for each case. */
import { areaOf, LEVELS } from '../case.ts';
import { type CaseResult, type ConformanceReport, tally } from '../report.ts';
import { VERDICTS } from '../verdict.ts';
import { PAGE_SCRIPT, PAGE_STYLE } from './html-page.ts';

/** What a back-end did in a case; undefined if its report does not have it. */
type Row = readonly (CaseResult | undefined)[];

export function reportHtml(reports: readonly ConformanceReport[]): string {
  const title = `vhost-user conformance: ${reports.map(nameOf).join(', ')}`;
  return [
    '<!doctype html>',
    '<html lang="en">',
    `<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<title>${text(title)}</title><style>${PAGE_STYLE}</style></head>`,
    '<body>',
    '<h1>vhost-user conformance</h1>',
    LEGEND,
    `<div class="cards">${reports.map(card).join('')}</div>`,
    FILTERS,
    caseTable(reports),
    `<script>${PAGE_SCRIPT}</script>`,
    '</body></html>',
    '',
  ].join('\n');
}

const nameOf = ({ backend, versions }: ConformanceReport): string =>
  `${backend.name} ${versions.backend}`.trim();

/** What the words mean; the same as in docs/conformance. */
const LEGEND = [
  '<div class="legend">',
  '<b>levels</b><span><b>must</b>: the specification demands it · <b>should</b>: it recommends it, or describes it ',
  'without a word of obligation · <b>robustness</b>: the other side did something wrong; to refuse and go on is expected</span>',
  '<b>verdicts</b><span><b class="pass">pass</b>: as expected, and a good request was answered afterwards · ',
  '<b class="fail">fail</b>: something else · <b class="dead">dead</b>: the process ended, or nothing was answered in time · ',
  '<b class="skip">skip</b>: does not apply</span>',
  '</div>',
].join('');

const FILTERS = [
  '<form class="filters">',
  ...LEVELS.map(
    (level) => `<label><input type="checkbox" name="level" value="${level}" checked> ${level}</label>`,
  ),
  '<span></span>',
  ...VERDICTS.map(
    (verdict) =>
      `<label class="${verdict}"><input type="checkbox" name="verdict" value="${verdict}" checked> ${verdict}</label>`,
  ),
  '<span></span>',
  '<label><input type="checkbox" name="different"> only where they differ</label>',
  '<input type="search" name="words" placeholder="id, title or section" aria-label="search">',
  '<output></output>',
  '</form>',
].join('\n');

/** Counts of a back-end, as bars, and what it is. */
function card(report: ConformanceReport): string {
  const { backend, versions, date, ms, cases } = report;
  const rows = LEVELS.map((level) => {
    const counts = tally(cases, level);
    const total = VERDICTS.reduce((sum, verdict) => sum + counts[verdict], 0);
    const parts = VERDICTS.filter((verdict) => counts[verdict] > 0).map(
      (verdict) =>
        `<i class="${verdict}" style="flex:${counts[verdict]}" title="${counts[verdict]} ${verdict}">${counts[verdict]}</i>`,
    );
    return `<tr><th>${level}</th><td><div class="bar">${parts.join('')}</div></td><td>${total}</td></tr>`;
  });
  const facts = [
    ['device', backend.device],
    ['features', backend.features],
    ['protocol features', backend.protocolFeatures],
    ['rings', String(backend.queues)],
    ['memory slots', String(backend.memSlots)],
    ['connections', backend.reconnects ? 'one after the other' : 'one, then it ends'],
    ['suite', `${versions.suite}, Node ${versions.node}, Linux ${versions.kernel}`],
    ['run', `${date.slice(0, 10)}, ${cases.length} cases in ${(ms / 1000).toFixed(1)} s`],
  ];
  return [
    `<section class="card"><h2>${text(nameOf(report))}</h2><table class="counts">${rows.join('')}</table>`,
    '<details><summary>what it is</summary><dl>',
    ...facts.map(([name, value]) => `<dt>${name}</dt><dd>${text(value ?? '')}</dd>`),
    '</dl></details></section>',
  ].join('');
}

function caseTable(reports: readonly ConformanceReport[]): string {
  const head = reports.map((report) => `<th class="backend">${text(nameOf(report))}</th>`).join('');
  const columns = reports.length + 2;
  const byId = reports.map(({ cases }) => new Map(cases.map((each) => [each.id, each])));
  const ids = new Set(reports.flatMap(({ cases }) => cases.map(({ id }) => id)));
  let area = '';
  const rows = [...ids].map((id) => {
    const row: Row = byId.map((results) => results.get(id));
    const known = row.find((each) => each !== undefined)!;
    const isNewArea = areaOf(known) !== area;
    area = areaOf(known);
    const heading = isNewArea
      ? `<tbody class="area"><tr><th>${text(area)}</th><th></th>${reports.map(areaSum(area)).join('')}</tr></tbody>`
      : '';
    return `${heading}${caseRow(known, row, reports, columns)}`;
  });
  const titles = `<th>case (click one for what was expected and seen)</th><th class="level">level</th>${head}`;
  return `<div class="scroll"><table class="cases"><thead><tr>${titles}</tr></thead>\n${rows.join('\n')}</table></div>`;
}

/** How many cases of an area passed, of those that apply. */
const areaSum =
  (area: string) =>
  ({ cases }: ConformanceReport): string => {
    const { pass, fail, dead } = tally(cases.filter((each) => areaOf(each) === area));
    return `<th class="sum">${pass} of ${pass + fail + dead}</th>`;
  };

function caseRow(
  known: CaseResult,
  row: Row,
  reports: readonly ConformanceReport[],
  columns: number,
): string {
  const { id, title, level, spec, expected } = known;
  const verdicts = row.map((each) => each?.verdict ?? '');
  const cells = row.map((each) =>
    each === undefined
      ? '<td class="verdict">–</td>'
      : `<td class="verdict ${each.verdict}" title="${text(each.seen)}">${each.verdict}</td>`,
  );
  const details = row.map((each, i) => (each === undefined ? '' : resultDetails(each, nameOf(reports[i]!))));
  const words = `${id} ${title} ${spec.section}`.toLowerCase();
  return [
    `<tbody class="case" data-level="${level}" data-verdicts="${verdicts.join(' ')}" data-words="${text(words)}">`,
    `<tr class="head" tabindex="0" aria-expanded="false"><td><code>${text(id)}</code><br>${text(title)}</td><td class="level">${level}</td>${cells.join('')}</tr>`,
    `<tr class="more" hidden><td colspan="${columns}"><p><b>${text(spec.section)}</b>: ${text(spec.says)}.</p>`,
    `<p>Expected: ${text(expected)}.</p><div class="results">${details.join('')}</div></td></tr></tbody>`,
  ].join('');
}

function resultDetails({ verdict, seen, trace, ms }: CaseResult, name: string): string {
  const lines = trace.length === 0 ? '' : `<pre>${trace.map(text).join('\n')}</pre>`;
  return `<section><h3>${text(name)}: <span class="${verdict}">${verdict}</span>, ${ms} ms</h3><p>${text(seen)}</p>${lines}</section>`;
}

/** Text as it may stand in HTML, also in a quoted attribute. What a back-end wrote is in it. */
const text = (raw: string): string =>
  raw
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
