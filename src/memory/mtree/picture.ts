/** Draws views as columns of boxes, lowest address first. Heights grow with the logarithm of sizes, so that all can be read. */
import { address16 } from './names.ts';
import type { MtreeReport, ReportRange, ReportView } from './report.ts';

const COLUMN = 430;
const BOX = 230;
const MARGIN = 16;
const LINE = 14;
/** Width of a character of the font below, rounded up. */
const CHARACTER = 7;

const COLOURS = {
  ram: '#b7e1cd',
  rom: '#f9cb9c',
  romd: '#f6e3a1',
  ramd: '#a8dadc',
  'i/o': '#cfd8f6',
} as const;

/** An SVG document. Views with nothing in them are left out. */
export function pictureOf({ views, guesses }: MtreeReport): string {
  const columns = views
    .filter(({ ranges }) => ranges.length > 0)
    .map((view, index) => column(view, MARGIN + index * COLUMN));
  const height = Math.max(0, ...columns.map((drawn) => drawn.height)) + (guesses.length + 3) * LINE + MARGIN;
  const longest = Math.max(0, ...guesses.map((guess) => guess.length));
  const width = Math.max(COLUMN, columns.length * COLUMN, longest * CHARACTER) + 2 * MARGIN;
  const notes = ['guessed:', ...guesses].map((guess, index) =>
    label(MARGIN, height - (guesses.length - index + 1) * LINE, guess, '#555'),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="monospace" font-size="11">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    ...columns.map(({ text }) => text),
    ...(guesses.length > 0 ? notes : []),
    '</svg>\n',
  ].join('\n');
}

function column(view: ReportView, x: number): { readonly text: string; readonly height: number } {
  const lines = [label(x, MARGIN + LINE, view.spaces.join(', ').slice(0, 60), 'black', 'bold')];
  let y = MARGIN + 2 * LINE;
  let end: bigint | undefined;
  for (const range of view.ranges) {
    if (end !== undefined && range.start > end) {
      lines.push(label(x + 120, y + LINE - 3, '⋮', '#999'));
      y += LINE;
    }
    const height = heightOf(range.size);
    lines.push(box(view, range, { x, y, height }));
    y += height;
    end = range.start + range.size;
  }
  return { text: lines.join('\n'), height: y };
}

function box(view: ReportView, range: ReportRange, at: { x: number; y: number; height: number }): string {
  const { x, y, height } = at;
  const slot = view.memoryTable.findIndex(
    ({ guestPhysAddr, memorySize }) =>
      guestPhysAddr <= range.start && range.start < guestPhysAddr + memorySize,
  );
  const name = `${range.name}${range.offset === 0n ? '' : ` +${range.offset.toString(16)}`}`;
  return [
    `<rect x="${x + 125}" y="${y}" width="${BOX}" height="${height}" fill="${COLOURS[range.type]}" stroke="#666" stroke-width="0.5">`,
    `<title>${escaped(`${name}: ${range.size.toString(16)} bytes, ${range.type}, priority ${range.priority}`)}</title></rect>`,
    label(x, y + 11, address16(range.start), '#333'),
    label(x + 130, y + 11, `${range.type} ${name}`.slice(0, 34), 'black'),
    ...(slot < 0 ? [] : [label(x + 130 + BOX, y + 11, `slot ${slot}`, '#27743f')]),
  ].join('\n');
}

const heightOf = (size: bigint): number => LINE + Math.max(0, size.toString(2).length - 12) * 2;

const label = (x: number, y: number, text: string, fill: string, weight = 'normal'): string =>
  `<text x="${x}" y="${y}" fill="${fill}" font-weight="${weight}">${escaped(text)}</text>`;

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
