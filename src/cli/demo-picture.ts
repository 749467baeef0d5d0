/** What the demo shows while it works: a map of the memory slots, and numbers. */
import { GiB, hex, MiB } from '../units.ts';
import type { DemoFiles } from './demo-files.ts';
import type { DemoMemory } from './demo-memory.ts';
import type { Line, Span } from './live-area.ts';

export interface DemoState {
  readonly memory: Omit<DemoMemory, 'step' | 'turn' | 'ebb'>;
  readonly files: Pick<DemoFiles, 'bytes' | 'compared' | 'operations' | 'wrong'>;
  /** Guest physical address of the virtio-mem device. */
  readonly address: number;
  /** Entries of the back-end's table, and how many of them are used. */
  readonly limit: number;
  readonly used: number;
  readonly elapsedMs: number;
  readonly totalMs: number;
  readonly operationsPerSecond: number;
}

/** The picture, in lines of at most `columns`; the most important ones first. */
export function pictureOf(state: DemoState, columns: number): Line[] {
  const { memory, files, address, limit, used } = state;
  const { slotSize, plugged, target } = memory;
  const time = `${seconds(Math.min(state.elapsedMs, state.totalMs))} of ${seconds(state.totalMs)} s`;
  const title = 'vhost-user demo';
  const gap = ' '.repeat(Math.max(1, Math.min(columns, 78) - title.length - time.length));
  const going = plugged < target ? 'growing' : 'shrinking';
  const way = plugged === target ? '' : `, ${going} to ${sizeOf(target * slotSize)}`;
  return [
    [{ text: title, colour: 'bold' }, gap, { text: time, colour: 'dim' }],
    [],
    [`virtio-mem at ${hex(address)}: `, { text: sizeOf(plugged * slotSize), colour: 'bold' }, way],
    ...mapOf(memory, columns),
    [
      {
        text: ` a cell is a memory slot of ${sizeOf(slotSize)}: █ mapped ░ not ▒ just unmapped`,
        colour: 'dim',
      },
    ],
    [],
    [
      'slots    ',
      { text: `${used} of ${limit}`, colour: 'bold' },
      ` in use, ${memory.mapped} mapped, ${memory.unmapped} unmapped`,
    ],
    [
      'files    ',
      { text: `${count(state.operationsPerSecond)}/s`, colour: 'bold' },
      ` operations, ${count(files.operations)} in all, ${count(files.bytes / MiB)} MiB moved`,
    ],
    [
      'checked  ',
      `${count(files.compared)} chunks read back, `,
      { text: `${files.wrong} wrong`, colour: files.wrong === 0 ? 'green' : 'red' },
    ],
    [
      'plugging ',
      `${micros(median(memory.plugTimes))} a slot (median), ${micros(fastest(memory.plugTimes))} (fastest)`,
    ],
  ];
}

/** A cell for each slot, in rows of whole eights. */
function mapOf({ slots, plugged, last }: DemoState['memory'], columns: number): Line[] {
  const perRow = Math.max(8, Math.min(64, Math.floor((columns - 2) / 8) * 8));
  const lines: Line[] = [];
  for (let first = 0; first < slots; first += perRow) {
    const end = Math.min(slots, first + perRow);
    const spans: Span[] = [];
    for (let slot = first; slot < end; slot += 1) spans.push(cellOf(slot, plugged, last));
    lines.push([' ', ...joined(spans)]);
  }
  return lines;
}

function cellOf(slot: number, plugged: number, last: number): Span {
  if (slot === last) return { text: slot < plugged ? '█' : '▒', colour: 'yellow' };
  return slot < plugged ? { text: '█', colour: 'green' } : { text: '░', colour: 'dim' };
}

/** Neighbours of one colour in one span. */
function joined(spans: readonly Span[]): Span[] {
  const result: Span[] = [];
  for (const span of spans) {
    const previous = result.at(-1);
    if (previous?.colour === span.colour)
      result[result.length - 1] = { ...span, text: previous!.text + span.text };
    else result.push(span);
  }
  return result;
}

export const sizeOf = (bytes: number): string =>
  bytes === 0
    ? '0'
    : bytes >= GiB
      ? `${Number((bytes / GiB).toFixed(2))} GiB`
      : `${Math.round(bytes / MiB)} MiB`;

export const seconds = (ms: number): string => (ms / 1000).toFixed(1);

/** A whole number with its thousands apart. */
export const count = (value: number): string => Math.round(value).toLocaleString('en');

export const micros = (ms: number): string => (Number.isFinite(ms) ? `${(1000 * ms).toFixed(0)} us` : '–');

export const fastest = (times: readonly number[]): number => times.reduce((a, b) => Math.min(a, b), Infinity);

export function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Infinity;
}
