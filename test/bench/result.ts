/** What a run of the bench found: the form of its JSON, and the comparison with the stored baseline. */
import type { PeerName } from './peer.ts';

/** One row of the table. Ratios are above 1 where ours is better. */
export interface Figure {
  readonly group: 'throughput' | 'interrupt' | 'two queues' | 'latency' | 'memory slots' | 'start' | 'cold';
  readonly name: string;
  /** What `value` counts. */
  readonly unit: string;
  /** Medians. */
  readonly value: { readonly [peer in PeerName]?: number };
  /** Microseconds of processor time of the back-end an operation took, where that is measured. */
  readonly cpu?: { readonly [peer in PeerName]?: number };
  /** Medians of ratios of neighbouring rounds, theirs to ours so that more is better. */
  readonly ratio: { readonly [peer in PeerName]?: number };
  readonly cpuRatio?: { readonly [peer in PeerName]?: number };
  /** Part of the time that the generator itself was at work. */
  readonly generatorLoad?: number;
}

export interface Result {
  readonly when: string;
  readonly node: string;
  readonly kernel: string;
  readonly processors: number;
  readonly seconds: number;
  readonly peers: readonly PeerName[];
  readonly figures: readonly Figure[];
}

/** Ratio to Rust virtiofsd of processor time per request, by group and name. */
export type Baseline = { readonly [key: string]: number };

/** How much worse a ratio may be than the baseline. */
const TOLERANCE = 0.1;

const keyOf = ({ group, name }: Figure): string => `${group}: ${name}`;

export function baselineOf({ figures }: Result): Baseline {
  const baseline: { [key: string]: number } = {};
  for (const figure of figures)
    if (figure.cpuRatio?.rust !== undefined) baseline[keyOf(figure)] = round(figure.cpuRatio.rust);
  return baseline;
}

/** @returns what has become worse, in words */
export function regressions({ figures }: Result, baseline: Baseline): string[] {
  return figures.flatMap((figure) => {
    const was = baseline[keyOf(figure)];
    const is = figure.cpuRatio?.rust;
    if (was === undefined || is === undefined || was / is <= 1 + TOLERANCE) return [];
    const more = Math.round(100 * (was / is - 1));
    return [
      `${keyOf(figure)}: ${more} % more processor time per request (ratio to Rust ${round(is)}, baseline ${was})`,
    ];
  });
}

export const round = (value: number): number => Number(value.toPrecision(3));

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
