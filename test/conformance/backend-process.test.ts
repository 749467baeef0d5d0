import { existsSync, readFileSync } from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { BackendGone } from '../../src/conformance/backend.ts';
import { BackendProcess } from '../../src/conformance/backend-process.ts';
import { ConfigError } from '../../src/errors.ts';

/** Listens at the first argument; with `once`, ends with its first connection; with `7`, exits so at once. */
const LISTENER = `
const [path, how] = process.argv.slice(1);
if (how === '7') { console.error('no disk'); process.exit(7); }
require('net').createServer((socket) => { socket.resume(); socket.on('close', () => { if (how === 'once') process.exit(3); }); }).listen(path);
`;

let backend: BackendProcess;
const start = (how = ''): BackendProcess =>
  (backend = new BackendProcess({ command: [process.execPath, '-e', LISTENER, '{socket}', how], name: 'x' }));
afterEach(() => backend.close());

test('is started at the first connection, and runs', () => {
  start().connect().close();
  expect(backend.ending()).toBeUndefined();
  expect(backend.pid).toBeGreaterThan(1);
});

test('one that has ended is started again by the next connection; its end is seen without a turn of the event loop', () => {
  start('once').connect().close();
  const first = backend.pid;
  backend.connect(true).close();
  expect(backend.pid).not.toBe(first);
});

test('one that was restarted is another process', async () => {
  start().connect().close();
  const first = backend.pid;
  await backend.restart();
  expect(backend.pid).not.toBe(first);
});

test('one that ends before it listens is gone, and says how', () => {
  expect(() => start('7').connect()).toThrow(BackendGone);
  expect(backend.ending()).toBe('exit status 7');
});

test('a program that does not exist is the operator’s mistake', () => {
  backend = new BackendProcess({ command: ['/nowhere/at-all'], name: 'x' });
  expect(() => backend.connect()).toThrow(ConfigError);
});

test('the process that serves is found behind a script that started it, and ended with it', async () => {
  const script = '"$0" "$@" & wait';
  const words = ['sh', '-c', script, process.execPath, '-e', LISTENER, '{socket}', ''];
  backend = new BackendProcess({ command: words, name: 'x' });
  backend.connect().close();
  expect(readFileSync(`/proc/${backend.pid}/cmdline`, 'utf8')).toContain('createServer');
  expect(readFileSync(`/proc/${backend.pid}/comm`, 'utf8').trim()).not.toBe('sh');
  const serving = backend.pid!;
  await backend.close();
  // Without arguments: perhaps nobody has asked for its status.
  const stays = (): boolean =>
    existsSync(`/proc/${serving}`) && readFileSync(`/proc/${serving}/cmdline`, 'utf8') !== '';
  await vi.waitFor(() => expect(stays()).toBe(false));
});
