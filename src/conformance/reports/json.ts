/** The report as JSON: what other reports are made of, and what is kept. */
import { ConfigError } from '../../errors.ts';
import type { CaseResult, ConformanceReport } from '../report.ts';
import { LEVELS } from '../case.ts';
import { VERDICTS } from '../verdict.ts';

export const reportJson = (report: ConformanceReport): string => `${JSON.stringify(report, undefined, 1)}\n`;

/**
 * Reads a report back.
 *
 * @param from its file, for errors
 * @throws {ConfigError} BAD_OPTION if it is none
 */
export function parseReport(text: string, from: string): ConformanceReport {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError('BAD_OPTION', `${from} is not JSON`, { cause });
  }
  if (!isReport(value)) throw new ConfigError('BAD_OPTION', `${from} is not a report of vhost-user conform`);
  return value;
}

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null;
const hasTexts = (value: unknown, ...names: readonly string[]): value is Fields =>
  isObject(value) && names.every((name) => typeof value[name] === 'string');

const isReport = (value: unknown): value is ConformanceReport =>
  hasTexts(value, 'date') &&
  typeof value['ms'] === 'number' &&
  hasTexts(value['backend'], 'name', 'device', 'features', 'protocolFeatures') &&
  hasTexts(value['versions'], 'backend', 'suite', 'node', 'kernel') &&
  Array.isArray(value['cases']) &&
  value['cases'].every(isResult);

const isResult = (value: unknown): value is CaseResult =>
  hasTexts(value, 'id', 'title', 'level', 'verdict', 'expected', 'seen') &&
  hasTexts(value['spec'], 'section', 'says') &&
  typeof value['ms'] === 'number' &&
  (LEVELS as readonly unknown[]).includes(value['level']) &&
  (VERDICTS as readonly unknown[]).includes(value['verdict']) &&
  Array.isArray(value['trace']) &&
  value['trace'].every((line) => typeof line === 'string');
