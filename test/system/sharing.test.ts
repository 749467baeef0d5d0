/** Guests and devices that come and go while one daemon stays. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guestChecksums, hostChecksums } from '../support/checksums.ts';
import { Daemon, isPeerDaemon } from '../support/daemon.ts';
import { describeGuest } from '../support/guest.ts';
import { Guest } from '../support/qemu.ts';
import { chardevOf, deviceOf, DIMM_SIZE, GiB, MiB, type Share } from '../support/qemu-arguments.ts';

const ADD_MEM_REG = 37;

describeGuest('a guest with 200 DIMMs', () => {
  let daemon: Daemon;
  let guest: Guest;

  beforeAll(async () => {
    daemon = await Daemon.start({ name: 'dimms' });
    guest = await Guest.boot({
      name: 'dimms',
      shares: [{ tag: 'share', socketPath: daemon.socketPath }],
      dimms: 200,
      memory: 1024, // the kernel describes 25 GiB in 400 MiB
    });
    await guest.mount('share');
  });
  afterAll(async () => {
    await guest?.close();
    await daemon?.close();
  });

  test('every DIMM is a memslot of its own and mapped', () => {
    expect(guest.sentMessages(ADD_MEM_REG)).toBe(201);
    expect(daemon.mappedGuestMemory()).toBe(1 * GiB + 200 * DIMM_SIZE);
    expect(guest.qemuErrors()).toEqual([]);
  });

  test('buffers all over 25 GiB of DIMMs carry requests', async () => {
    const output = await guest.run(`load /mnt 10 ${4 * GiB} ${64 * GiB}`);
    expect(output).toContain('errors=0 mismatches=0');
    expect(Number(/hot_pages=(\d+)/.exec(output)?.[1])).toBeGreaterThan(1000);
    expect(await guestChecksums(guest, '/mnt')).toEqual(hostChecksums(daemon.sharedDir));
    expect(guest.kernelErrors()).toEqual([]);
  });
});

describeGuest('one share while the guest reboots and its device is unplugged', () => {
  let daemon: Daemon;
  let guest: Guest;
  let share: Share;

  beforeAll(async () => {
    daemon = await Daemon.start({ name: 'replug' });
    share = { tag: 'share', socketPath: daemon.socketPath };
    guest = await Guest.boot({ name: 'replug', shares: [], virtioMem: 4 * GiB, canReboot: true });
    await plug(guest, share);
    await guest.mount('share');
  });
  afterAll(async () => {
    await guest?.close();
    await daemon?.close();
  });

  test('a reboot with files open and memory plugged: the share is there again, with what was written', async () => {
    await guest.resize(2 * GiB);
    await guest.run('echo before >/mnt/f; (exec 5>/mnt/open; sleep 1000) & sleep 0.2');
    await guest.reboot();
    await guest.mount('share');
    expect(await guest.run('cat /mnt/f')).toBe('before\n');
    expect(await guest.run('load /mnt 3 0 0')).toContain('errors=0 mismatches=0');
    expect(guest.qemuErrors()).toEqual([]);
  });

  test.skipIf(isPeerDaemon)('the device unplugged and plugged again, three times over', async () => {
    for (const round of ['1', '2', '3']) {
      await guest.run('umount /mnt');
      await unplug(guest, share);
      writeFileSync(join(daemon.sharedDir, 'round'), round);
      await plug(guest, share);
      await guest.mount('share');
      expect(await guest.run('cat /mnt/round; load /mnt 2 0 0')).toMatch(
        new RegExp(`^${round}files=.*errors=0`),
      );
    }
    expect(guest.kernelErrors()).toEqual([]);
  });

  test.skipIf(isPeerDaemon)(
    'after the last unplug the daemon holds nothing of the guest and listens',
    async () => {
      await guest.run('umount /mnt');
      await unplug(guest, share);
      await expect.poll(() => daemon.mappedGuestMemory(), { timeout: 5000 }).toBe(0);
      expect(daemon.process.isAlive && existsSync(daemon.socketPath)).toBe(true);
    },
  );
});

describeGuest.skipIf(isPeerDaemon)('two guests, one after the other, on one daemon', () => {
  test('the second reads what the first wrote; the first was killed in the middle of its work', async () => {
    await using daemon = await Daemon.start({ name: 'two-guests' });
    const shares = [{ tag: 'share', socketPath: daemon.socketPath }];
    {
      await using first = await Guest.boot({ name: 'two-guests-1', shares });
      await first.mount('share');
      await first.run('echo one >/mnt/f; sync');
      first.try('load /mnt 100 0 0').catch(() => undefined);
      await first.run('sleep 2');
      first.process.signal('SIGKILL');
      await first.process.exited;
    }
    await expect.poll(() => daemon.mappedGuestMemory(), { timeout: 5000 }).toBe(0);
    await sleep(500); // the sockets of the session go last
    const idleFds = daemon.openFds();
    await using second = await Guest.boot({ name: 'two-guests-2', shares });
    await second.mount('share');
    expect(await second.run('cat /mnt/f; echo two >/mnt/f; load /mnt 3 0 0')).toMatch(
      /^one\nfiles=.*errors=0/,
    );
    expect(readFileSync(join(daemon.sharedDir, 'f'), 'utf8')).toBe('two\n');
    await second.close();
    await expect.poll(() => daemon.openFds(), { timeout: 5000 }).toEqual(idleFds);
    expect(await daemon.process.stop()).toEqual({ code: 0, signal: null });
    expect(existsSync(daemon.socketPath)).toBe(false);
  });
});

describeGuest.skipIf(isPeerDaemon)('a device with two request queues', () => {
  test('two processors write and read at the same time while memory comes and goes', async () => {
    const flags = ['--num-request-queues=2', '--queue-threads=2'];
    await using daemon = await Daemon.start({ name: 'two-queues', flags });
    const shares = [{ tag: 'share', socketPath: daemon.socketPath, requestQueues: 2 }];
    await using guest = await Guest.boot({ name: 'two-queues', shares, virtioMem: 4 * GiB });
    await guest.mount('share');
    await guest.run('mkdir /mnt/a /mnt/b');
    const loads = [0, 1].map((cpu) =>
      guest.try(`taskset ${1 << cpu} load /mnt/${'ab'[cpu]} 25 0 0`, 100_000),
    );
    for (let round = 0; round < 2; round++) {
      await guest.resize(4 * GiB);
      await guest.resize(0);
    }
    for (const { status, output } of await Promise.all(loads)) {
      expect(output).toContain('errors=0 mismatches=0');
      expect(status).toBe(0);
    }
    expect(await interruptsOfQueues(guest)).toHaveLength(2);
    expect(daemon.countEvents('queue_thread_started')).toBe(2);
    for (const directory of ['a', 'b']) {
      const onHost = hostChecksums(join(daemon.sharedDir, directory));
      expect(await guestChecksums(guest, `/mnt/${directory}`)).toEqual(onHost);
    }
    expect(daemon.mappedGuestMemory()).toBe(512 * MiB);
    expect([...guest.kernelErrors(), ...guest.qemuErrors()]).toEqual([]);
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

async function plug(guest: Guest, share: Share): Promise<void> {
  const address = { type: 'unix', data: { path: share.socketPath } };
  const backend = { type: 'socket', data: { addr: address, server: false } };
  await guest.qmp.execute('chardev-add', { id: chardevOf(share), backend });
  const properties = { chardev: chardevOf(share), tag: share.tag, bus: 'rp0', 'queue-size': 1024 };
  await guest.qmp.execute('device_add', { driver: 'vhost-user-fs-pci', id: deviceOf(share), ...properties });
  await guest.run(
    `for i in $(seq 100); do ls /sys/bus/virtio/drivers/virtiofs/virtio* && exit; sleep 0.1; done; exit 1`,
  );
}

async function unplug(guest: Guest, share: Share): Promise<void> {
  await guest.qmp.execute('device_del', { id: deviceOf(share) });
  await guest.qmp.event('DEVICE_DELETED', 60_000, ({ data }) => data['device'] === deviceOf(share));
  await guest.qmp.execute('chardev-remove', { id: chardevOf(share) });
}
