/** What a stress run found, as plain data and as text. */
import { type Operation, operationText, type StressShape } from './operation.ts';
import type { Figures } from './figures.ts';
import type { ViolationKind } from './violation.ts';

export interface PhaseReport {
  readonly name: string;
  /** `stopped`: the budget was spent, or the operator had enough. */
  readonly outcome: 'passed' | 'violated' | 'stopped' | 'skipped';
  readonly reason?: string;
  readonly operations: number;
  /** Of these, changes of memory. */
  readonly changes: number;
  readonly milliseconds: number;
}

export interface ViolationReport {
  readonly kind: ViolationKind;
  readonly text: string;
  readonly phase: string;
  /** Which operation of the phase it was first, counted from 1. */
  readonly operation: number;
  times: number;
  /** The operations that show it, to be done on a fresh back-end. */
  sequence: readonly Operation[];
  /** Whether none of them can be left out. */
  isShortest: boolean;
  /** How many lists were tried to get there. */
  tries: number;
  /** Where the sequence was written to. */
  file?: string;
  /** The command that runs it again. */
  again?: string;
}

/** What became of the one region more than a full table has room for. */
export type LimitOutcome = 'refused' | 'accepted' | 'died' | 'not tested';

export interface StressReport {
  readonly backend: string;
  readonly seed: number;
  readonly phases: readonly PhaseReport[];
  readonly operations: number;
  readonly violations: readonly ViolationReport[];
  readonly limits: {
    /** What the back-end says; absent if it could not be asked. */
    readonly advertised?: number;
    /** The most regions it had. */
    readonly reached: number;
    readonly oneMore: LimitOutcome;
  };
  /** Whether mappings and descriptors of its process were looked at. */
  readonly isProcessSeen: boolean;
  readonly figures: Figures;
}

/** A sequence, as a file that can be run again. */
export interface SequenceFile {
  readonly stress: 1;
  readonly backend: string;
  readonly seed: number;
  readonly kind: ViolationKind;
  readonly text: string;
  readonly shape: StressShape;
  readonly operations: readonly Operation[];
}

const SHOWN_OPERATIONS = 24;

export function reportText(report: StressReport): string {
  const { figures, limits, violations } = report;
  const lines = [
    `${report.backend}, seed ${report.seed}`,
    ...report.phases.map(phaseText),
    row(
      'memory slots',
      `${limits.advertised ?? '?'} announced, ${limits.reached} reached, one more: ${limits.oneMore}`,
    ),
    row(
      'process',
      report.isProcessSeen ? 'mappings and descriptors checked' : 'not seen: leaks were not looked for',
    ),
    row('map a slot', timesText(figures.map.summary())),
    row('unmap a slot', timesText(figures.unmap.summary())),
    row('other changes', timesText(figures.other.summary())),
    row('write', timesText(figures.write.summary())),
    row('read', `${timesText(figures.read.summary())}, ${figures.overlapping} more during changes`),
    row(
      'machine',
      `${figures.pauses} pauses, ${figures.reboots} resets, ${figures.restarts} restarts of the back-end`,
    ),
    violations.length === 0 ? 'no violation' : `violations: ${violations.length}`,
    ...violations.flatMap(violationText),
  ];
  return `${lines.join('\n')}\n`;
}

function phaseText({ name, outcome, reason, operations, changes, milliseconds }: PhaseReport): string {
  const why = reason === undefined ? '' : `: ${reason}`;
  if (outcome === 'skipped') return row(name, `skipped${why}`);
  const seconds = (milliseconds / 1000).toFixed(1);
  return row(name, `${outcome}${why}, ${changes} changes of memory, ${operations} operations, ${seconds} s`);
}

function violationText({ kind, text, phase, operation, times, ...rest }: ViolationReport): string[] {
  const { sequence, isShortest, again } = rest;
  const often = times > 1 ? `, ${times} times` : '';
  // of a long one the end tells more than the beginning
  const left = Math.max(0, sequence.length - SHOWN_OPERATIONS);
  return [
    `! ${kind}: ${text}`,
    `  ${phase}, operation ${operation}${often}`,
    `  ${isShortest ? 'shortest sequence' : 'sequence, perhaps not the shortest'} that shows it, on a fresh back-end:`,
    ...(left > 0 ? [`        ${left} operations, and then`] : []),
    ...sequence
      .slice(left)
      .map((each, index) => `  ${String(left + index + 1).padStart(4)}  ${operationText(each)}`),
    ...(sequence.length === 0 ? ['        (nothing: connecting is enough)'] : []),
    ...(again === undefined ? [] : [`  again: ${again}`]),
  ];
}

const row = (title: string, text: string): string => `  ${title.padEnd(14)} ${text}`;

function timesText({ count, medianMicros, p99Micros }: ReturnType<Figures['map']['summary']>): string {
  return count === 0 ? 'none' : `${count}, median ${medianMicros} us, 99 % under ${p99Micros} us`;
}
