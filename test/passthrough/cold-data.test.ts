import { mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { FsyncIn } from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { PassthroughFs } from '../../src/passthrough/passthrough-fs.ts';
import type { GuestBuffer } from '../../src/machine/guest-ram.ts';
import type { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { chill, diskDirectory, writeCold } from '../support/cold-file.ts';
import { InProcessBackend, startMachine } from '../support/loopback.ts';
import { Client, DEFAULTS } from './client.ts';

const SIZE = 4 << 20;
const PAGE = 4096;
const SLOT = 1 << 20;
const SLOTS = 4;

let directory: string;
let path: string;
let content: Buffer;
let files: PassthroughFs;
let backend: InProcessBackend;
let machine: LoopbackMachine;
let client: VirtioFsClient;
let nodeid: bigint;
let fh: bigint;

function start(protocolFeatures?: readonly ProtocolFeature[]): void {
  directory = mkdtempSync(join(diskDirectory(), 'share-'));
  path = join(directory, 'file');
  content = writeCold(path, SIZE);
  chill(path);
  files = new PassthroughFs({ ...DEFAULTS, sharedDir: directory });
  backend = new InProcessBackend(files);
  const layout = { baseSize: 1 << 22, slotSize: SLOT, slots: SLOTS, indirectEntries: 16 };
  machine = startMachine(backend, protocolFeatures === undefined ? layout : { ...layout, protocolFeatures });
  for (let slot = 0; slot < SLOTS; slot += 1) machine.plug(slot);
  client = new VirtioFsClient(machine);
  expectAnswer(client.init(), 'INIT');
  ({ nodeid } = expectAnswer(client.lookup(ROOT, 'file'), 'LOOKUP'));
  ({ fh } = expectAnswer(client.open(nodeid, 0), 'OPEN'));
}

beforeEach(() => start());
afterEach(end);

function end(): void {
  machine.close();
  backend[Symbol.dispose]();
  files.dispose();
  rmSync(directory, { recursive: true });
}

/** Lets the back-end take requests; it does not wait for the disk. */
const serve = (): void => {
  backend.session.run();
  backend.turn();
};

const isFrom = (offset: number, buffers: readonly GuestBuffer[]): boolean =>
  Buffer.concat(buffers.map(({ bytes }) => bytes)).equals(
    content.subarray(offset, offset + buffers.reduce((sum, { bytes }) => sum + bytes.length, 0)),
  );

test('cold data is read where it belongs, whatever the sizes, places and pieces', () => {
  const piece = fc.record({
    slot: fc.nat(SLOTS - 2),
    at: fc.nat(SLOT - 1),
    size: fc.integer({ min: 1, max: 70_000 }),
  });
  const read = fc.record({
    offset: fc.nat(SIZE - 1),
    pieces: fc.array(piece, { minLength: 1, maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(read, { minLength: 1, maxLength: 4 }), (reads) => {
      chill(path);
      for (const { offset, pieces } of reads) {
        const buffers = pieces.map(({ slot, at, size }) => machine.ram.slotBuffer(slot, at, size));
        const wanted = buffers.reduce((sum, { bytes }) => sum + bytes.length, 0);
        const done = client.read(nodeid, fh, offset, buffers);
        expect(done).toBe(Math.min(wanted, SIZE - offset));
        // Pieces may overlap: the one that was filled last is right, and it is, when all of it is in the file.
        const last = buffers.at(-1)!;
        const before = wanted - last.bytes.length;
        const end = Math.min(last.bytes.length, SIZE - offset - before);
        if (end > 0)
          expect(
            Buffer.from(last.bytes.subarray(0, end)).equals(
              content.subarray(offset + before, offset + before + end),
            ),
          ).toBe(true);
      }
    }),
    { numRuns: 40 },
  );
});

test('many reads are under way at once, and each ends up in its own buffer', () => {
  const offsets = Array.from({ length: 14 }, (_, i) => (i * 37 * PAGE) % SIZE);
  const buffers = offsets.map((_, i) => machine.ram.slotBuffer(i % SLOTS, i * 2 * PAGE, PAGE));
  const pending = offsets.map((offset, i) => client.startRead(nodeid, fh, offset, [buffers[i]!]));
  for (const one of pending) expect(client.finish(one)).toBe(PAGE);
  offsets.forEach((offset, i) => expect(isFrom(offset, [buffers[i]!])).toBe(true));
  expect(files.inFlight?.count ?? 0).toBe(0);
});

test('what is cached in front is not read twice, and the rest is', () => {
  const buffer = machine.ram.slotBuffer(0, 0, PAGE);
  const large = machine.ram.slotBuffer(1, 0, 64 * PAGE);
  expect(client.read(nodeid, fh, 0, [buffer])).toBe(PAGE);
  expect(client.read(nodeid, fh, 0, [large])).toBe(64 * PAGE);
  expect(isFrom(0, [large])).toBe(true);
  const end = machine.ram.slotBuffer(2, 100, 3 * PAGE);
  expect(client.read(nodeid, fh, SIZE - PAGE - 1, [end])).toBe(PAGE + 1);
});

const removals = [
  { name: 'REM_MEM_REG', features: undefined },
  { name: 'SET_MEM_TABLE', features: [ProtocolFeature.MQ, ProtocolFeature.REPLY_ACK] },
] as const;

test.each(removals)('$name waits until the kernel has left the memory', ({ features }) => {
  end();
  start(features);
  for (let round = 0; round < 20; round += 1) {
    chill(path);
    const offset = (round * 53 * PAGE) % SIZE;
    const buffer = machine.ram.slotBuffer(3, round * PAGE, PAGE);
    buffer.bytes.fill(0xee);
    const pending = client.startRead(nodeid, fh, offset, [buffer]);
    serve();
    machine.unplug(3);
    expect(files.inFlight?.count ?? 0).toBe(0);
    expect(isFrom(offset, [buffer])).toBe(true);
    expect(client.finish(pending)).toBe(PAGE);
    machine.plug(3);
  }
});

test('a file that is closed or truncated meanwhile harms nobody', () => {
  const [kept, lost] = [machine.ram.slotBuffer(0, 0, PAGE), machine.ram.slotBuffer(1, 0, 2 * PAGE)];
  const first = client.startRead(nodeid, fh, 8 * PAGE, [kept]);
  serve();
  expect(client.release(nodeid, fh)).toBe(0);
  expect(client.finish(first)).toBe(PAGE);
  expect(isFrom(8 * PAGE, [kept])).toBe(true);

  ({ fh } = expectAnswer(client.open(nodeid, 0), 'OPEN'));
  const second = client.startRead(nodeid, fh, SIZE - 2 * PAGE, [lost]);
  serve();
  truncateSync(path, SIZE - PAGE);
  expect(client.finish(second)).toBeLessThanOrEqual(2 * PAGE);
  expect(client.read(nodeid, fh, SIZE - 2 * PAGE, [lost])).toBe(PAGE);
});

test('a ring that is stopped answers what is under way first; so does a front-end that leaves', () => {
  const buffers = Array.from({ length: 8 }, (_, i) => machine.ram.slotBuffer(0, i * PAGE, PAGE));
  const pending = buffers.map((buffer, i) => client.startRead(nodeid, fh, i * 61 * PAGE, [buffer]));
  serve();
  machine.frontend.getVringBase(1);
  expect(files.inFlight?.count ?? 0).toBe(0);
  pending.forEach((one) => expect(client.finish(one)).toBe(PAGE));
  buffers.forEach((buffer, i) => expect(isFrom(i * 61 * PAGE, [buffer])).toBe(true));
});

test('a front-end that leaves while the kernel reads', () => {
  chill(path);
  for (let i = 0; i < 8; i += 1)
    client.startRead(nodeid, fh, i * 67 * PAGE, [machine.ram.slotBuffer(0, i * PAGE, PAGE)]);
  serve();
  machine.close();
  serve();
  expect(backend.session.closed).toBe(true);
  expect(files.inFlight?.count ?? 0).toBe(0);
  expect(backend.memory.regions.length).toBe(0);
});

test('a sync is answered when it is done', () => {
  using disk = new Client({}, diskDirectory());
  const file = disk.create('new');
  disk.write(file.nodeid, file.fh, 0n, 'octets');
  const sync = (handle: bigint, fsyncFlags: number): number | undefined =>
    disk.code(FuseOpcode.FSYNC, file.nodeid, [FsyncIn.encode({ fh: handle, fsyncFlags })]);
  expect(sync(file.fh, 0)).toBe(0);
  expect(sync(file.fh, 1)).toBe(0);
  expect(sync(12_345n, 0)).toBe(-Errno.EBADF);
});
