/** A plan as a picture: one bar for each step, of the memslots used and reserved and of those left. */
import type { PlanStep } from './plan.ts';
import { titleOf, type PlanReport } from './report.ts';

const LEFT = 330;
const WIDTH = 560;
const ROW = 26;
const TOP = 44;
const COLOURS = {
  used: '#3b6ea8',
  reserved: '#9dbfe6',
  free: '#e4e7eb',
  refused: '#c0392b',
  text: '#1f2933',
} as const;

/** An SVG document. */
export function pictureOf({ steps }: PlanReport): string {
  const scale = Math.max(1, ...steps.map(({ counts }) => counts.limit ?? counts.used + counts.reserved));
  const height = TOP + steps.length * ROW + 16;
  const width = LEFT + WIDTH + 150;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="${COLOURS.text}">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...legend(),
    ...steps.flatMap((step, index) => row(step, TOP + index * ROW, scale)),
    `</svg>\n`,
  ].join('\n');
}

function legend(): string[] {
  return (['used', 'reserved', 'free', 'refused'] as const).flatMap((name, index) => {
    const x = LEFT + index * 110;
    return [
      `<rect x="${x}" y="14" width="12" height="12" fill="${COLOURS[name]}"/>`,
      `<text x="${x + 18}" y="24">${name}</text>`,
    ];
  });
}

function row({ device, outcome, counts }: PlanStep, y: number, scale: number): string[] {
  const title = escaped(titleOf(device));
  const isRefused = outcome.kind === 'refused';
  const colour = isRefused ? COLOURS.refused : COLOURS.text;
  const { used, reserved, limit } = counts;
  const end = limit ?? used + reserved;
  const parts = [
    bar(0, used, COLOURS.used),
    bar(used, used + reserved, COLOURS.reserved),
    bar(used + reserved, end, COLOURS.free),
  ];
  const numbers = `${used} + ${reserved}${limit === undefined ? '' : ` of ${limit}`}`;
  return [
    `<g><title>${isRefused ? escaped(outcome.reason) : `${title}: ${numbers}`}</title>`,
    `<text x="${LEFT - 10}" y="${y + 14}" text-anchor="end" fill="${colour}">${title}</text>`,
    ...parts.flatMap((part) => part(y, scale)),
    isRefused
      ? `<rect x="${LEFT}" y="${y}" width="${WIDTH}" height="18" fill="none" stroke="${COLOURS.refused}"/>`
      : '',
    `<text x="${LEFT + WIDTH + 8}" y="${y + 14}" fill="${colour}">${isRefused ? 'refused' : numbers}</text>`,
    `</g>`,
  ].filter((line) => line !== '');
}

const bar =
  (from: number, to: number, colour: string) =>
  (y: number, scale: number): string[] => {
    if (to <= from) return [];
    const at = (value: number): number => Math.round((value / scale) * WIDTH * 10) / 10;
    return [
      `<rect x="${LEFT + at(from)}" y="${y}" width="${Math.max(1, at(to) - at(from))}" height="18" fill="${colour}"/>`,
    ];
  };

const escaped = (text: string): string =>
  text.replaceAll(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);
