import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SpawnedBackend } from '../../src/cli/spawned-backend.ts';

/** Listens, says who it is in the directory it serves, and would go on for ever. */
const SERVER = `
  const [socket, dir] = process.argv.slice(1);
  require('node:net').createServer().listen(socket);
  require('node:fs').writeFileSync(dir + '/pid', String(process.pid));
`;

function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

test.each(['stop', 'kill'] as const)('%s ends also what a script in front of it has started', async (way) => {
  const dir = mkdtempSync(join(tmpdir(), 'spawned-'));
  try {
    const script = join(dir, 'start.sh');
    writeFileSync(script, `"${process.execPath}" -e "$1" "$2" "$3"\ntrue\n`);
    const backend = await SpawnedBackend.start({
      program: 'sh',
      args: [script, SERVER, '{socket}', '{dir}'],
    });
    await expect.poll(() => Number(readFileSync(join(backend.shared, 'pid'), 'utf8'))).toBeGreaterThan(0);
    const pid = Number(readFileSync(join(backend.shared, 'pid'), 'utf8'));
    expect(pid).not.toBe(backend.pid);
    await backend[way]();
    await expect.poll(() => isAlive(pid)).toBe(false);
    await backend.stop();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
