/** A guest whose share is behind the tap: it works as without, and the recording tells all of it. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runDecode } from '../../src/cli/decode.ts';
import { parseRecord } from '../../src/vhost/conversation-record.ts';
import { guestChecksums, hostChecksums } from '../support/checksums.ts';
import { Daemon, runLog } from '../support/daemon.ts';
import { describeGuest } from '../support/guest.ts';
import { REPOSITORY } from '../support/guest-kit.ts';
import { TestProcess } from '../support/processes.ts';
import { Guest } from '../support/qemu.ts';
import { GiB } from '../support/qemu-arguments.ts';

describeGuest('a share behind the tap', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tap-'));
  const [listen, jsonl] = [join(directory, 'tap.sock'), join(directory, 'tap.jsonl')];
  let daemon: Daemon;
  let tap: TestProcess;
  let guest: Guest;

  beforeAll(async () => {
    daemon = await Daemon.start({ name: 'tap' });
    const program = join(REPOSITORY, 'dist/src/cli/vhost-user.js');
    const options = [
      '--listen',
      listen,
      '--connect',
      daemon.socketPath,
      '--jsonl',
      jsonl,
      '--text',
      '--once',
    ];
    tap = new TestProcess(['node', program, 'tap', ...options], runLog('tap.text'));
    while (!existsSync(listen) && tap.isAlive) await sleep(20);
    guest = await Guest.boot({
      name: 'tap',
      shares: [{ tag: 'share', socketPath: listen }],
      virtioMem: 4 * GiB,
    });
    await guest.mount('share');
  });
  afterAll(async () => {
    await guest?.close();
    await tap?.stop();
    await daemon?.close();
    rmSync(directory, { recursive: true });
  });

  test('carries files like any other', async () => {
    await guest.run('for i in 1 2 3 4; do head -c 3000000 /dev/urandom > /mnt/$i; done; sync');
    expect(await guestChecksums(guest, '/mnt')).toEqual(hostChecksums(daemon.sharedDir));
    expect(guest.qemuErrors()).toEqual([]);
  });

  test('is recorded whole, with its back-end channel, and nothing in it is odd', async () => {
    await guest.close();
    while (tap.isAlive) await sleep(20);
    const records = readFileSync(jsonl, 'utf8').trimEnd().split('\n').map(parseRecord);
    expect(records.map((record) => record?.n)).toEqual(records.map((_, n) => n));
    expect(records.some((record) => record?.chan === 'backend')).toBe(true);
    let summary = '';
    await runDecode({ files: [jsonl], summary: true, output: { write: (text) => (summary += text) } });
    expect(summary).toContain('no anomalies');
    expect(tap.log).toContain('ADD_MEM_REG ok');
  });
});
