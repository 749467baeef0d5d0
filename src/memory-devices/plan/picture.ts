/** A plan as a picture: one bar for each step, of the memslots used and reserved and of those left; and why a step is refused. */
import type { PlanStep } from './plan.ts';
import { endingLines, refusalLines, titleOf, type PlanReport } from './report.ts';

const LEFT = 330;
const WIDTH = 560;
/** Right of the bars, for what they come to. */
const FIGURES = 150;
const ROW = 26;
const BAR = 18;
const LINE = 15;
const TOP = 44;
/** Letters of a reason that fit beside the names. */
const LETTERS = 110;
const COLOURS = {
  used: '#3b6ea8',
  reserved: '#9dbfe6',
  free: '#e4e7eb',
  refused: '#c0392b',
  text: '#1f2933',
} as const;

/** An SVG document. */
export function pictureOf(report: PlanReport): string {
  const scale = Math.max(1, ...report.steps.map(entriesShown));
  const rows: string[] = [];
  let y = TOP;
  for (const step of report.steps) {
    const reasons = reasonsOf(step);
    rows.push(
      ...row(step, y, scale),
      ...reasons.map((text, i) => textAt(y + ROW + 6 + i * LINE, text, true)),
    );
    y += ROW + (reasons.length === 0 ? 0 : reasons.length * LINE + 6);
  }
  for (const text of endingLines(report).flatMap(wrapped)) {
    y += LINE;
    rows.push(textAt(y + 6, text, false));
  }
  const height = y + 24;
  const width = LEFT + WIDTH + FIGURES;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="${COLOURS.text}">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...legend(),
    ...rows,
    `</svg>\n`,
  ].join('\n');
}

/** How far the scale must reach for a step. */
function entriesShown({ counts, outcome }: PlanStep): number {
  const refusing = outcome.kind === 'refused' ? (outcome.limit ?? 0) : 0;
  return Math.max(counts.limit ?? counts.used + counts.reserved, refusing);
}

const reasonsOf = ({ outcome }: PlanStep): string[] =>
  outcome.kind === 'refused' ? refusalLines(outcome).flatMap(wrapped) : [];

function legend(): string[] {
  const at = (index: number): number => LEFT + index * 90;
  return [
    ...(['used', 'reserved', 'free'] as const).flatMap((name, index) => [
      `<rect x="${at(index)}" y="14" width="12" height="12" fill="${COLOURS[name]}"/>`,
      `<text x="${at(index) + 18}" y="24">${name}</text>`,
    ]),
    `<rect x="${at(3)}" y="14.5" width="12" height="11" fill="none" stroke="${COLOURS.refused}"/>`,
    `<text x="${at(3) + 18}" y="24">refused</text>`,
    `<line x1="${at(4) + 6}" y1="10" x2="${at(4) + 6}" y2="30" stroke="${COLOURS.refused}" stroke-width="3"/>`,
    `<text x="${at(4) + 16}" y="24">the limit that is too low</text>`,
  ];
}

function row({ device, outcome, counts }: PlanStep, y: number, scale: number): string[] {
  const title = escaped(titleOf(device));
  const refusal = outcome.kind === 'refused' ? outcome : undefined;
  const colour = refusal === undefined ? COLOURS.text : COLOURS.refused;
  const { used, reserved, limit } = counts;
  const end = limit ?? used + reserved;
  const parts = [
    bar(0, used, COLOURS.used),
    bar(used, used + reserved, COLOURS.reserved),
    bar(used + reserved, end, COLOURS.free),
  ];
  const numbers = `${used} + ${reserved}${limit === undefined ? '' : ` of ${limit}`}`;
  const figures =
    refusal === undefined
      ? numbers
      : refusal.limit === undefined
        ? 'refused'
        : `refused: limit ${refusal.limit}`;
  return [
    `<g><title>${refusal === undefined ? `${title}: ${numbers}` : escaped(refusal.reason)}</title>`,
    `<text x="${LEFT - 10}" y="${y + 14}" text-anchor="end" fill="${colour}">${title}</text>`,
    ...parts.flatMap((part) => part(y, scale)),
    ...(refusal === undefined ? [] : refusalMarks(refusal.limit, y, scale)),
    `<text x="${LEFT + WIDTH + 8}" y="${y + 14}" fill="${colour}">${figures}</text>`,
    `</g>`,
  ];
}

/** A frame, and a line where the table that is too small ends. */
function refusalMarks(limit: number | undefined, y: number, scale: number): string[] {
  const frame = `<rect x="${LEFT}" y="${y}" width="${WIDTH}" height="${BAR}" fill="none" stroke="${COLOURS.refused}"/>`;
  if (limit === undefined) return [frame];
  const x = placeOf(limit, scale);
  return [
    frame,
    `<line class="limit" x1="${x}" y1="${y - 4}" x2="${x}" y2="${y + BAR + 4}" stroke="${COLOURS.refused}" stroke-width="3"/>`,
  ];
}

const bar =
  (from: number, to: number, colour: string) =>
  (y: number, scale: number): string[] => {
    if (to <= from) return [];
    const x = placeOf(from, scale);
    return [
      `<rect x="${x}" y="${y}" width="${Math.max(1, placeOf(to, scale) - x)}" height="${BAR}" fill="${colour}"/>`,
    ];
  };

const placeOf = (entries: number, scale: number): number =>
  LEFT + Math.round((entries / scale) * WIDTH * 10) / 10;

const textAt = (y: number, text: string, isRefusal: boolean): string =>
  `<text x="${LEFT}" y="${y}"${isRefusal ? ` font-size="11" fill="${COLOURS.refused}"` : ''}>${escaped(text)}</text>`;

/** Cut into lines, between words. */
const wrapped = (text: string): string[] =>
  text.match(new RegExp(`\\S.{0,${LETTERS - 2}}(?!\\S)|\\S+`, 'g')) ?? [];

const escaped = (text: string): string =>
  text.replaceAll(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);
