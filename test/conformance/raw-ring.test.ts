/** What cases about rings are made of: descriptors as told, shapes, guards, a thread that writes meanwhile. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VRING_DESC_F_NEXT, VringDesc } from '../../protocol/virtio-ring.ts';
import { GuardedMemory } from '../../src/conformance/guarded-memory.ts';
import { RacingWriter } from '../../src/conformance/racing-writer.ts';
import { RawRing, rawRingBytes, writeTable } from '../../src/conformance/raw-ring.ts';
import { chained, pieces } from '../../src/conformance/shape.ts';
import { GuestRam } from '../../src/machine/guest-ram.ts';

const memory = (size: number, gpa = 0x1_0000) => ({ gpa, bytes: new Uint8Array(size) });

describe('a ring', () => {
  test('has its areas where the specification wants them', () => {
    const ring = new RawRing(2, memory(rawRingBytes(2)));
    expect([ring.descGpa % 16, ring.availGpa % 2, ring.usedGpa % 4]).toEqual([0, 0, 0]);
    expect(() => new RawRing(2, memory(rawRingBytes(2) - 1))).toThrow(RangeError);
  });

  test('shows heads only when they are published, and any index that is asked for', () => {
    const { bytes, gpa } = memory(rawRingBytes(4));
    const ring = new RawRing(4, { bytes, gpa });
    const avail = new Uint16Array(bytes.buffer, ring.availGpa - gpa);
    ring.reset(65_535);
    ring.offer(3);
    ring.offer(1);
    expect(avail[1]).toBe(65_535);
    ring.publish();
    expect(Array.from(avail.subarray(0, 6))).toEqual([0, 1, 1, 0, 0, 3]);
    ring.publish(0x1_0007);
    expect(avail[1]).toBe(7);
  });

  test('writes 64 bits of an address', () => {
    const bytes = new Uint8Array(VringDesc.size + 3);
    writeTable(bytes.subarray(3), [{ gpa: 2n ** 64n - 2n, length: 0xffff_ffff, flags: 0xffff, next: 7 }]);
    expect(VringDesc.decode(bytes, 3)).toEqual({
      addr: 2n ** 64n - 2n,
      len: 0xffff_ffff,
      flags: 0xffff,
      next: 7,
    });
  });
});

describe('shapes', () => {
  test('pieces are all of it, in the sizes told as far as they go', () => {
    expect(pieces(10, [3, 4])).toEqual([3, 4, 3]);
    expect(pieces(5, [3, 4])).toEqual([3, 2]);
    expect(pieces(0, [3])).toEqual([]);
  });

  test('whatever the order, the links visit every descriptor as it was listed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.boolean(), fc.nat(9), (count, isForwards, from) => {
        const list = Array.from({ length: count }, (_, i) => ({ gpa: i, length: 1, flags: 0 }));
        const entries = chained(list, isForwards ? 'forwards' : 'backwards', from);
        const visited: (number | bigint)[] = [];
        for (let index = from; ; index = entries[index - from]!.next) {
          const { gpa, flags } = entries[index - from]!;
          visited.push(gpa);
          if ((flags & VRING_DESC_F_NEXT) === 0) break;
        }
        expect(visited).toEqual(list.map(({ gpa }) => gpa));
      }),
    );
  });
});

test('guards tell when something beside a buffer was written', () => {
  const whole = memory(256);
  const guarded = new GuardedMemory(whole);
  const buffer = guarded.take(10);
  buffer.bytes.fill(1);
  expect(guarded.isIntactAround(buffer)).toBe(true);
  whole.bytes[buffer.gpa - whole.gpa + 10] = 1;
  expect(guarded.isIntactAround(buffer)).toBe(false);
  expect(() => guarded.take(250)).toThrow(RangeError);
});

test('a racing writer writes each of its states, and nothing once it has stopped', () => {
  using ram = new GuestRam({ baseSize: 4096, slotSize: 4096, slots: 0 });
  const { bytes } = ram.allocate(4096);
  using writer = new RacingWriter({ fd: ram.fd, offset: 8, states: [Uint8Array.of(1), Uint8Array.of(2)] });
  const seen = new Set<number>();
  while (seen.size < 2) if (bytes[8] !== 0) seen.add(bytes[8]!);
  writer.stop();
  bytes[8] = 9;
  expect(bytes[8]).toBe(9);
  expect(seen).toEqual(new Set([1, 2]));
});
