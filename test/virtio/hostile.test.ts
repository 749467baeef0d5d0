/** What a hostile driver puts into a ring. After each of these the next good request is served, unless the ring is lost. */
import { expect, test } from 'vitest';
import {
  VRING_DESC_F_INDIRECT as INDIRECT,
  VRING_DESC_F_NEXT as NEXT,
  VRING_DESC_F_WRITE as WRITE,
} from '../../protocol/virtio-ring.ts';
import type { GuestErrorCode } from '../../src/errors.ts';
import { BUFFERS, BUFFERS_SIZE, makeRig, segmentsOf, type Rig } from './rig.ts';

const END = BUFFERS + 2 * BUFFERS_SIZE;
const TABLE = BUFFERS + 0x1000;
type Descriptor = readonly [gpa: number | bigint, length: number, flags: number, next: number];

interface Bad {
  readonly name: string;
  readonly code: GuestErrorCode;
  readonly ring: readonly Descriptor[];
  readonly table?: readonly Descriptor[];
  readonly indirect?: boolean;
}

const good: Descriptor = [BUFFERS, 40, NEXT, 1];
const cases: readonly Bad[] = [
  { name: 'a buffer outside memory', code: 'UNMAPPED', ring: [[0x5000, 40, 0, 0]] },
  { name: 'a buffer that crosses the end of the last region', code: 'UNMAPPED', ring: [[END - 8, 40, 0, 0]] },
  { name: 'a buffer that begins at the end of the last region', code: 'UNMAPPED', ring: [[END, 1, 0, 0]] },
  { name: 'an address that wraps at 2^64', code: 'UNMAPPED', ring: [[0xffff_ffff_ffff_fff0n, 64, 0, 0]] },
  {
    name: 'an address that a double cannot hold',
    code: 'UNMAPPED',
    ring: [[0x20_0000_0000_0001n, 64, 0, 0]],
  },
  {
    name: 'an address whose lower word alone is mapped',
    code: 'UNMAPPED',
    ring: [[0x8000_0001_0000_0000n, 64, 0, 0]],
  },
  { name: 'a length of 4 GiB', code: 'UNMAPPED', ring: [[BUFFERS, 0xffff_ffff, 0, 0]] },
  { name: 'a length of zero', code: 'BAD_DESCRIPTOR', ring: [[BUFFERS, 0, 0, 0]] },
  { name: 'a loop onto itself', code: 'LOOP', ring: [[BUFFERS, 8, NEXT, 0]] },
  { name: 'a loop of two', code: 'LOOP', ring: [good, [BUFFERS, 8, NEXT, 0]] },
  { name: 'a next beyond the ring', code: 'BAD_INDEX', ring: [[BUFFERS, 8, NEXT, 8]] },
  { name: 'a next of 65535', code: 'BAD_INDEX', ring: [[BUFFERS, 8, NEXT, 0xffff]] },
  {
    name: 'writable before readable',
    code: 'BAD_ORDER',
    ring: [
      [BUFFERS, 8, WRITE | NEXT, 1],
      [BUFFERS, 40, 0, 0],
    ],
  },
  {
    name: 'indirect that was not negotiated',
    code: 'BAD_INDIRECT',
    ring: [[TABLE, 16, INDIRECT, 0]],
    indirect: false,
  },
  { name: 'indirect and next at once', code: 'BAD_INDIRECT', ring: [[TABLE, 16, INDIRECT | NEXT, 1]] },
  { name: 'an indirect table of no length', code: 'BAD_INDIRECT', ring: [[TABLE, 0, INDIRECT, 0]] },
  { name: 'an indirect table of half a descriptor', code: 'BAD_INDIRECT', ring: [[TABLE, 24, INDIRECT, 0]] },
  { name: 'an indirect table of 4 GiB', code: 'TOO_LONG', ring: [[TABLE, 0xffff_fff0, INDIRECT, 0]] },
  { name: 'an indirect table outside memory', code: 'UNMAPPED', ring: [[0x5000, 32, INDIRECT, 0]] },
  { name: 'an indirect table at 2^64', code: 'UNMAPPED', ring: [[0xffff_ffff_ffff_fff0n, 32, INDIRECT, 0]] },
  { name: 'an indirect table that crosses the end', code: 'UNMAPPED', ring: [[END - 16, 32, INDIRECT, 0]] },
  {
    name: 'a nested table',
    code: 'BAD_INDIRECT',
    ring: [[TABLE, 16, INDIRECT, 0]],
    table: [[TABLE, 16, INDIRECT, 0]],
  },
  {
    name: 'a next beyond the table',
    code: 'BAD_INDEX',
    ring: [[TABLE, 32, INDIRECT, 0]],
    table: [[BUFFERS, 8, NEXT, 2]],
  },
  {
    name: 'a loop in a table',
    code: 'LOOP',
    ring: [[TABLE, 16, INDIRECT, 0]],
    table: [[BUFFERS, 8, NEXT, 0]],
  },
  {
    name: 'a bad buffer in a table',
    code: 'UNMAPPED',
    ring: [good, [TABLE, 16, INDIRECT, 0]],
    table: [[0x5000, 8, 0, 0]],
  },
];

test.each(cases)('$name fails that request only', ({ code, ring, table = [], indirect = true }) => {
  const faults: unknown[] = [];
  const rig = makeRig({
    indirect,
    reject: (chain) => {
      faults.push(chain.fault);
      return 0;
    },
  });
  ring.forEach((descriptor, i) => write(rig, rig.driver.descGpa + 16 * i, descriptor));
  table.forEach((descriptor, i) => write(rig, TABLE + 16 * i, descriptor));
  rig.driver.addRaw(0);
  rig.driver.writeDescriptor(7, BUFFERS + 5, 3, 0, 0);
  rig.driver.addRaw(7);
  rig.driver.publish();

  expect(rig.device.pop(rig.chain)).toBe(true);
  expect(faults).toEqual([code]);
  expect(rig.device.rejected).toBe(1);
  expect(segmentsOf(rig.chain)).toEqual([[BUFFERS + 5, 3, false]]);
  rig.device.pushUsed(7, 1);
  rig.device.publish();
  expect(usedElements(rig)).toEqual([
    [0, 0],
    [7, 1],
  ]);
});

test('the place for an error reply survives a buffer that is not there', () => {
  const rig = makeRig({ reject: (chain) => chain.writableBytes });
  write(rig, rig.driver.descGpa, [BUFFERS, 40, NEXT, 1]);
  write(rig, rig.driver.descGpa + 16, [0x5000, 4096, NEXT, 2]);
  write(rig, rig.driver.descGpa + 32, [BUFFERS + 64, 16, WRITE, 0]);
  rig.driver.addRaw(0);
  rig.driver.publish();
  expect(rig.device.pop(rig.chain)).toBe(false);
  expect(rig.chain.faultGpa).toBe(0x5000);
  expect(segmentsOf(rig.chain)).toEqual([
    [BUFFERS, 40, false],
    [BUFFERS + 64, 16, true],
  ]);
  rig.device.publish();
  expect(usedElements(rig)).toEqual([[0, 16]]);
});

test('an indirect table may be longer than the ring, not than 1024, and segments have a limit', () => {
  const rig = makeRig({ num: 2, indirect: true });
  for (const [count, fault] of [
    [1024, undefined],
    [1025, 'TOO_LONG'],
  ] as const) {
    for (let i = 0; i < count; i += 1)
      write(rig, TABLE + 16 * i, [BUFFERS + i, 1, i + 1 < count ? NEXT : 0, i + 1]);
    rig.driver.writeDescriptor(0, TABLE, 16 * count, INDIRECT, 0);
    rig.driver.addRaw(0);
    rig.driver.publish();
    expect(rig.device.pop(rig.chain)).toBe(fault === undefined);
    expect(rig.chain.fault).toBe(fault);
  }
  // Every buffer crosses from one slot into the other.
  for (let i = 0; i < 1024; i += 1)
    write(rig, TABLE + 16 * i, [BUFFERS + BUFFERS_SIZE - 1, 2, i + 1 < 1024 ? NEXT : 0, i + 1]);
  rig.driver.writeDescriptor(0, TABLE, 16 * 1024, INDIRECT, 0);
  rig.driver.addRaw(0);
  rig.driver.publish();
  expect(rig.device.pop(rig.chain)).toBe(false);
  expect(rig.chain.fault).toBe('TOO_LONG');
});

test('an avail index that jumped stops the ring', () => {
  const rig = makeRig();
  for (let i = 0; i < 9; i += 1) rig.driver.addRaw(0);
  rig.driver.publish();
  expect(() => rig.device.pop(rig.chain)).toThrow(expect.objectContaining({ code: 'BAD_INDEX' }));
});

test('an avail index that went back stops the ring', () => {
  const rig = makeRig({ base: 5 });
  rig.driver.reset(4);
  expect(() => rig.device.pop(rig.chain)).toThrow(expect.objectContaining({ code: 'BAD_INDEX' }));
});

test('a head outside the ring stops the ring', () => {
  for (const head of [8, 0xffff]) {
    const rig = makeRig();
    rig.driver.addRaw(head);
    rig.driver.publish();
    expect(() => rig.device.pop(rig.chain)).toThrow(expect.objectContaining({ code: 'BAD_INDEX' }));
    expect(rig.device.nextAvail).toBe(0);
  }
});

test('a driver that makes bad requests as fast as they are refused does not hold the thread', () => {
  const again = (): number => {
    rig.driver.addRaw(0);
    rig.driver.publish();
    return 0;
  };
  const rig = makeRig({ reject: again });
  rig.driver.writeDescriptor(0, 0x5000, 1, 0, 0);
  again();
  expect(rig.device.pop(rig.chain)).toBe(false);
  expect(rig.device.rejected).toBe(8);
  expect(rig.device.enableNotifications()).toBe(true);
});

test('what was loaded is what is used, though the driver changes memory with every load', () => {
  const rig = makeRig({ indirect: true });
  write(rig, rig.driver.descGpa, [BUFFERS, 40, NEXT, 1]);
  write(rig, rig.driver.descGpa + 16, [BUFFERS + 64, 16, WRITE, 0]);
  rig.driver.addRaw(0);
  rig.driver.publish();
  // The device looks a buffer up between loading its descriptor and loading the next one.
  const translate = rig.memory.translate.bind(rig.memory);
  rig.memory.translate = (gpa, size) => {
    for (let i = 0; i < 8; i += 1) rig.driver.writeDescriptor(i, 0x5000, 0, NEXT, 0xffff);
    rig.driver.writeDescriptor(1, BUFFERS + 64, 16, WRITE, 0); // the one not loaded yet
    return translate(gpa, size);
  };
  expect(rig.device.pop(rig.chain)).toBe(true);
  expect(segmentsOf(rig.chain)).toEqual([
    [BUFFERS, 40, false],
    [BUFFERS + 64, 16, true],
  ]);
});

test('a device that answers what was not asked is found out', () => {
  for (const head of [3, 8, 0xffff_ffff]) {
    const rig = makeRig();
    rig.device.pushUsed(head, 0);
    rig.device.publish();
    expect(() => rig.driver.collect()).toThrow(expect.objectContaining({ code: 'BAD_INDEX' }));
  }
});

function write(rig: Rig, at: number, [gpa, length, flags, next]: Descriptor): void {
  const view = rig.memory.ringView(rig.memory.addressOf(at), 16);
  view.setBigUint64(0, BigInt(gpa), true);
  view.setUint32(8, length, true);
  view.setUint16(12, flags, true);
  view.setUint16(14, next, true);
}

function usedElements(rig: Rig): readonly (readonly [number, number])[] {
  const view = rig.memory.ringView(rig.memory.addressOf(rig.driver.usedGpa), 68);
  return Array.from({ length: view.getUint16(2, true) }, (_, i) => [
    view.getUint32(4 + 8 * i, true),
    view.getUint32(8 + 8 * i, true),
  ]);
}
