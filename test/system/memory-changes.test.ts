/** The main claim: a guest works on files while its memory comes and goes by memslots. */
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guestChecksums, hostChecksums } from '../support/checksums.ts';
import { Daemon, isPeerDaemon } from '../support/daemon.ts';
import { describeGuest } from '../support/guest.ts';
import { Guest } from '../support/qemu.ts';
import { GiB, MiB } from '../support/qemu-arguments.ts';

const ADD_MEM_REG = 37;
const REM_MEM_REG = 38;

const ROUNDS = 5;
const PLUGGED = 5 * GiB; // five memslots of 1 GiB: the least size QEMU gives them
const BIG_FILE = 768 * MiB; // more than the base memory holds, so its page cache must be hot-added memory

describeGuest('virtio-mem grows from nothing to 5 GiB and shrinks back, five times, under I/O', () => {
  let daemon: Daemon;
  let guest: Guest;
  let load: LoadReport;
  let messages: { readonly adds: number; readonly removals: number };
  let before: Resources;
  let largest: Resources;
  let after: Resources;

  beforeAll(async () => {
    daemon = await Daemon.start({ name: 'memory-changes' });
    guest = await Guest.boot({
      name: 'memory-changes',
      shares: [{ tag: 'share', socketPath: daemon.socketPath }],
      virtioMem: 8 * GiB,
    });
    await guest.mount('share');
    await guest.run('load /mnt 2 0 0'); // threads, caches and files of the daemon that come with the first I/O
    writeRandomFile(join(daemon.sharedDir, 'big'), BIG_FILE);
    await guest.dropCaches();
    before = resourcesOf(daemon);

    const sent = (): { adds: number; removals: number } => ({
      adds: guest.sentMessages(ADD_MEM_REG),
      removals: guest.sentMessages(REM_MEM_REG),
    });
    const [hot] = await guest.memoryDevices();
    const start = sent();
    const running = guest.try(`load /mnt 280 ${hot!.start} ${hot!.start + hot!.size}`, 300_000);
    for (let round = 0; round < ROUNDS; round++) {
      await guest.resize(PLUGGED);
      if (round === 0) largest = resourcesOf(daemon);
      if (round % 2 === 0) await guest.run('cat /mnt/big >/dev/null', 120_000);
      await sleep(1000); // the load's buffers spread over what is new
      await guest.resize(0);
    }
    writeFileSync(join(daemon.sharedDir, 'stop'), '');
    load = parseLoad(await running);
    const end = sent();
    messages = { adds: end.adds - start.adds, removals: end.removals - start.removals };
    rmSync(join(daemon.sharedDir, 'stop'));
    await guest.dropCaches();
    after = resourcesOf(daemon);
  });

  afterAll(async () => {
    await guest?.close();
    await daemon?.close();
  });

  test('no file operation of the guest fails, and what it reads is what it wrote', () => {
    expect(load).toMatchObject({ status: 0, errors: 0, mismatches: 0 });
    expect(load.files).toBeGreaterThan(50);
  });

  test('most buffers of the requests lay in hot-added memory, also those of direct I/O', () => {
    expect(load.hotPages).toBeGreaterThan(load.pages / 2);
    expect(load.hotDirectPages).toBeGreaterThan(1000);
  });

  test('QEMU sent at least 20 ADD_MEM_REG and 15 REM_MEM_REG while I/O ran, and none was refused', () => {
    expect(messages.adds).toBeGreaterThanOrEqual(20);
    expect(messages.removals).toBeGreaterThanOrEqual(15);
    expect(guest.qemuErrors()).toEqual([]);
  });

  test.skipIf(isPeerDaemon)('the daemon logged each region that came and went', () => {
    expect(daemon.countEvents('memory_region_add')).toBe(guest.sentMessages(ADD_MEM_REG));
    expect(daemon.countEvents('memory_region_del')).toBe(guest.sentMessages(REM_MEM_REG));
  });

  test('the daemon maps each slot that is there', () => {
    expect(before.guestMemory).toBe(512 * MiB);
    expect(largest.guestMemory).toBe(512 * MiB + PLUGGED);
  });

  test('after shrinking, the mappings and descriptors of the daemon are back where they were', () => {
    expect(after.guestMemory).toBe(before.guestMemory);
    expect(after.mappings).toBeLessThanOrEqual(before.mappings + MAPPINGS_OF_THE_RUNTIME);
    if (!isPeerDaemon) expect(after.fds).toEqual(before.fds);
  });

  test('host and guest read the same bytes', async () => {
    expect(await guestChecksums(guest, '/mnt')).toEqual(hostChecksums(daemon.sharedDir));
  });

  test('the guest kernel reported no error', () => {
    expect(guest.kernelErrors()).toEqual([]);
  });
});

/** How far V8's own mappings, heap pages and code, vary from one moment to another. */
const MAPPINGS_OF_THE_RUNTIME = 40;

interface Resources {
  /** Bytes of it that are mapped. */
  readonly guestMemory: number;
  readonly mappings: number;
  readonly fds: readonly string[];
}

function resourcesOf(daemon: Daemon): Resources {
  return { guestMemory: daemon.mappedGuestMemory(), mappings: daemon.mappings(), fds: daemon.openFds() };
}

interface LoadReport {
  readonly status: number;
  readonly files: number;
  readonly errors: number;
  readonly mismatches: number;
  readonly pages: number;
  readonly hotPages: number;
  readonly hotDirectPages: number;
  readonly output: string;
}

function parseLoad({ status, output }: { readonly status: number; readonly output: string }): LoadReport {
  const value = (name: string): number =>
    Number(new RegExp(`(?:^| )${name}=(\\d+)`, 'm').exec(output)?.[1] ?? Number.NaN);
  return {
    status,
    output,
    files: value('files'),
    errors: value('errors'),
    mismatches: value('mismatches'),
    pages: value('pages'),
    hotPages: value('hot_pages'),
    hotDirectPages: value('hot_direct_pages'),
  };
}

function writeRandomFile(path: string, size: number): void {
  const chunk = randomFillSync(Buffer.alloc(16 * MiB));
  const fd = openSync(path, 'w');
  for (let done = 0; done < size; done += chunk.length) {
    chunk.writeUInt32LE(done / chunk.length);
    writeSync(fd, chunk);
  }
  closeSync(fd);
}
