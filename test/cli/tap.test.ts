import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runTap } from '../../src/cli/tap.ts';
import { runDecode } from '../../src/cli/decode.ts';
import { FrontendRequest, VhostUserHeader } from '../../protocol/vhost-user.ts';

const GET_FEATURES = VhostUserHeader.encode({ request: FrontendRequest.GET_FEATURES, flags: 1, size: 0 });
const FEATURES = Buffer.concat([
  VhostUserHeader.encode({ request: FrontendRequest.GET_FEATURES, flags: 5, size: 8 }),
  Buffer.of(0, 0, 0, 0x40, 1, 0, 0, 0),
]);

let folder = '';
let server: Server;
let paths: { readonly listen: string; readonly connect: string; readonly jsonl: string };
/** The back-end: answers each message with features. */
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tap-'));
  paths = { listen: join(folder, 'tap'), connect: join(folder, 'back'), jsonl: join(folder, 'out.jsonl') };
  server = createServer((socket) => {
    socket.on('data', () => socket.write(FEATURES));
    socket.on('error', () => undefined);
  });
  server.listen(paths.connect);
  await once(server, 'listening');
});
afterEach(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

async function frontend(): Promise<Socket> {
  const socket = connect(paths.listen);
  await once(socket, 'connect');
  return socket;
}

const decoded = async (): Promise<string> => {
  let text = '';
  await runDecode({ files: [paths.jsonl], output: { write: (more) => (text += more) } });
  return text;
};

test('what passes is passed on, recorded and told', async () => {
  const before = readdirSync('/proc/self/fd').length;
  let text = '';
  const ended = runTap({
    ...paths,
    text: true,
    once: true,
    label: 'x',
    output: { write: (more) => (text += more) },
  });
  const socket = await frontend();
  socket.write(GET_FEATURES);
  const [octets] = (await once(socket, 'data')) as [Buffer];
  expect(octets.equals(FEATURES)).toBe(true);
  socket.end();
  expect(await ended).toBe(0);
  expect(existsSync(paths.listen)).toBe(false);
  const records = readFileSync(paths.jsonl, 'utf8').trimEnd().split('\n');
  const fields = records.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(fields.map(({ event, name }) => event ?? name)).toEqual([
    'connect',
    'GET_FEATURES',
    'GET_FEATURES',
    'eof',
    'eof',
  ]);
  expect(fields[2]).toMatchObject({ n: 2, label: 'x', conn: 0, chan: 'main', dir: 'be>fe', fds: [] });
  expect(fields[2]).toMatchObject({ hex: FEATURES.toString('hex'), payload: { u64: '0x140000000' } });
  const rows = text.split('\n').slice(1);
  expect(rows.map((row) => row.slice(11))).toEqual((await decoded()).split('\n').map((row) => row.slice(11)));
  expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 1);
});

test('what is no message is passed on, and recorded as it is', async () => {
  const ended = runTap({ ...paths, once: true });
  const socket = await frontend();
  socket.write(Buffer.alloc(40, 0xee));
  expect(((await once(socket, 'data')) as [Buffer])[0].equals(FEATURES)).toBe(true);
  socket.end();
  await ended;
  const text = await decoded();
  expect(text).toContain('a header claims 4008636142 octets of payload');
  expect(text.match(/e{4,}/g)!.join('')).toHaveLength(80);
});

test('several front-ends are told apart, and a signal ends it', async () => {
  const stop = new AbortController();
  const ended = runTap({ ...paths, signal: stop.signal });
  const sockets = [await frontend(), await frontend()];
  for (const socket of sockets) {
    socket.write(GET_FEATURES);
    await once(socket, 'data');
  }
  stop.abort();
  await Promise.all(sockets.map((socket) => once(socket, 'close')));
  expect(await ended).toBe(0);
  expect(await decoded()).toContain('{1}  < GET_FEATURES 0x140000000');
});

test.each([
  ['--listen', { listen: '/nonexistent/folder/tap' }],
  ['--jsonl', { jsonl: '/nonexistent/folder/out' }],
])('%s that cannot be is told to the operator', async (option, wrong) => {
  await expect(runTap({ ...paths, ...wrong })).rejects.toMatchObject({
    name: 'ConfigError',
    message: expect.stringContaining(option),
  });
});
