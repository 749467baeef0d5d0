/**
 * What a hostile driver can put into a request queue of a mounted file system, end to end: after each of these the share
 * answers a good request, at once or, if the ring itself was lost, after it was set up anew.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FuseOpcode, InHeader, OutHeader } from '../../protocol/fuse.ts';
import {
  VRING_DESC_F_INDIRECT as INDIRECT,
  VRING_DESC_F_NEXT as NEXT,
  VRING_DESC_F_WRITE as WRITE,
} from '../../protocol/virtio-ring.ts';
import type { GuestBuffer } from '../../src/machine/guest-ram.ts';
import type { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { InProcessBackend, startMachine } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';

let backend: InProcessBackend;
let machine: LoopbackMachine;
let client: VirtioFsClient;
let page: GuestBuffer;

beforeAll(() => {
  backend = new InProcessBackend(new PaperFileSystem());
  machine = startMachine(backend, { baseSize: 1 << 22, slotSize: 1 << 16, slots: 1, indirectEntries: 8 });
  client = new VirtioFsClient(machine);
  client.init();
  page = machine.ram.allocate(8192, 4096);
});
afterAll(() => {
  machine.close();
  backend[Symbol.dispose]();
});

type Descriptor = readonly [gpa: number, length: number, flags: number, next: number];
const OUTSIDE = 0x8000_0000;
const END = 1 << 22;
const TABLE = 4096;

/** A GETATTR of the root, unless told otherwise. */
function request(header: { readonly len?: number; readonly opcode?: number } = {}): void {
  const octets = InHeader.encode({
    len: InHeader.size + 16,
    opcode: FuseOpcode.GETATTR,
    unique: 77n,
    nodeid: 1n,
    uid: 0,
    gid: 0,
    pid: 1,
    totalExtlen: 0,
    ...header,
  });
  page.bytes.fill(0);
  page.bytes.set(octets);
}

const good = (): Descriptor => [page.gpa, 56, NEXT, 1];
const reply = (): Descriptor => [page.gpa + 2048, 120, WRITE, 0];

const requests: readonly { readonly name: string; readonly ring: () => readonly Descriptor[] }[] = [
  { name: 'a reply buffer outside memory', ring: () => [good(), [OUTSIDE, 120, WRITE, 0]] },
  { name: 'a request outside memory', ring: () => [[OUTSIDE, 56, NEXT, 1], reply()] },
  { name: 'a reply that crosses the end of the last region', ring: () => [good(), [END - 8, 120, WRITE, 0]] },
  { name: 'an address that wraps', ring: () => [good(), [2 ** 64 - 4096, 8192, WRITE, 0]] },
  { name: 'a loop', ring: () => [[page.gpa, 56, NEXT, 0]] },
  { name: 'an index outside the ring', ring: () => [[page.gpa, 56, NEXT, 5000]] },
  { name: 'a zero-length descriptor', ring: () => [[page.gpa, 0, NEXT, 1], reply()] },
  { name: 'a short header', ring: () => [[page.gpa, 39, NEXT, 1], reply()] },
  { name: 'no descriptor to read', ring: () => [reply()] },
  { name: 'no descriptor to write', ring: () => [[page.gpa, 56, 0, 0]] },
  {
    name: 'writable before readable',
    ring: () => [
      [page.gpa + 2048, 120, WRITE | NEXT, 1],
      [page.gpa, 56, 0, 0],
    ],
  },
  { name: 'an indirect table outside memory', ring: () => [[OUTSIDE, 32, INDIRECT, 0]] },
  { name: 'an indirect table of odd length', ring: () => [[page.gpa + TABLE, 40, INDIRECT, 0]] },
  { name: 'an empty indirect table', ring: () => [[page.gpa + TABLE, 0, INDIRECT, 0]] },
  { name: 'a nested indirect table', ring: () => (nest(), [[page.gpa + TABLE, 16, INDIRECT, 0]]) },
  {
    name: 'a header that lies about its length',
    ring: () => (request({ len: 0xffff_ffff }), [good(), reply()]),
  },
  { name: 'an unknown opcode', ring: () => (request({ opcode: 0xdead }), [good(), reply()]) },
  { name: 'a reply buffer of 8 bytes', ring: () => [good(), [page.gpa + 2048, 8, WRITE, 0]] },
];

/** A table whose only descriptor is the table. */
function nest(): void {
  const view = new DataView(page.bytes.buffer, page.bytes.byteOffset + TABLE);
  view.setBigUint64(0, BigInt(page.gpa + TABLE), true);
  view.setUint32(8, 16, true);
  view.setUint16(12, INDIRECT, true);
}

test.each(requests)('$name costs one request', ({ ring }) => {
  request();
  const queue = machine.queues[1]!;
  const { driver } = queue;
  const head = driver.add([page.gpa], [1], 1, 1); // taken, and then written over
  expect(head).toBe(0);
  ring().forEach(([gpa, length, flags, next], index) =>
    driver.writeDescriptor(index, gpa, length, flags, next),
  );
  queue.submit();
  expect(queue.wait(1000)).toBe(head);
  if (driver.lastWritten !== 0) expect(OutHeader.decode(page.bytes, 2048).error).toBeLessThan(0);
  expect(client.getattr(ROOT)).toMatchObject({ attr: { ino: 1n } });
});

const lost: readonly { readonly name: string; readonly act: () => void }[] = [
  {
    name: 'an avail index that jumps',
    act: () => Array.from({ length: 300 }, () => machine.queues[1]!.driver.addRaw(0)),
  },
  { name: 'a head outside the ring', act: () => machine.queues[1]!.driver.addRaw(256) },
];

test.each(lost)('$name costs the ring, until it is set up anew', ({ act }) => {
  const queue = machine.queues[1]!;
  act();
  queue.submit();
  expect(() => queue.wait(1000)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  machine.restartQueue(1);
  expect(client.getattr(ROOT)).toMatchObject({ attr: { ino: 1n } });
});
