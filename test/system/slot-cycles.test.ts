/**
 * Memory slots added and removed over and over under load, from another process.
 *
 * SLOT_CYCLES in the environment sets how often; the default takes a few seconds.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { GuestBuffer } from '../../src/machine/guest-ram.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { Daemon, runLog } from '../support/daemon.ts';

const CYCLES = Number(process.env['SLOT_CYCLES'] ?? 10_000);
const SLOTS = 32;
const SLOT = 1 << 20;
const SIZE = 8192;

interface Usage {
  readonly fds: number;
  readonly maps: number;
  /** Mappings of our guest RAM. */
  readonly guestMaps: number;
  readonly residentKiB: number;
}

test.each([1, 2])(
  `${CYCLES} slots added and removed while files are read by %i queues leave nothing behind`,
  async (queues) => {
    mkdirSync(join(runLog('x'), '..'), { recursive: true });
    await using daemon = await Daemon.start({
      name: 'slot-cycles',
      logLevel: 'error',
      flags: [`--num-request-queues=${queues}`],
    });
    const content = Buffer.from(Array.from({ length: SIZE }, (_, i) => i * 31));
    writeFileSync(join(daemon.sharedDir, 'file'), content);
    using machine = LoopbackMachine.start({
      socket: daemon.socketPath,
      baseSize: 1 << 22,
      slotSize: SLOT,
      slots: SLOTS,
      indirectEntries: 8,
      requestQueues: queues,
    });
    const clients = Array.from({ length: queues }, (_, i) => new VirtioFsClient(machine, i + 1));
    const client = clients[0]!;
    expectAnswer(client.init(), 'INIT');
    const { nodeid } = expectAnswer(client.lookup(ROOT, 'file'), 'LOOKUP');
    const { fh } = expectAnswer(client.open(nodeid, 0), 'OPEN');
    const buffers = Array.from({ length: SLOTS }, (_, slot) =>
      machine.ram.slotBuffer(slot, 4096 * slot, SIZE),
    );
    const cycle = (count: number): void => cycles({ machine, clients, buffers, nodeid, fh, content }, count);

    cycle(CYCLES / 10);
    const before = await usage(daemon);
    cycle(CYCLES);
    const after = await usage(daemon);
    expect(after.fds).toBe(before.fds);
    // The JavaScript heap takes and gives back mappings and memory of its own; what a cycle left would be thousands.
    expect(after.maps).toBeLessThan(before.maps + CYCLES / 50);
    expect(after.guestMaps).toBe(1); // the base region
    expect(after.residentKiB).toBeLessThan(before.residentKiB + 64 * 1024);
  },
);

interface Rig {
  readonly machine: LoopbackMachine;
  readonly clients: readonly VirtioFsClient[];
  readonly buffers: readonly GuestBuffer[];
  readonly nodeid: bigint;
  readonly fh: bigint;
  readonly content: Buffer;
}

/** Each step adds a slot, and removes the oldest of eight while a read goes into the newest. */
function cycles({ machine, clients, buffers, nodeid, fh, content }: Rig, count: number): void {
  const held = 8;
  for (let i = 0; i < count + held; i += 1) {
    const newest = i % SLOTS;
    const client = clients[i % clients.length]!;
    if (i < count) machine.plug(newest);
    const buffer = buffers[newest]!;
    buffer.bytes[SIZE - 1] = 0;
    const pending = i < count ? client.startRead(nodeid, fh, 0, [buffer]) : undefined;
    if (i >= held) machine.unplug((i - held) % SLOTS);
    if (pending === undefined) continue;
    if (client.finish(pending) !== SIZE || Buffer.compare(buffer.bytes, content) !== 0)
      throw new Error(`cycle ${i}: what was read into slot ${newest} is wrong`);
  }
}

async function usage(daemon: Daemon): Promise<Usage> {
  await sleep(200);
  const proc = `/proc/${daemon.process.pid}`;
  const maps = readFileSync(`${proc}/maps`, 'utf8').trimEnd().split('\n');
  return {
    fds: readdirSync(`${proc}/fd`).length,
    maps: maps.length,
    guestMaps: maps.filter((line) => line.includes('/memfd:guest-ram')).length,
    residentKiB: Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`${proc}/status`, 'utf8'))?.[1]),
  };
}
