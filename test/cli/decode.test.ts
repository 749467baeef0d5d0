import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type DecodeOptions, runDecode } from '../../src/cli/decode.ts';
import { linesOf, recordingPath } from '../vhost/recordings.ts';

const NAME = 'stop-change-cont/messages.jsonl.gz';
const FILE = recordingPath(NAME);

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'decode-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const run = async (options: Omit<DecodeOptions, 'output'>): Promise<string> => {
  let text = '';
  expect(await runDecode({ ...options, output: { write: (more) => (text += more) } })).toBe(0);
  return text;
};

test('each message has its line, compressed or not', async () => {
  const plain = join(folder, 'plain.jsonl');
  writeFileSync(plain, `${linesOf(NAME).join('\n')}\n`);
  const text = await run({ files: [FILE] });
  expect(await run({ files: [plain] })).toBe(text);
  expect(text.match(/^ +\d+\.\d{6} #/gm)).toHaveLength(linesOf(NAME).length);
});

test('several files are told apart', async () => {
  const text = await run({ files: [FILE, recordingPath('rem-order/messages.jsonl.gz')], summary: true });
  expect(text.match(/^== /gm)).toHaveLength(2);
  expect(text).toContain('connection 0: memory slots at most 7, at the end 4, limit 509');
});

test('JSON is one object a message, with the reply matched and the memory after it', async () => {
  const objects = (await run({ files: [FILE], json: true }))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(objects).toHaveLength(linesOf(NAME).length);
  const reply = objects.find(({ name, ack }) => name === 'ADD_MEM_REG' && ack !== undefined)!;
  expect(reply).toMatchObject({ ack: 'ok', memory: { slots: 1, limit: 509 } });
  expect(objects.some(({ n }) => n === reply['answers'])).toBe(true);
});

test('a summary as JSON has counts and no anomalies', async () => {
  const summary = JSON.parse(await run({ files: [FILE], json: true, summary: true })) as object;
  expect(summary).toMatchObject({ file: FILE, anomalies: [], unreadableLines: [] });
});

test('a line cut short, as of a tap that was killed, is told and skipped', async () => {
  const cut = join(folder, 'cut.jsonl.gz');
  writeFileSync(cut, gzipSync(linesOf(NAME).join('\n').slice(0, -20)));
  expect(await run({ files: [cut] })).toContain(`! line ${linesOf(NAME).length} is no record`);
});

test('a request whose reply is missing is told at the end', async () => {
  const short = join(folder, 'short.jsonl');
  writeFileSync(short, linesOf(NAME).slice(0, 2).join('\n'));
  expect(await run({ files: [short] })).toMatch(/! missing-reply: GET_FEATURES of #1 got no reply\n$/);
});

test.each(['/nonexistent/file', 'package.json'])('%s is told to the operator', async (file) => {
  await expect(run({ files: [file] })).rejects.toMatchObject({ name: 'ConfigError' });
});
