/** The README's first command, as a user runs it. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { REPOSITORY } from '../support/guest-kit.ts';

/** The demo's temporary files go here, where nobody else's are. */
const TEMPORARY = mkdtempSync(join(tmpdir(), 'demo-'));
afterAll(() => {
  rmSync(TEMPORARY, { recursive: true });
});

const COMMAND = join(REPOSITORY, 'dist/src/cli/vhost-user.js');
const env = { ...process.env, TMPDIR: TEMPORARY };

const demo = (...flags: readonly string[]) =>
  spawnSync(process.execPath, [COMMAND, 'demo', ...flags], { encoding: 'utf8', env, timeout: 60_000 });

test('the demo succeeds, says what it did, and leaves nothing behind', () => {
  const { status, stdout, stderr } = demo('--seconds', '2');
  expect(stderr).toBe('');
  expect(stdout).toMatch(/virtio-mem 0 -> 64 GiB/);
  const [, mapped, unmapped] = /slots +(\d+) mapped, (\d+) unmapped, at most \d+ of 509; 0 left behind/.exec(
    stdout,
  )!;
  expect(Number(mapped)).toBeGreaterThan(10);
  expect(unmapped).toBe(mapped);
  expect(stdout).toMatch(/checksums +[\d,]+ chunks read back, 0 errors; \d+ files on the host, 0 errors/);
  expect(stdout).toMatch(/all is well, after [\d.]+ s\n$/);
  expect(stdout).not.toContain('\u001B');
  expect(status).toBe(0);
  expect(readdirSync(TEMPORARY)).toEqual([]);
});

test('on a terminal there is one picture, drawn again and again', () => {
  const command = `${process.execPath} ${COMMAND} demo --seconds 1 --slots 4`;
  const { status, stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', env });
  expect(status).toBe(0);
  expect(stdout.split('\u001B[10A').length).toBeGreaterThan(5);
  expect(stdout.split('\u001B[?25l').length).toBe(2);
  expect(stdout.split('\u001B[?25h').length).toBe(2);
  expect(stdout).toContain('all is well');
});

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s ends the demo, its back-end, and removes its files',
  async (signal) => {
    const child = spawn(process.execPath, [COMMAND, 'demo'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (octets: Buffer) => (output += octets.toString()));
    await expect.poll(() => output, { timeout: 20_000 }).toMatch(/so far/);
    const backend = Number(/process (\d+)/.exec(output)?.[1]);
    expect(readFileSync(`/proc/${backend}/cmdline`, 'utf8')).toContain('vhost-user-fs');
    child.kill(signal);
    await once(child, 'exit');
    expect(child.exitCode).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(() => process.kill(backend, 0)).toThrow('ESRCH');
    expect(readdirSync(TEMPORARY)).toEqual([]);
  },
);

test('a back-end that is killed makes the demo fail', async () => {
  const child = spawn(process.execPath, [COMMAND, 'demo'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (octets: Buffer) => (output += octets.toString()));
  await expect.poll(() => output, { timeout: 20_000 }).toMatch(/so far/);
  process.kill(Number(/process (\d+)/.exec(output)?.[1]), 'SIGKILL');
  await once(child, 'close');
  expect(child.exitCode).toBe(1);
  expect(output).toMatch(/FAILED: .*(closed the connection|EPIPE|ECONNRESET)/);
  expect(readdirSync(TEMPORARY)).toEqual([]);
});

test('nobody reading any more ends the demo as a signal would', async () => {
  const child = spawn(process.execPath, [COMMAND, 'demo', '--seconds', '60'], { env, stdio: 'pipe' });
  let errors = '';
  child.stderr.on('data', (octets: Buffer) => (errors += octets.toString()));
  child.stdout.once('data', () => child.stdout.destroy());
  await once(child, 'exit');
  expect(errors).toBe('');
  expect(child.exitCode).toBe(141);
  expect(readdirSync(TEMPORARY)).toEqual([]);
});

test.each([
  ['--slots', '0'],
  ['--slots', '257'],
  ['--seconds', 'x'],
])('%s %s is refused', (...flags) => {
  expect(demo(...flags).status).toBe(2);
});
