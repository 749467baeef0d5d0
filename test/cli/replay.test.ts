import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ReplayOptions, runReplay } from '../../src/cli/replay.ts';
import { listenUnix } from '../../src/host/unix-socket.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { linesOf, recordingPath } from '../vhost/recordings.ts';

const NAME = 'boot-io-6g/messages.jsonl.gz';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'replay-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** Against a back-end that listens and says nothing. */
async function run(options: Partial<ReplayOptions>): Promise<{ status: number; text: string }> {
  const socket = join(folder, 'back');
  using _listener = new OwnedFd(listenUnix(socket, { backlog: 4 }));
  let text = '';
  const output = { write: (more: string): void => void (text += more) };
  const status = await runReplay({ file: recordingPath(NAME), socket, timeoutMs: 5, output, ...options });
  return { status, text };
}

test('replies that do not come are differences, and the status says so', async () => {
  const { status, text } = await run({});
  expect(status).toBe(1);
  expect(text).toContain('! #1 GET_FEATURES: no reply in 5 ms; recorded: GET_FEATURES, 8 octets');
  expect(text).toMatch(/\d+ messages sent, \d+ left out, 0 replies; differences: \d+\n$/);
});

test('a report as JSON has the same', async () => {
  const { text } = await run({ json: true });
  const report = JSON.parse(text) as { replies: number; findings: { n: number }[] };
  expect([report.replies, report.findings[0]!.n]).toEqual([0, 1]);
});

test('what the recording had no reply to asks for none', async () => {
  const file = join(folder, 'short.jsonl');
  writeFileSync(
    file,
    linesOf(NAME)
      .filter((line) => line.includes('"SET_OWNER"'))
      .join('\n'),
  );
  expect(await run({ file })).toEqual({
    status: 0,
    text: '1 messages sent, 0 left out, 0 replies; differences: 0\n',
  });
});

test.each([
  ['nobody listening', { socket: '/nonexistent/back' }, 'SYSTEM'],
  ['a connection that was not recorded', { conn: 9 }, 'BAD_OPTION'],
  ['no recording', { file: 'package.json' }, 'BAD_OPTION'],
])('%s is told to the operator', async (_, options, code) => {
  await expect(run(options)).rejects.toMatchObject({ name: 'ConfigError', code });
});
