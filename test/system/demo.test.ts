/** The README's first command, as a user runs it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { REPOSITORY } from '../support/guest-kit.ts';

/** The demo's temporary files go here, where nobody else's are. */
const TEMPORARY = mkdtempSync(join(tmpdir(), 'demo-'));
afterAll(() => {
  rmSync(TEMPORARY, { recursive: true });
});

const demo = (...flags: readonly string[]) =>
  spawnSync(process.execPath, [join(REPOSITORY, 'dist/src/cli/vhost-user.js'), 'demo', ...flags], {
    encoding: 'utf8',
    env: { ...process.env, TMPDIR: TEMPORARY },
    timeout: 60_000,
  });
test('the demo succeeds, says what it did, and leaves nothing behind', () => {
  const { status, stdout, stderr } = demo();
  expect(stderr).toBe('');
  expect(stdout).toContain('65 used of 509, 64 removed under load');
  expect(stdout).toContain('read back    equal');
  expect(stdout).toContain('on the host  equal');
  expect(status).toBe(0);
  expect(readdirSync(TEMPORARY)).toEqual([]);
});

test('the demo uses every slot the back-end has, and no more', () => {
  const { status, stdout } = demo('--slots', '600');
  expect(stdout).toContain('509 used of 509');
  expect(status).toBe(0);
});

test('a wrong option is refused', () => {
  expect(demo('--slots', '0').status).toBe(2);
});
