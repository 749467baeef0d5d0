/** `vhost-user probe` as a command, against real back-ends. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type BackendCommand, SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import type { ProbeReport } from '../../src/vhost/probe-report.ts';
import { REPOSITORY } from '../support/guest-kit.ts';
import { C_VIRTIOFSD, missingPeers, ourBackend, RUST_VIRTIOFSD, storageDaemon } from '../support/peers.ts';

const PROGRAM = join(REPOSITORY, 'dist/src/cli/vhost-user.js');
const isMissing = missingPeers() !== undefined;
const scratch = mkdtempSync(join(tmpdir(), 'probe-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const run = (...args: readonly string[]) =>
  spawnSync(process.execPath, [PROGRAM, 'probe', ...args], { encoding: 'utf8' });

function probed({ program, args }: BackendCommand): ProbeReport {
  const command = [program, ...args].map((word) => `'${word}'`).join(' ');
  const { status, stdout, stderr } = run('--json', '--command', command);
  expect([status, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as ProbeReport;
}

const bits = (report: ProbeReport) => report.protocolFeatures?.map(({ bit }) => bit);
const ALL_ACKNOWLEDGED = {
  owner: 'acknowledged',
  addRegion: 'acknowledged',
  removeRegion: 'acknowledged',
};

test('our own back-end', () => {
  const report = probed(ourBackend('--max-mem-slots=510', '--tag=shared', '--num-request-queues=3'));
  expect(report).toMatchObject({
    device: { kind: 'file system' },
    queues: 4,
    memslots: { announced: 510, qemu: 510 },
    acknowledges: ALL_ACKNOWLEDGED,
    config: { meaning: 'tag shared, request queues: 3' },
    remarks: [],
  });
});

test('a back-end that somebody else has started is asked, and goes on', async () => {
  const backend = await SpawnedBackend.start(ourBackend());
  try {
    for (let i = 0; i < 2; i += 1) {
      const { status, stdout } = run('--socket', backend.socketPath);
      expect(status).toBe(0);
      expect(stdout).toMatch(/^memory slots +509; QEMU uses 509/m);
    }
  } finally {
    await backend.stop();
  }
});

test('a back-end that ends is quoted', () => {
  const program = join(scratch, 'dies.mjs');
  writeFileSync(
    program,
    `import { createServer } from 'node:net';
     createServer(() => { console.error('no such mount'); process.exit(3); }).listen(process.argv[2]);`,
  );
  const { status, stdout } = run('--command', `'${process.execPath}' '${program}' {socket}`);
  expect(status).toBe(1);
  expect(stdout).toMatch(/^FAILED: .*; the back-end ended with status 3, said: no such mount$/m);
});

describe.skipIf(isMissing)('back-ends of others', () => {
  test('Rust virtiofsd', () => {
    const report = probed(RUST_VIRTIOFSD);
    expect(report.device.kind).toBe('file system');
    expect(bits(report)).toEqual([0, 1, 3, 5, 10, 13, 15, 19]);
    expect(report.memslots).toEqual({ announced: 509, qemu: 509 });
    expect(report.acknowledges).toEqual(ALL_ACKNOWLEDGED);
  });

  test('C virtiofsd', () => {
    const report = probed(C_VIRTIOFSD);
    expect(report.device.kind).toBe('file system');
    expect(bits(report)).toEqual([0, 1, 3, 5, 10, 11, 15]);
    expect(report.memslots).toEqual({ announced: 32, qemu: 32 });
    expect(report.remarks.join()).toContain('fewer than 509 memory slots');
  });

  test('a disk of qemu-storage-daemon', () => {
    const disk = join(scratch, 'disk');
    writeFileSync(disk, '');
    truncateSync(disk, 1 << 20);
    const report = probed(storageDaemon(disk));
    expect(report.device.kind).toBe('block');
    expect(report.config?.meaning).toBe('2048 sectors of 512 bytes, blocks of 512 bytes');
    expect(report.acknowledges).toEqual(ALL_ACKNOWLEDGED);
  });
});

test.each([
  [['--socket', '/nonexistent'], /ENOENT/],
  [['--command', 'nonexistent-program'], /ENOENT/],
  [['--command', 'false'], /ended with status 1/],
  [[], /either --command .* or --socket/],
])('%j is the operator’s mistake: status 2, and why', (args, why) => {
  const { status, stderr } = run(...args);
  expect(status).toBe(2);
  expect(stderr).toMatch(why);
});
