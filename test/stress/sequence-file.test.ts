import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { DEFAULT_SHAPE } from '../../src/stress/campaign-options.ts';
import type { Operation } from '../../src/stress/operation.ts';
import { parseSequence, sequenceFile } from '../../src/stress/sequence-file.ts';

const operations: readonly Operation[] = [
  { op: 'map', slot: 1, during: [{ place: { in: 'vmem', index: 0, at: 5 }, chunk: 3 }] },
  { op: 'unmap', slot: 1 },
  { op: 'plug', dimm: 0 },
  { op: 'unplug', dimm: 0 },
  { op: 'resize', vmem: 1, units: 3 },
  { op: 'write', place: { in: 'ram', index: 0, at: 0 }, chunk: 1, version: 9 },
  { op: 'read', place: { in: 'dimm', index: 2, at: 0 }, chunk: 1 },
  ...(['fill', 'drain', 'beyond', 'pause', 'reboot', 'restart'] as const).map((op) => ({ op })),
];
const text = sequenceFile({ backend: 'b', seed: 1 }, { kind: 'io', text: 't', sequence: operations });

test('every operation comes back as it was', () => {
  expect(parseSequence(text, 'f')).toEqual({ shape: DEFAULT_SHAPE, operations });
});

test.each([
  ['{', /no JSON/],
  ['{}', /not a sequence/],
  ['{"stress":1}', /shape/],
  [text.replace('"map"', '"mop"'), /operation 1 is none/],
  [text.replace('"version": 9', '"version": -9'), /operation 6 is none/],
  [text.replace('"vmem"', '"vmen"'), /operation 1 is none/],
  [text.replace('"map"', '"toString"'), /operation 1 is none/],
])('%# a file that is none is refused, and the place named', (broken, message) => {
  expect(() => parseSequence(broken, 'f')).toThrow(message);
  expect(() => parseSequence(broken, 'f')).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
});

test('any JSON is a sequence or refused', () => {
  fc.assert(
    fc.property(fc.json(), (json) => {
      expect(() => parseSequence(json, 'f')).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
    }),
  );
});
