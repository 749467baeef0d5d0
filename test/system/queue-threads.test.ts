/** The daemon with a thread per request queue, driven from here: queues at work while memory, queues and front-ends change. */
import { createHash, randomFillSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GuestBuffer } from '../../src/machine/guest-ram.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { Daemon } from '../support/daemon.ts';

const QUEUES = 2;
const O_RDWR = 2;
const EFAULT = 14;
const FILE_SIZE = 1 << 20;
const SLOT = 1 << 16;
/** Slots of each queue's own, and then slots that come and go. */
const OWN = 2;
const CHURNED = 4;
const FIRST_CHURNED = QUEUES * OWN;
const RAM = { baseSize: 1 << 24, slotSize: SLOT, slots: FIRST_CHURNED + CHURNED };
const CANARY = 0xa5;

let sharedDir: string;
let content: Buffer;
let daemon: Daemon;

async function startDaemon(...flags: string[]): Promise<Daemon> {
  daemon = await Daemon.start({
    name: 'queue-threads',
    sharedDir,
    logLevel: 'info',
    flags: [`--num-request-queues=${QUEUES}`, ...flags],
  });
  return daemon;
}

beforeEach(() => {
  sharedDir = mkdtempSync(join(tmpdir(), 'queue-threads-'));
  content = randomFillSync(Buffer.alloc(FILE_SIZE));
  writeFileSync(join(sharedDir, 'file'), content);
  writeFileSync(join(sharedDir, 'copy'), '');
});
afterEach(async () => {
  await daemon.close();
  rmSync(sharedDir, { recursive: true });
});

const startMachine = (): LoopbackMachine =>
  LoopbackMachine.start({ socket: daemon.socketPath, ...RAM, requestQueues: QUEUES });

interface OpenFile {
  readonly nodeid: bigint;
  readonly fh: bigint;
}

/** A client for each queue; the first one mounts. */
function mount(machine: LoopbackMachine): VirtioFsClient[] {
  const clients = Array.from({ length: QUEUES }, (_, i) => new VirtioFsClient(machine, 1 + i));
  expectAnswer(clients[0]!.init(), 'INIT');
  return clients;
}

function open(client: VirtioFsClient, name: string): OpenFile {
  const { nodeid } = expectAnswer(client.lookup(ROOT, name), 'LOOKUP');
  return { nodeid, fh: expectAnswer(client.open(nodeid, O_RDWR), 'OPEN').fh };
}

const started = (): number => daemon.countEvents('queue_thread_started');
const sha256 = (octets: Uint8Array): string => createHash('sha256').update(octets).digest('hex');

/** Numbers that look random and are the same at each run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('two queues read and write while slots come and go: no octet is wrong, and none lands in a slot that is gone', async () => {
  await startDaemon();
  using machine = startMachine();
  const clients = mount(machine);
  const files = clients.map((client) => open(client, 'file'));
  const copies = clients.map((client) => open(client, 'copy'));
  for (let slot = 0; slot < RAM.slots; slot += 1) machine.plug(slot);
  const own = clients.map((_, queue) =>
    Array.from({ length: OWN }, (_, i) => machine.ram.slotBuffer(queue * OWN + i, 0, SLOT)),
  );
  const churned = Array.from({ length: CHURNED }, (_, i) =>
    machine.ram.slotBuffer(FIRST_CHURNED + i, 0, SLOT),
  );
  const random = numbers(6);
  const part = (buffer: GuestBuffer, at: number, size: number): GuestBuffer => ({
    gpa: buffer.gpa + at,
    bytes: buffer.bytes.subarray(at, at + size),
  });
  const copied = Array.from({ length: FILE_SIZE / SLOT }, () => false);

  for (let round = 0; round < 600; round += 1) {
    const gone = random(CHURNED);
    const reads = clients.flatMap((client, queue) =>
      own[queue]!.map((buffer) => {
        const size = 1 + random(SLOT / 2);
        const offset = random(FILE_SIZE - size);
        const target = part(buffer, random(SLOT - size), size);
        const file = files[queue]!;
        return { client, offset, target, pending: client.startRead(file.nodeid, file.fh, offset, [target]) };
      }),
    );
    const doomed = clients.map((client, queue) => ({
      client,
      pending: client.startRead(files[queue]!.nodeid, files[queue]!.fh, 0, [
        part(churned[gone]!, queue * (SLOT / 2), SLOT / 2),
      ]),
    }));
    machine.unplug(FIRST_CHURNED + gone);
    churned[gone]!.bytes.fill(CANARY);
    for (const { client, offset, target, pending } of reads) {
      expect(client.finish(pending)).toBe(target.bytes.length);
      if (Buffer.compare(target.bytes, content.subarray(offset, offset + target.bytes.length)) !== 0)
        throw new Error(`round ${round}: ${target.bytes.length} octets at ${offset} are not the file's`);
    }
    for (const { client, pending } of doomed) expect([SLOT / 2, -EFAULT]).toContain(client.finish(pending));
    expect(churned[gone]!.bytes.every((octet) => octet === CANARY)).toBe(true);
    machine.plug(FIRST_CHURNED + gone);

    // Each queue copies a block that is read into one slot and written from it.
    clients.forEach((client, queue) => {
      const block = random(FILE_SIZE / SLOT);
      const buffer = own[queue]![0]!;
      client.read(files[queue]!.nodeid, files[queue]!.fh, block * SLOT, [buffer]);
      expect(client.write(copies[queue]!.nodeid, copies[queue]!.fh, block * SLOT, [buffer])).toBe(SLOT);
      copied[block] = true;
    });
  }
  const copy = readFileSync(join(sharedDir, 'copy'));
  expect(copied.every(Boolean)).toBe(true);
  expect(sha256(copy)).toBe(sha256(content));
});

describe('a queue', () => {
  test('is stopped, reset and started again while the other one works', async () => {
    await startDaemon();
    using machine = startMachine();
    const [first, second] = mount(machine) as [VirtioFsClient, VirtioFsClient];
    const file = open(second, 'file');
    machine.plug(0);
    const buffer = machine.ram.slotBuffer(0, 0, SLOT);
    for (let round = 0; round < 50; round += 1) {
      const offset = round * 1024;
      const pending = second.startRead(file.nodeid, file.fh, offset, [buffer]);
      machine.restartQueue(1);
      expectAnswer(first.lookup(ROOT, 'file'), 'LOOKUP');
      expect(second.finish(pending)).toBe(SLOT);
      expect(Buffer.compare(buffer.bytes, content.subarray(offset, offset + SLOT))).toBe(0);
    }
  });

  test('sees what the other one has looked up and opened, and the end of the mount', async () => {
    await startDaemon();
    using machine = startMachine();
    const [first, second] = mount(machine) as [VirtioFsClient, VirtioFsClient];
    const file = open(first, 'file');
    machine.plug(0);
    const buffer = machine.ram.slotBuffer(0, 0, SLOT);
    expect(second.read(file.nodeid, file.fh, 0, [buffer])).toBe(SLOT);
    expect(second.release(file.nodeid, file.fh)).toBe(0);
    expect(first.read(file.nodeid, file.fh, 0, [buffer])).toBeLessThan(0);
    second.forget(file.nodeid);
    first.destroy();
    expect(second.getattr(ROOT)).toBe(-5);
    expectAnswer(second.init(), 'INIT');
    expectAnswer(first.getattr(ROOT), 'GETATTR');
  });
});

describe('the threads', () => {
  test('start when a front-end uses their queues, and serve one front-end after the other', async () => {
    await startDaemon();
    expect(started()).toBe(0);
    const fds: string[][] = [];
    for (let visit = 0; visit < 4; visit += 1) {
      using machine = startMachine();
      for (const client of mount(machine)) open(client, 'file');
      fds.push(daemon.openFds());
    }
    expect(started()).toBe(QUEUES);
    expect(fds[3]).toEqual(fds[1]);
    expect(fds[3]?.length).toBe(fds[0]?.length);
  });

  test('end on SIGTERM with status 0 while their queues are at work', async () => {
    await startDaemon();
    using machine = startMachine();
    const clients = mount(machine);
    const files = clients.map((client) => open(client, 'file'));
    machine.plug(0);
    clients.forEach((client, queue) => {
      const { nodeid, fh } = files[queue]!;
      for (let i = 0; i < 8; i += 1) client.startRead(nodeid, fh, 0, [machine.ram.slotBuffer(0, 0, SLOT)]);
    });
    expect(await daemon.close()).toEqual({ code: 0, signal: null });
  });

  test('are none with --queue-threads=0, and may be fewer than queues', async () => {
    for (const count of [0, 1]) {
      await startDaemon(`--queue-threads=${count}`);
      const machine = startMachine();
      for (const client of mount(machine)) open(client, 'file');
      expect(started()).toBe(count);
      machine[Symbol.dispose]();
      await daemon.close();
    }
  });
});
