/** The page of a result: docs/performance.md. Its picture is drawn from it, see picture.ts. */
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
  return `${notes.trim()}\n\n${machine}\n\n![Ratios to the others](bench.svg)\n\n${tables.join('\n')}`;
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
  const rows = figures.map(({ name, unit, value, ratio, cpu, cpuRatio }) => [
    unit === figures[0]!.unit ? name : `${name} (${unit})`,
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

function groupsOf(figures: readonly Figure[]): Map<Figure['group'], Figure[]> {
  const groups = new Map<Figure['group'], Figure[]>();
  for (const figure of figures) groups.set(figure.group, [...(groups.get(figure.group) ?? []), figure]);
  return groups;
}
