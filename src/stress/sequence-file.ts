/** Sequences of operations in files: written when one shows a violation, read to run it again. */
import { ConfigError } from '../errors.ts';
import { DEFAULT_SHAPE } from './campaign-options.ts';
import type { Operation, OperationName, Place, StressShape } from './operation.ts';
import type { SequenceFile, StressReport, ViolationReport } from './report.ts';

export function sequenceFile(
  { backend, seed }: Pick<StressReport, 'backend' | 'seed'>,
  { kind, text, sequence }: Pick<ViolationReport, 'kind' | 'text' | 'sequence'>,
  shape: StressShape = DEFAULT_SHAPE,
): string {
  const file: SequenceFile = { stress: 1, backend, seed, kind, text, shape, operations: sequence };
  return `${JSON.stringify(file, undefined, 1)}\n`;
}

/** @throws {ConfigError} BAD_OPTION, with what is wrong where */
export function parseSequence(
  text: string,
  name: string,
): { readonly shape: StressShape; readonly operations: readonly Operation[] } {
  const bad = (why: string): ConfigError => new ConfigError('BAD_OPTION', `${name}: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError('BAD_OPTION', `${name} is no JSON`, { cause });
  }
  if (!isRecord(value) || value['stress'] !== 1) throw bad('not a sequence of vhost-user stress');
  const { shape, operations } = value;
  if (!isRecord(shape) || !isShape(shape)) throw bad('its shape lacks a number');
  if (!Array.isArray(operations)) throw bad('it has no operations');
  return {
    shape,
    operations: operations.map((each: unknown, index) => {
      if (!isOperation(each)) throw bad(`operation ${index + 1} is none: ${JSON.stringify(each)}`);
      return each;
    }),
  };
}

/** What each operation has to have; the numbers are checked against the model when it is done. */
const FIELDS: Readonly<Record<OperationName, readonly string[]>> = {
  map: ['slot'],
  unmap: ['slot'],
  plug: ['dimm'],
  unplug: ['dimm'],
  resize: ['vmem', 'units'],
  fill: [],
  drain: [],
  beyond: [],
  write: ['chunk', 'version'],
  read: ['chunk'],
  pause: [],
  reboot: [],
  restart: [],
};

type Fields = Readonly<Record<string, unknown>>;

const isRecord = (value: unknown): value is Fields => typeof value === 'object' && value !== null;

const isShape = (value: Fields): value is Fields & StressShape =>
  Object.keys(DEFAULT_SHAPE).every((name) => isCount(value[name]));

function isOperation(value: unknown): value is Operation {
  if (!isRecord(value)) return false;
  const { op, during = [] } = value;
  if (typeof op !== 'string' || !isName(op)) return false;
  if (!FIELDS[op].every((name) => isCount(value[name]))) return false;
  if ((op === 'write' || op === 'read') && !isPlace(value['place'])) return false;
  return Array.isArray(during) && during.every(isAccess);
}

const isName = (name: string): name is OperationName => Object.hasOwn(FIELDS, name);

const isAccess = (value: unknown): boolean =>
  isRecord(value) && isCount(value['chunk']) && isPlace(value['place']);

const isPlace = (value: unknown): value is Place =>
  isRecord(value) &&
  ['ram', 'slot', 'dimm', 'vmem'].includes(String(value['in'])) &&
  isCount(value['index']) &&
  isCount(value['at']);

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
