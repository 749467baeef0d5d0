import { expect, test } from 'vitest';
import { type DemoState, pictureOf, sizeOf } from '../../src/cli/demo-picture.ts';
import type { Line } from '../../src/cli/live-area.ts';
import { GiB, MiB } from '../../src/units.ts';

const memory = {
  slots: 20,
  slotSize: GiB,
  plugged: 5,
  target: 12,
  usable: 5,
  isThere: false,
  last: 4,
  mapped: 7,
  unmapped: 2,
  most: 6,
  plugTimes: [0.3, 0.1, 0.2],
  unplugTimes: [],
};
const state: DemoState = {
  memory,
  files: { bytes: 3 * MiB, compared: 10, operations: 1234, wrong: 0 },
  address: 0x1_0000_0000,
  limit: 509,
  used: 6,
  elapsedMs: 7000,
  totalMs: 6000,
  operationsPerSecond: 99.6,
};

const textOf = (lines: readonly Line[]): string[] =>
  lines.map((line) => line.map((span) => (typeof span === 'string' ? span : span.text)).join(''));

test('the picture has a cell for each slot, and the numbers', () => {
  expect(textOf(pictureOf(state, 80))).toEqual([
    `vhost-user demo${' '.repeat(51)}6.0 of 6.0 s`,
    '',
    'virtio-mem at 0x100000000: 5 GiB, growing to 12 GiB',
    ` █████${'░'.repeat(15)}`,
    ' a cell is a memory slot of 1 GiB: █ mapped ░ not ▒ just unmapped',
    '',
    'slots    6 of 509 in use, 7 mapped, 2 unmapped',
    'files    100/s operations, 1,234 in all, 3 MiB moved',
    'checked  10 chunks read back, 0 wrong',
    'plugging 200 us a slot (median), 100 us (fastest)',
  ]);
});

test('a narrow terminal has the cells in several rows', () => {
  const lines = textOf(pictureOf({ ...state, memory: { ...memory, plugged: 12, last: -1 } }, 12));
  expect(lines.slice(3, 6)).toEqual([' ████████', ' ████░░░░', ' ░░░░']);
  expect(lines[2]).toBe('virtio-mem at 0x100000000: 12 GiB');
});

test('a slot that has just gone looks different', () => {
  const lines = textOf(pictureOf({ ...state, memory: { ...memory, target: 0, last: 5 } }, 80));
  expect(lines[3]).toBe(` █████▒${'░'.repeat(14)}`);
  expect(lines[2]).toContain('shrinking to 0');
});

test('before anything was measured there is nothing to say of it', () => {
  const lines = textOf(pictureOf({ ...state, memory: { ...memory, plugTimes: [] } }, 80));
  expect(lines.at(-1)).toBe('plugging – a slot (median), – (fastest)');
});

test.each([
  [0, '0'],
  [64 * MiB, '64 MiB'],
  [1.5 * GiB, '1.5 GiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(sizeOf(bytes)).toBe(text);
});
