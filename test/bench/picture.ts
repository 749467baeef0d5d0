/**
 * docs/bench.svg: the ratios of docs/performance.md as bars, drawn from the tables of that page, so that it can be drawn again without
 * measuring anything.
 *
 * The scale is logarithmic: twice as good and half as good are equally far from the line at 1.
 */

/** A row of a table: ratios, in the order of the back-ends compared with; undefined: not measured. */
interface Row {
  readonly name: string;
  readonly ratios: readonly (number | undefined)[];
  readonly cpuRatios: readonly (number | undefined)[];
}
interface Group {
  readonly title: string;
  readonly rows: readonly Row[];
}

const WIDTH = 830;
const LABELS_END = 246;
const LEFT = 256;
const OCTAVE = 68;
/** Powers of two at the ends of the scale. A bar that goes on is cut there, and marked. */
const LOWEST = -2;
const HIGHEST = 4;
const RIGHT = LEFT + (HIGHEST - LOWEST) * OCTAVE;
const ONE = LEFT - LOWEST * OCTAVE;
/** Where the figures of each back-end end: a column, so that they are never in the way of a bar. */
const FIGURES = [RIGHT + 70, RIGHT + 142] as const;

const HEADER = 70;
const HEADING = 44;
const BAR = 7;
const ROW = 22;
const GAP = 16;

const STYLE = `text{fill:#1f2933}.faint{fill:#52606d}.page{fill:#fff}.worse{fill:#eef0f3}.grid{stroke:#d5dae0}
.one{stroke:#1f2933;stroke-width:1.5}.peer0{fill:#2b6cb0}.peer1{fill:#dd6b20}.cut{stroke:#fff;stroke-width:2}.cpu{fill:#1f2933;stroke:#fff;stroke-width:.7}
@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.faint{fill:#9aa5b1}.page{fill:#0d1117}.worse{fill:#1b222c}.grid{stroke:#39424e}
.one{stroke:#e4e7eb}.peer0{fill:#63a4e0}.peer1{fill:#f0a04b}.cut{stroke:#0d1117}.cpu{fill:#e4e7eb;stroke:#0d1117}}`;

const FAINT = 'class="faint"';
const TO_THE_LEFT = 'text-anchor="end"';
const CENTRED = 'text-anchor="middle"';

/** @param page docs/performance.md */
export function svg(page: string): string {
  const peers = peersOf(page);
  const parts = header(peers);
  let y = HEADER;
  for (const group of groupsOf(page)) {
    parts.push(...groupAt(y, group, peers));
    y += HEADING + ROW * group.rows.length + GAP;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="sans-serif" font-size="11">
<style>${STYLE}</style><rect class="page" width="100%" height="100%"/>
${parts.join('\n')}
</svg>
`;
}

function header(peers: readonly string[]): string[] {
  const tick = 20 + 140 * peers.length;
  return [
    text(14, 24, 'How many times as good as the others', 'font-size="15" font-weight="bold"'),
    ...peers.flatMap((peer, i) => [
      `<rect class="peer${i}" x="${14 + 140 * i}" y="38" width="18" height="${BAR}"/>`,
      text(38 + 140 * i, 45, peer),
    ]),
    processorTime(tick, 38),
    text(tick + 8, 45, 'the same in processor time of the back-end per request'),
    `<rect class="peer0" x="${tick + 310}" y="38" width="18" height="${BAR}"/>`,
    cut(tick + 316, 38),
    text(tick + 334, 45, 'longer than drawn'),
    text(ONE - 8, HEADER, '◂ ours is worse', `${FAINT} ${TO_THE_LEFT}`),
    text(ONE + 8, HEADER, 'ours is better ▸', FAINT),
  ];
}

function groupAt(top: number, { title, rows }: Group, peers: readonly string[]): string[] {
  const first = top + HEADING;
  const bottom = first + ROW * rows.length;
  const powers = Array.from({ length: HIGHEST - LOWEST + 1 }, (_, i) => LOWEST + i);
  return [
    text(14, top + 20, title, 'font-size="13" font-weight="bold"'),
    `<rect class="worse" x="${LEFT}" y="${first - 4}" width="${ONE - LEFT}" height="${bottom - first + 4}"/>`,
    ...powers.flatMap((power) => gridLine(power, first - 4, bottom)),
    ...peers.map((peer, i) =>
      text(FIGURES[i]!, first - 8, `× ${peer.split(' ')[0]}`, `${FAINT} ${TO_THE_LEFT}`),
    ),
    ...rows.flatMap((row, i) => rowAt(first + ROW * i, row)),
  ];
}

function gridLine(power: number, top: number, bottom: number): string[] {
  const x = ONE + power * OCTAVE;
  const [line, label] = power === 0 ? ['one', 'font-weight="bold"'] : ['grid', FAINT];
  return [
    `<line class="${line}" x1="${x}" y1="${top}" x2="${x}" y2="${bottom}"/>`,
    text(x, top - 4, power < 0 ? `1/${2 ** -power}` : String(2 ** power), `${CENTRED} ${label}`),
  ];
}

function rowAt(y: number, { name, ratios, cpuRatios }: Row): string[] {
  return [
    text(LABELS_END, y + 14, name, TO_THE_LEFT),
    ...ratios.flatMap((ratio, i) => {
      const top = y + 3 + i * (BAR + 1);
      const cpu = cpuRatios[i];
      return [
        ...(ratio === undefined ? [] : bar(top, ratio, i)),
        ...(cpu === undefined ? [] : [processorTime(placeOf(cpu), top)]),
        text(FIGURES[i]!, y + 14, ratio?.toFixed(2) ?? '–', TO_THE_LEFT),
      ];
    }),
  ];
}

function bar(y: number, ratio: number, peer: number): string[] {
  const end = placeOf(ratio);
  const power = Math.log2(ratio);
  const drawn = `<rect class="peer${peer}" x="${Math.min(ONE, end)}" y="${y}" width="${Math.max(1, Math.abs(end - ONE))}" height="${BAR}"/>`;
  if (power < LOWEST) return [drawn, cut(LEFT + 8, y)];
  return power > HIGHEST ? [drawn, cut(RIGHT - 8, y)] : [drawn];
}

/** Two strokes through a bar that is longer than it is drawn. */
const cut = (x: number, y: number): string =>
  [x, x + 4].map((at) => `<path class="cut" d="M${at} ${y + BAR + 1}l3 -${BAR + 2}"/>`).join('');

const processorTime = (x: number, y: number): string =>
  `<rect class="cpu" x="${x - 1.5}" y="${y - 1.5}" width="3" height="${BAR + 3}"/>`;

const placeOf = (ratio: number): number =>
  Math.round(10 * (ONE + OCTAVE * Math.min(HIGHEST, Math.max(LOWEST, Math.log2(ratio))))) / 10;

const text = (x: number, y: number, words: string, more = ''): string =>
  `<text x="${x}" y="${y}" ${more}>${words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;

const COMPARED = /^× /;

/** The back-ends compared with, as the tables head their columns. */
function peersOf(page: string): string[] {
  const columns = cellsOf(page.split('\n').find((line) => line.startsWith('| workload')) ?? '');
  return [...new Set(columns.filter((column) => COMPARED.test(column)))].map((column) =>
    column.replace(COMPARED, ''),
  );
}

function groupsOf(page: string): Group[] {
  return page
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const [title = '', ...lines] = section.split('\n');
      const [columns = [], , ...rows] = lines.filter((line) => line.startsWith('|')).map(cellsOf);
      const compared = columns.flatMap((column, i) => (COMPARED.test(column) ? [i] : []));
      const cpu = columns.indexOf('us of processor');
      const isCpu = (i: number): boolean => cpu >= 0 && i > cpu;
      return {
        title,
        rows: rows.map((row) => {
          const at = (i: number): number | undefined => numberOf(row[i]!);
          return {
            name: row[0]!,
            ratios: compared.filter((i) => !isCpu(i)).map(at),
            cpuRatios: compared.filter(isCpu).map(at),
          };
        }),
      };
    });
}

const cellsOf = (line: string): string[] =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());

function numberOf(cell: string): number | undefined {
  const bold = /^\*\*(.*)\*\*$/.exec(cell);
  return bold === null ? undefined : Number(bold[1]);
}
