import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runConform, type ConformOptions } from '../../src/cli/conform.ts';
import { CASES } from '../../src/conformance/cases/index.ts';
import { ConfigError } from '../../src/errors.ts';

const OPTIONS: ConformOptions = { device: 'any', timeoutMs: 100, failOn: 'should' };

let folder = '';
let written = '';
const output = { write: (text: string) => void (written += text) };
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'conform-test-'));
  written = '';
});
afterEach(() => rmSync(folder, { recursive: true }));

test('--list names every case and runs none', async () => {
  expect(await runConform({ ...OPTIONS, list: true, output })).toBe(0);
  expect(written.trim().split('\n')).toHaveLength(CASES.length);
});

test('--only takes ids and beginnings of ids', async () => {
  await runConform({ ...OPTIONS, list: true, only: ['framing.version', 'config.get'], output });
  const ids = written.split('\n').map((line) => line.split(' ')[0]);
  expect(ids).toEqual(expect.arrayContaining(['framing.version.0', 'config.get', 'config.get.part']));
  expect(ids).not.toContain('framing.half-message');
});

test.each<readonly [string, Partial<ConformOptions>]>([
  ['neither --command nor --socket', {}],
  ['both of them', { command: 'x', socket: 'y' }],
  ['a case that does not exist', { only: ['memory.nonsense'], socket: 'x' }],
  ['a report of another kind', { socket: '/nowhere', report: ['x.pdf'] }],
  ['a back-end that nobody started', { socket: '/nowhere/at.all' }],
  ['a file that is no report', { compare: ['/dev/null'] }],
])('%s is the operator’s mistake', async (_, options) => {
  await expect(runConform({ ...OPTIONS, ...options, output })).rejects.toThrow(ConfigError);
});

const REPORT = {
  backend: {
    name: 'a',
    from: '',
    device: 'fs',
    features: '0x0',
    protocolFeatures: '0x0',
    queues: 1,
    memSlots: 8,
    reconnects: true,
  },
  versions: { backend: '1', suite: '', node: '', kernel: '' },
  date: '2026-01-01',
  ms: 1,
  cases: [],
};

test('--compare makes a page of several reports, and runs nothing', async () => {
  const files = ['a', 'b'].map((name) => join(folder, `${name}.json`));
  for (const file of files) writeFileSync(file, JSON.stringify(REPORT));
  const page = join(folder, 'all.html');
  expect(await runConform({ ...OPTIONS, compare: files, report: [page], output })).toBe(0);
  expect(readFileSync(page, 'utf8').match(/class="card"/g)).toHaveLength(2);
});

test('several reports do not go into one JSON', async () => {
  const file = join(folder, 'a.json');
  writeFileSync(file, JSON.stringify(REPORT));
  const both = { ...OPTIONS, compare: [file, file], report: [join(folder, 'x.json')], output };
  await expect(runConform(both)).rejects.toThrow(ConfigError);
});
