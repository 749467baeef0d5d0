/** Live migration: what we write is marked, whenever its region came. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { BUFFERS, FEATURES, openFds, Ram, Rig, wasSignalled } from './rig.ts';

let before = 0;
beforeEach(() => {
  new Rig()[Symbol.dispose]();
  before = openFds();
});
afterEach(() => expect(openFds()).toBe(before));

const LOG_ALL = 1n << 26n;
const LOG_SIZE = 0x2_8000; // covers 5 GiB
/** Hot-added: where the reply of a request will be. */
const HOT = 0x1_0000_0000;

/** Pages marked since the last look. */
function marked(log: Ram): readonly number[] {
  const pages: number[] = [];
  for (let byte = 0; byte < LOG_SIZE; byte += 1)
    for (let bit = 0; bit < 8; bit += 1)
      if (((log.bytes[byte]! >> bit) & 1) === 1) pages.push(byte * 8 + bit);
  log.bytes.fill(0);
  return pages;
}
const pageOf = (gpa: number): number => Math.floor(gpa / 4096);

function setLog(rig: Rig, log: Ram): unknown {
  return rig.request('SET_LOG_BASE', { mmapSize: BigInt(LOG_SIZE), mmapOffset: 0n }, { fds: [log.fd.fd] });
}

/** QEMU: log base, then LOG_ALL, then each ring's flag. */
function startLogging(rig: Rig, log: Ram): void {
  expect(Buffer.from(setLog(rig, log) as Uint8Array).toString('hex')).toBe(
    '00800200000000000000000000000000',
  );
  expect(rig.u64('SET_FEATURES', FEATURES | LOG_ALL)).toBe(0n);
  for (const index of [0, 1]) expect(rig.u64('SET_VRING_ADDR', rig.addr(index, { flags: 1 }))).toBe(0n);
}

/** Serves one request whose reply is written at `at` + 4096. */
function requestAt(rig: Rig, at: number): void {
  rig.offer(0, 1, at);
  rig.pump();
  expect(rig.collect(0)).toBe(1);
}

test.each(['before', 'after'])('a region added %s SET_LOG_BASE is logged', (when) => {
  using log = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  const hot = { guestPhysAddr: BigInt(HOT), memorySize: 0x10_0000n };
  if (when === 'before') rig.addRegion(hot);
  startLogging(rig, log);
  if (when === 'after') rig.addRegion(hot);
  marked(log);
  requestAt(rig, HOT);
  expect(marked(log)).toEqual([pageOf(rig.drivers[0]!.usedGpa), pageOf(HOT + 4096)]);
});

test('a table set after SET_LOG_BASE is logged', () => {
  using log = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  startLogging(rig, log);
  rig.setTable([rig.region(), rig.region({ guestPhysAddr: BigInt(HOT) })]);
  marked(log);
  requestAt(rig, HOT);
  expect(marked(log)).toContain(pageOf(HOT + 4096));
});

test('a reply over several pages marks those that were written, and no more', () => {
  using log = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  startLogging(rig, log);
  rig.device.written = 4096 + 1;
  rig.drivers[0]!.add([BUFFERS, BUFFERS + 0x1000, BUFFERS + 0x8000], [16, 4096, 8192], 3, 1);
  rig.drivers[0]!.publish();
  rig.kick(0);
  rig.pump();
  const data = marked(log).filter((page) => page >= pageOf(BUFFERS));
  expect(data).toEqual([pageOf(BUFFERS) + 1, pageOf(BUFFERS) + 8]);
});

test('the used ring is logged at log_guest_addr, exactly if the ring has the flag', () => {
  using log = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  startLogging(rig, log);
  rig.u64('SET_VRING_ADDR', rig.addr(0, { flags: 1, logGuestAddr: 0x4000_0000n }));
  marked(log);
  requestAt(rig, BUFFERS);
  expect(marked(log)).toEqual([pageOf(BUFFERS + 4096), 0x4_0000]);
  rig.u64('SET_VRING_ADDR', rig.addr(0, { flags: 0 }));
  requestAt(rig, BUFFERS);
  expect(marked(log)).toEqual([pageOf(BUFFERS + 4096)]);
});

test('nothing is logged before LOG_ALL nor after it was cleared, and a second migration works', () => {
  using log = new Ram(LOG_SIZE);
  using second = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  setLog(rig, log);
  requestAt(rig, BUFFERS);
  expect(marked(log)).toEqual([]);
  startLogging(rig, log);
  requestAt(rig, BUFFERS);
  expect(marked(log)).toContain(pageOf(BUFFERS + 4096));
  rig.u64('SET_FEATURES', FEATURES);
  requestAt(rig, BUFFERS);
  expect(marked(log)).toEqual([]);
  startLogging(rig, second);
  requestAt(rig, BUFFERS);
  expect(marked(second)).toContain(pageOf(BUFFERS + 4096));
  expect(marked(log)).toEqual([]);
});

test('a request that was deferred before logging began is logged when it is completed', () => {
  using log = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  rig.device.isDeferring = true;
  rig.offer(0, 1, BUFFERS + 0x2_0000);
  rig.pump();
  startLogging(rig, log);
  marked(log);
  expect(rig.stop(0)).toBe(1);
  expect(marked(log)).toContain(pageOf(BUFFERS + 0x2_1000));
});

test('the eventfd of SET_LOG_FD tells of changes', () => {
  using log = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  using changed = new OwnedFd(createEventfd());
  expect(rig.u64('SET_LOG_FD', undefined, { fds: [changed.fd] })).toBe(0n);
  expect(rig.ping(0)).toBe(true);
  expect(wasSignalled(changed)).toBe(false);
  startLogging(rig, log);
  expect(rig.ping(0)).toBe(true);
  expect(wasSignalled(changed)).toBe(true);
});

test('a log that does not fit its fd is refused with a status, and the session goes on', () => {
  using log = new Ram(LOG_SIZE);
  using rig = new Rig().start();
  for (const [mmapSize, mmapOffset] of [
    [BigInt(LOG_SIZE) + 1n, 0n],
    [0n, 0n],
    [0x1000n, BigInt(LOG_SIZE)],
    [2n ** 64n - 1n, 2n ** 64n - 1n],
  ])
    expect(rig.u64('SET_LOG_BASE', { mmapSize, mmapOffset }, { fds: [log.fd.fd] })).toBe(1n);
  expect(rig.u64('SET_LOG_BASE', { mmapSize: 1n, mmapOffset: 0n })).toBe(1n); // no fd
  expect(rig.ping(0)).toBe(true);
});
