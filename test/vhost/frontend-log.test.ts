/** The log of a device whose memory grows while it is written: a larger one in time, and nothing noted is lost. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { mapShared, unmap, viewOf } from '../../src/host/mapping.ts';
import type { DirtyLog } from '../../src/vhost/frontend-dirty-log.ts';
import { machine } from './frontend-machine.ts';
import { openFds } from './rig.ts';

/** Bytes of log for one 4 GiB step of `machine`, a word for 256 KiB. */
const PER_STEP = 8n * (1n << 14n);
const MARGIN = 0x1000n;

let before = 0;
beforeEach(() => (before = openFds()));
afterEach(() => {
  expect(openFds()).toBe(before);
});

/** The back-end writes to pages. */
function write(log: DirtyLog, ...pages: number[]): void {
  const size = Number(log.size);
  const address = mapShared(log.fd, 0, size);
  const bytes = new Uint8Array(viewOf(address, size));
  for (const page of pages) bytes[page >> 3]! |= 1 << (page & 7);
  unmap(address, size);
}

function collected(log: DirtyLog): number[] {
  const pages: number[] = [];
  log.collect((guestAddress) => pages.push(Number(guestAddress / 4096n)));
  return pages;
}

test.each(['strict', 'qemu'] as const)('%s: it grows before memory, and shrinks after it', (mode) => {
  using machine_ = machine({ mode });
  const { rig, device, plug, unplug } = machine_;
  rig.start();
  const log = device.startLog();
  expect(log.size).toBe(8n);
  rig.take();
  plug(1);
  expect(rig.take()).toEqual(['SET_LOG_BASE', 'ADD 0x100000000+0x1000']);
  expect(log.size).toBe(PER_STEP + 8n + MARGIN);
  plug(2);
  expect(rig.take()).toEqual(['SET_LOG_BASE', 'ADD 0x200000000+0x1000']);
  unplug(1);
  expect(rig.take()).toEqual(['REM 0x100000000+0x1000']);
  unplug(2);
  expect(rig.take()).toEqual(['REM 0x200000000+0x1000', 'SET_LOG_BASE']);
  expect(log.size).toBe(8n);
});

test('what was noted before it grew, and after, is collected once', () => {
  using machine_ = machine();
  const { rig, device, plug, unplug } = machine_;
  rig.start();
  const log = device.startLog();
  write(log, 1, 5);
  plug(3);
  write(log, 5, 9, 3 << 20);
  expect(collected(log)).toEqual([1, 5, 9, 3 << 20]);
  expect(collected(log)).toEqual([]);
  write(log, 2, 3 << 20);
  unplug(3);
  expect(collected(log)).toEqual([2, 3 << 20]);
});

test('a back-end that dies of the larger log leaves the operation failed, and the notes', () => {
  using machine_ = machine();
  const { rig, device, plug } = machine_;
  rig.start();
  const log = device.startLog();
  write(log, 7);
  rig.judge = (text) => (text === 'SET_LOG_BASE' ? 'die' : 'accept');
  expect(() => plug(1)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  expect([log.size, ...collected(log)]).toEqual([8n, 7]);
});

test('while the device is stopped nothing is told; the next start has a log that fits', () => {
  using machine_ = machine();
  const { rig, device, plug } = machine_;
  const log = device.startLog();
  plug(2);
  rig.take();
  rig.start();
  expect(log.size).toBe(2n * PER_STEP + 8n);
  const sent = rig.take();
  expect(sent.indexOf('SET_LOG_BASE')).toBeGreaterThan(sent.indexOf('SET_VRING_KICK 1'));
});
