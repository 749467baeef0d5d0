import fc from 'fast-check';
import { expect, test } from 'vitest';
import { vringNeedEvent } from '../../protocol/virtio-ring.ts';
import { logWritten, type Chain } from '../../src/virtio/chain.ts';
import { Virtqueue } from '../../src/virtio/virtqueue.ts';
import { BUFFERS, BUFFERS_SIZE, makeRig, ringMemory, segmentsOf, type Rig } from './rig.ts';
import { octetsOf } from '../support/views.ts';

/** What the driver asked for, as the device should see it. */
interface Asked {
  readonly head: number;
  readonly gpas: readonly number[];
  readonly lengths: readonly number[];
  readonly readable: number;
}

const add = (
  { driver }: Rig,
  gpas: readonly number[],
  lengths: readonly number[],
  readable: number,
): number => {
  const head = driver.add(gpas, lengths, gpas.length, readable);
  driver.publish();
  return head;
};

test('a request arrives with its buffers and goes back with what was written', () => {
  const rig = makeRig();
  const head = add(rig, [BUFFERS, BUFFERS + 0x100], [40, 16], 1);

  expect(rig.device.pop(rig.chain)).toBe(true);
  expect(rig.chain.head).toBe(head);
  expect(segmentsOf(rig.chain)).toEqual([
    [BUFFERS, 40, false],
    [BUFFERS + 0x100, 16, true],
  ]);
  expect(rig.chain.address[0]).toBe(rig.memory.addressOf(BUFFERS));
  expect([rig.chain.readableBytes, rig.chain.writableBytes]).toEqual([40, 16]);
  expect(rig.device.pop(rig.chain)).toBe(false);

  rig.device.pushUsed(head, 12);
  expect(rig.driver.collect()).toBe(-1);
  rig.device.publish();
  expect(rig.driver.collect()).toBe(head);
  expect(rig.driver.lastWritten).toBe(12);
  expect(rig.driver.collect()).toBe(-1);
});

test('a buffer that crosses into the next slot becomes two segments', () => {
  const rig = makeRig();
  const border = BUFFERS + BUFFERS_SIZE;
  add(rig, [border - 10], [30], 0);
  rig.device.pop(rig.chain);
  expect(segmentsOf(rig.chain)).toEqual([
    [border - 10, 10, true],
    [border, 20, true],
  ]);
  expect(rig.chain.address[1]).toBe(rig.memory.addressOf(border));
});

test('an indirect table that crosses slots, misaligned, is read all the same', () => {
  const rig = makeRig({ indirect: true });
  const table = BUFFERS + BUFFERS_SIZE - 21; // the second descriptor lies on both sides, none is aligned
  const entries = [
    [BUFFERS, 8, 1, 1],
    [BUFFERS + 64, 9, 2, 0],
  ] as const;
  const octets = Buffer.concat(
    entries.map(([gpa, length, flags, next]) => {
      const entry = Buffer.alloc(16);
      entry.writeBigUInt64LE(BigInt(gpa));
      entry.writeUInt32LE(length, 8);
      entry.writeUInt16LE(flags, 12);
      entry.writeUInt16LE(next, 14);
      return entry;
    }),
  );
  octets.forEach(
    (octet, i) => (octetsOf(rig.memory.ringView(rig.memory.addressOf(table + i), 1))[0] = octet),
  );
  rig.driver.writeDescriptor(0, table, 32, 4, 0);
  rig.driver.addRaw(0);
  rig.driver.publish();
  expect(rig.device.pop(rig.chain)).toBe(true);
  expect(segmentsOf(rig.chain)).toEqual([
    [BUFFERS, 8, false],
    [BUFFERS + 64, 9, true],
  ]);
});

test('indices wrap at 65536 on rings of every size', () => {
  for (const num of [1, 2, 256, 32768]) {
    const rig = makeRig({ num, base: 65530 });
    for (let i = 0; i < 20; i += 1) {
      const head = add(rig, [BUFFERS + i], [1 + i], 1);
      expect(rig.device.pop(rig.chain)).toBe(true);
      expect(segmentsOf(rig.chain)).toEqual([[BUFFERS + i, 1 + i, false]]);
      rig.device.pushUsed(head, i);
      rig.device.publish();
      expect(rig.driver.collect()).toBe(head);
      expect(rig.driver.lastWritten).toBe(i);
    }
    expect(rig.device.nextAvail).toBe((65530 + 20) & 0xffff);
    expect(rig.device.usedIndex).toBe((65530 + 20) & 0xffff);
  }
});

test('a ring of 32768 entries holds 32768 requests, or one of 32768 buffers', () => {
  const rig = makeRig({ num: 32768, base: 40000 });
  for (let i = 0; i < 32768; i += 1) rig.driver.add([BUFFERS + i], [1], 1, 1);
  expect(rig.driver.add([BUFFERS], [1], 1, 1)).toBe(-1);
  rig.driver.publish();
  let served = 0;
  while (rig.device.pop(rig.chain)) {
    rig.device.pushUsed(rig.chain.head, 0);
    served += 1;
  }
  expect(served).toBe(32768);
  rig.device.publish();
  while (rig.driver.collect() >= 0) served -= 1;
  expect(served).toBe(0);

  const gpas = Array.from({ length: 32768 }, (_, i) => BUFFERS + i);
  add(
    rig,
    gpas,
    Array.from({ length: 32768 }, () => 1),
    32768,
  );
  expect(rig.device.pop(rig.chain)).toBe(true);
  expect(rig.chain.readableCount).toBe(32768);
});

test('a new virtqueue goes on where the old one stopped', () => {
  const memory = ringMemory(8, 0);
  const rig = makeRig({ base: 7 }, memory);
  const first = add(rig, [BUFFERS], [1], 1);
  rig.device.pop(rig.chain);
  rig.device.pushUsed(first, 0);
  rig.device.publish();
  const second = add(rig, [BUFFERS + 5], [2], 1);

  const next = new Virtqueue(
    memory,
    {
      num: 8,
      descAddress: memory.addressOf(rig.driver.descGpa),
      availAddress: memory.addressOf(rig.driver.availGpa),
      usedAddress: memory.addressOf(rig.driver.usedGpa),
      eventIdx: true,
      indirect: false,
    },
    rig.device.nextAvail,
  );
  expect(next.usedIndex).toBe(8);
  expect(next.pop(rig.chain)).toBe(true);
  expect(rig.chain.head).toBe(second);
});

test('a ring whose size or place the specification forbids is refused', () => {
  const memory = ringMemory(8, 0);
  const setup = {
    num: 8,
    descAddress: 16,
    availAddress: 2,
    usedAddress: 4,
    eventIdx: false,
    indirect: false,
  };
  for (const wrong of [
    { num: 0 },
    { num: 3 },
    { num: 65536 },
    { descAddress: 8 },
    { availAddress: 1 },
    { usedAddress: 2 },
  ])
    expect(() => new Virtqueue(memory, { ...setup, ...wrong }, 0)).toThrow(
      expect.objectContaining({ code: 'BAD_VALUE' }),
    );
});

test('what a request wrote, and the used ring, go to the dirty log', () => {
  const rig = makeRig({ usedGpa: 0x5000 });
  rig.memory.isLogging = true;
  const border = BUFFERS + BUFFERS_SIZE;
  const head = add(rig, [BUFFERS, border - 4], [8, 20], 1);
  rig.device.pop(rig.chain);
  logWritten(rig.memory, rig.chain, 10);
  expect(rig.memory.dirty.splice(0)).toEqual([
    { gpa: border - 4, size: 4 },
    { gpa: border, size: 6 },
  ]);
  rig.device.pushUsed(head, 10);
  rig.device.publish();
  expect(rig.memory.dirty.splice(0)).toEqual([
    { gpa: 0x5004, size: 8 },
    { gpa: 0x5000, size: 4 },
  ]);
  rig.device.logUsedAt(undefined);
  rig.device.enableNotifications();
  expect(rig.memory.dirty).toEqual([]);
});

const request = fc
  .array(fc.tuple(fc.nat(BUFFERS_SIZE), fc.integer({ min: 1, max: 200 })), { minLength: 1, maxLength: 5 })
  .chain((buffers) => fc.tuple(fc.constant(buffers), fc.nat(buffers.length)));
const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), request }),
  fc.record({ kind: fc.constant('serve' as const), written: fc.nat(1000) }),
  fc.record({ kind: fc.constant('finish' as const), pick: fc.nat(100) }),
  fc.record({ kind: fc.constant('publish' as const) }),
  fc.record({ kind: fc.constant('collect' as const) }),
);

test('driver and device agree with a list, in any order of steps', () => {
  const memory = ringMemory(16, 4);
  fc.assert(
    fc.property(
      fc.record({ eventIdx: fc.boolean(), indirectEntries: fc.constantFrom(0, 4), base: fc.nat(0xffff) }),
      fc.array(step, { maxLength: 200 }),
      (options, steps) => {
        const rig = makeRig({ num: 16, ...options }, memory);
        const waiting: Asked[] = [];
        const taken: Asked[] = [];
        const done: { head: number; written: number }[] = [];
        let published = 0;
        for (const current of steps) {
          if (current.kind === 'add') {
            const [buffers, readable] = current.request;
            const gpas = buffers.map(([at]) => BUFFERS + at);
            const lengths = buffers.map(([, size]) => size);
            const head = add(rig, gpas, lengths, readable);
            if (head >= 0) waiting.push({ head, gpas, lengths, readable });
          } else if (current.kind === 'serve') {
            expect(rig.device.pop(rig.chain)).toBe(waiting.length > 0);
            const asked = waiting.shift();
            if (asked === undefined) continue;
            expectChain(rig.chain, asked);
            taken.push(asked);
          } else if (current.kind === 'finish' && taken.length > 0) {
            const [asked] = taken.splice(current.pick % taken.length, 1);
            rig.device.pushUsed(asked!.head, current.pick);
            done.push({ head: asked!.head, written: current.pick });
          } else if (current.kind === 'publish') {
            rig.device.publish();
            published = done.length;
          } else if (current.kind === 'collect') {
            const head = rig.driver.collect();
            const first = published > 0 ? done.shift() : undefined;
            published = Math.max(0, published - 1);
            expect(head).toBe(first?.head ?? -1);
            if (first !== undefined) expect(rig.driver.lastWritten).toBe(first.written);
          }
        }
      },
    ),
    { numRuns: 300 },
  );
});

function expectChain(chain: Chain, asked: Asked): void {
  expect(chain.head).toBe(asked.head);
  const sum = (lengths: readonly number[]): number => lengths.reduce((total, length) => total + length, 0);
  expect(chain.readableBytes).toBe(sum(asked.lengths.slice(0, asked.readable)));
  expect(chain.writableBytes).toBe(sum(asked.lengths.slice(asked.readable)));
  const border = BUFFERS + BUFFERS_SIZE;
  const pieces = asked.gpas.flatMap((at, i) => {
    const length = asked.lengths[i]!;
    const isWritable = i >= asked.readable;
    if (at >= border || at + length <= border) return [[at, length, isWritable]];
    return [
      [at, border - at, isWritable],
      [border, at + length - border, isWritable],
    ];
  });
  expect(segmentsOf(chain)).toEqual(pieces);
}

test('the device calls exactly when the driver asked to, by event index or by flag', () => {
  const memory = ringMemory(16, 0);
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.nat(0xffff),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.boolean()), { maxLength: 60 }),
      (eventIdx, base, rounds) => {
        const rig = makeRig({ num: 16, eventIdx, base }, memory);
        let used = base;
        let event = base; // reset() leaves it there
        let wantsCall = true;
        let called = -1;
        for (const [count, enable] of rounds) {
          if (enable) {
            rig.driver.enableCalls();
            event = used;
          } else {
            rig.driver.disableCalls();
            event = (used - 1) & 0xffff;
          }
          wantsCall = enable;
          for (let i = 0; i < count; i += 1) {
            const head = add(rig, [BUFFERS], [1], 1);
            rig.device.pop(rig.chain);
            rig.device.pushUsed(head, 0);
          }
          rig.device.publish();
          const before = called;
          used = (used + count) & 0xffff;
          const passed = Array.from(
            { length: (used - before) & 0xffff },
            (_, i) => (before + i) & 0xffff,
          ).includes(event);
          const expected = eventIdx ? before < 0 || passed : wantsCall;
          expect(rig.device.needsCall()).toBe(before !== used && expected);
          if (before !== used) called = used;
          expect(rig.device.needsCall()).toBe(false);
          while (rig.driver.collect() >= 0);
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('the driver kicks exactly when the device asked to, and arrivals before that are told', () => {
  const memory = ringMemory(16, 0);
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.nat(0xffff),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.boolean()), { maxLength: 60 }),
      (eventIdx, base, rounds) => {
        const rig = makeRig({ num: 16, eventIdx, base }, memory);
        let isFresh = true; // the index is where the event index is
        for (const [count, enable] of rounds) {
          if (enable) expect(rig.device.enableNotifications()).toBe(false);
          else rig.device.disableNotifications();
          for (let i = 0; i < count; i += 1) rig.driver.add([BUFFERS], [1], 1, 1);
          rig.driver.publish();
          expect(rig.driver.kickNeeded()).toBe(enable || (eventIdx && isFresh));
          isFresh = false;
          expect(rig.driver.kickNeeded()).toBe(false);
          expect(rig.device.enableNotifications()).toBe(true);
          while (rig.device.pop(rig.chain)) rig.device.pushUsed(rig.chain.head, 0);
          rig.device.publish();
          while (rig.driver.collect() >= 0);
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('vring_need_event is true for an event in the half-open range from old to now', () => {
  expect(vringNeedEvent(5, 6, 5)).toBe(true);
  expect(vringNeedEvent(6, 6, 5)).toBe(false);
  expect(vringNeedEvent(4, 6, 5)).toBe(false);
  expect(vringNeedEvent(0xffff, 2, 0xfffe)).toBe(true);
});
