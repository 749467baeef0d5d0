/** The page and the picture of a result: docs/performance.md and docs/bench.svg. */
import type { PeerName } from './peer.ts';
import { type Figure, type Result, round } from './result.ts';

const NAMES: { readonly [peer in PeerName]: string } = {
  ours: 'ours',
  rust: 'Rust virtiofsd',
  c: 'C virtiofsd 7.2',
};

/** @param notes what a reader must know, in Markdown: it stands before the tables */
export function markdown(result: Result, notes: string): string {
  const groups = groupsOf(result.figures);
  const tables = [...groups].map(([group, figures]) => `## ${TITLES[group]}\n\n${table(result, figures)}\n`);
  const { node, kernel, processors, seconds } = result;
  const machine = `Node ${node}, Linux ${kernel}, ${processors} processors, ${seconds} s for each row and back-end.`;
  return `${notes.trim()}\n\n${machine}\n\n![Ratios to Rust virtiofsd](bench.svg)\n\n${tables.join('\n')}`;
}

const TITLES: { readonly [group in Figure['group']]: string } = {
  throughput: 'One queue, many requests in flight, both sides polling',
  interrupt: 'The same, the generator sleeping until it is called',
  'two queues': 'Our two queues against their one, both sides sleeping',
  latency: 'One request at a time',
  'memory slots': 'Memory slots added and removed',
  start: 'Start and memory',
  cold: 'Reads from a disk, nothing cached',
};

function table({ peers }: Result, figures: readonly Figure[]): string {
  const others = peers.filter((peer) => peer !== 'ours');
  const hasCpu = figures.some(({ cpu }) => cpu !== undefined);
  const head = [
    `workload (${figures[0]!.unit})`,
    ...peers.map((peer) => NAMES[peer]),
    ...others.map((peer) => `× ${NAMES[peer]}`),
    ...(hasCpu ? ['us of processor', ...others.map((peer) => `× ${NAMES[peer]}`)] : []),
  ];
  const rows = figures.map(({ name, value, ratio, cpu, cpuRatio }) => [
    name,
    ...peers.map((peer) => shown(value[peer])),
    ...others.map((peer) => bold(ratio[peer])),
    ...(hasCpu ? [shown(cpu?.ours), ...others.map((peer) => bold(cpuRatio?.[peer]))] : []),
  ]);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

function shown(value: number | undefined): string {
  if (value === undefined) return '–';
  return value >= 1000 ? Math.round(value).toLocaleString('en') : String(round(value));
}

const bold = (ratio: number | undefined): string => (ratio === undefined ? '–' : `**${ratio.toFixed(2)}**`);

const ROW = 22;
const LEFT = 300;
const SCALE = 90;
/** Ratios above this are drawn up to here; the figure beside the bar is right. */
const MAX_BAR = 5;

/** Bars of the ratios to Rust virtiofsd: operations above, processor time below. */
export function svg({ figures }: Result): string {
  const rows = figures.filter(({ ratio }) => ratio.rust !== undefined);
  const height = ROW * rows.length + 60;
  const width = LEFT + MAX_BAR * SCALE + 70;
  const bars = rows.map(({ group, name, ratio, cpuRatio }, i) => {
    const y = 40 + ROW * i;
    return [
      `<text x="${LEFT - 8}" y="${y + 13}" text-anchor="end">${escape(`${group}: ${name}`)}</text>`,
      bar(y + 2, ratio.rust!, 'ops'),
      cpuRatio?.rust === undefined ? '' : bar(y + 11, cpuRatio.rust, 'cpu'),
      `<text x="${LEFT + Math.min(ratio.rust!, MAX_BAR) * SCALE + 6}" y="${y + 13}">${ratio.rust!.toFixed(2)}</text>`,
    ].join('');
  });
  const one = LEFT + SCALE;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">
<style>.ops{fill:#2b6cb0}.cpu{fill:#90cdf4}text{fill:#222}</style><rect width="100%" height="100%" fill="#fff"/>
<text x="8" y="18" font-size="13">Ratio to Rust virtiofsd, higher is better: operations (or time), and processor time of each (light)</text>
${bars.join('\n')}
<line x1="${one}" y1="32" x2="${one}" y2="${height - 12}" stroke="#c53030"/><text x="${one}" y="${height - 2}" text-anchor="middle">1</text>
</svg>
`;
}

const bar = (y: number, ratio: number, style: string): string =>
  `<rect class="${style}" x="${LEFT}" y="${y}" width="${(Math.min(ratio, MAX_BAR) * SCALE).toFixed(1)}" height="8"/>`;

const escape = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

function groupsOf(figures: readonly Figure[]): Map<Figure['group'], Figure[]> {
  const groups = new Map<Figure['group'], Figure[]>();
  for (const figure of figures) groups.set(figure.group, [...(groups.get(figure.group) ?? []), figure]);
  return groups;
}
