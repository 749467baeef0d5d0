/**
 * A device with two request queues in a real guest of two processors, whose kernel spreads requests over the queues by
 * processor. Nothing but --num-request-queues tells the daemon.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guestChecksums, hostChecksums } from '../support/checksums.ts';
import { Daemon, isPeerDaemon } from '../support/daemon.ts';
import { KIT } from '../support/guest-kit.ts';
import { describeGuest } from '../support/guest.ts';
import { Guest } from '../support/qemu.ts';

const PROCESSORS = [0, 1];

describeGuest.skipIf(isPeerDaemon)('two processors and two queues', () => {
  let daemon: Daemon;
  let guest: Guest;

  beforeAll(async () => {
    daemon = await Daemon.start({
      name: 'queues-in-guest',
      logLevel: 'info',
      flags: ['--num-request-queues=2'],
    });
    guest = await Guest.boot({
      name: 'queues-in-guest',
      shares: [{ tag: 'share', socketPath: daemon.socketPath, requestQueues: 2 }],
      processors: PROCESSORS.length,
    });
    await guest.mount('share');
  });
  afterAll(async () => {
    await guest?.close();
    await daemon?.close();
  });

  test('each queue has a thread', () => {
    expect(daemon.countEvents('queue_thread_started')).toBe(2);
  });

  test('every behaviour check passes on both processors at the same time', async () => {
    const onHost = join(daemon.sharedDir, 'on-host');
    mkdirSync(onHost);
    const hostOutput = execFileSync(join(KIT, 'root/bin/posix'), [onHost], { encoding: 'utf8' });
    const outputs = await Promise.all(
      PROCESSORS.map(async (cpu) => {
        await guest.run(`mkdir /mnt/cpu${cpu}`);
        return (await guest.try(`taskset ${1 << cpu} posix /mnt/cpu${cpu}`, 240_000)).output;
      }),
    );
    expect(outputs).toEqual(PROCESSORS.map(() => hostOutput));
    expect(await interruptsOfQueues(guest)).toHaveLength(2);
  });

  test('files that users of both processors create at the same time are theirs', async () => {
    chmodSync(daemon.sharedDir, 0o755);
    await guest.run('mkdir -m 2777 /mnt/owned && chgrp 700 /mnt/owned');
    await guest.run("printf 'one:x:1001:2001::/:/bin/sh\\ntwo:x:1002:2002::/:/bin/sh\\n' >>/etc/passwd");
    await guest.run("grep -q root: /etc/passwd || echo 'root:x:0:0::/:/bin/sh' >>/etc/passwd");
    const loop =
      'set -e; umask 0$((cpu * 5 + 22)); i=0; while [ $i -lt 150 ]; do echo $i >/mnt/owned/$cpu-$i; mkdir /mnt/owned/$cpu-$i.d; i=$((i + 1)); done';
    const users = ['one', 'two'];
    await Promise.all(
      PROCESSORS.map((cpu) =>
        guest.run(`taskset ${1 << cpu} su ${users[cpu]} -c 'cpu=${cpu}; ${loop}'`, 120_000),
      ),
    );
    for (const cpu of PROCESSORS)
      for (let i = 0; i < 150; i += 1) {
        const umask = Number.parseInt(`0${cpu * 5 + 22}`, 8);
        const file = lstatSync(join(daemon.sharedDir, `owned/${cpu}-${i}`));
        expect([file.uid, file.gid, file.mode & 0o7777]).toEqual([1001 + cpu, 700, 0o666 & ~umask]);
        const directory = lstatSync(join(daemon.sharedDir, `owned/${cpu}-${i}.d`));
        expect([directory.uid, directory.gid, directory.mode & 0o7777]).toEqual([
          1001 + cpu,
          700,
          0o2000 | (0o777 & ~umask),
        ]);
      }
  });

  test('a file that both write and read is what it must be, in the guest and on the host', async () => {
    await guest.run('mkdir /mnt/a /mnt/b');
    const loads = PROCESSORS.map((cpu) =>
      guest.run(`taskset ${1 << cpu} load /mnt/${'ab'[cpu]} 4 0 0`, 100_000),
    );
    for (const output of await Promise.all(loads)) expect(output).toContain('errors=0 mismatches=0');
    for (const directory of ['a', 'b'])
      expect(await guestChecksums(guest, `/mnt/${directory}`)).toEqual(
        hostChecksums(join(daemon.sharedDir, directory)),
      );
    expect([...guest.kernelErrors(), ...guest.qemuErrors()]).toEqual([]);
  });

  test('a guest killed while both queues work leaves nothing, and the next one is served', async () => {
    for (const cpu of PROCESSORS)
      guest.try(`taskset ${1 << cpu} load /mnt/${'ab'[cpu]} 100 0 0`).catch(() => undefined);
    await guest.run('sleep 2');
    guest.process.signal('SIGKILL');
    await guest.close();
    await expect.poll(() => daemon.mappedGuestMemory(), { timeout: 10_000 }).toBe(0);
    guest = await Guest.boot({
      name: 'queues-in-guest-2',
      shares: [{ tag: 'share', socketPath: daemon.socketPath, requestQueues: 2 }],
    });
    await guest.mount('share');
    expect(await guest.run('mkdir /mnt/c; load /mnt/c 2 0 0')).toContain('errors=0 mismatches=0');
  });

  test('SIGTERM while both queues work ends the daemon with status 0', async () => {
    for (const cpu of PROCESSORS)
      guest.try(`taskset ${1 << cpu} load /mnt/${'ab'[cpu]} 100 0 0`).catch(() => undefined);
    await guest.run('sleep 2');
    expect(await daemon.process.stop()).toEqual({ code: 0, signal: null });
    guest.process.signal('SIGKILL');
  });
});

/** How many completions each request queue has announced, of those that announced any. */
async function interruptsOfQueues(guest: Guest): Promise<number[]> {
  const lines = await guest.run('grep virtio.*-requests /proc/interrupts');
  const counts = lines
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/\s+/).slice(2, 4).map(Number));
  return counts.map(([first = 0, second = 0]) => first + second).filter((count) => count > 100);
}
