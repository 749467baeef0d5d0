import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CodecError } from '../../protocol/struct.ts';
import {
  ConfigAccess,
  DeviceState,
  Inflight,
  Iotlb,
  Log,
  MemoryTable,
  Mmap,
  NoPayload,
  Opaque,
  Shared,
  ShmemConfig,
  SingleRegion,
  U64,
  VringAddr,
  VringArea,
  VringState,
  type Payload,
} from '../../protocol/vhost-user-payloads.ts';

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const u32 = fc.nat({ max: 0xffff_ffff });
const u16 = fc.nat({ max: 0xffff });
const u8 = fc.nat({ max: 0xff });
const region = fc.record({ guestPhysAddr: u64, memorySize: u64, userspaceAddr: u64, mmapOffset: u64 });
const octets = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

/** Every payload with the values it can carry. */
const PAYLOADS: readonly (readonly [string, Payload<unknown>, fc.Arbitrary<unknown>])[] = (
  [
    [NoPayload, fc.constant(undefined)],
    [U64, u64],
    [VringState, fc.record({ index: u32, num: u32 })],
    [
      VringAddr,
      fc.record({
        index: u32,
        flags: u32,
        descUserAddr: u64,
        usedUserAddr: u64,
        availUserAddr: u64,
        logGuestAddr: u64,
      }),
    ],
    [MemoryTable, fc.record({ padding: u32, regions: fc.array(region, { maxLength: 9 }) })],
    [SingleRegion, fc.record({ padding: u64, region })],
    [Log, fc.record({ mmapSize: u64, mmapOffset: u64 })],
    [Iotlb, fc.record({ iova: u64, size: u64, uaddr: u64, perm: u8, type: u8 })],
    [ConfigAccess, fc.record({ offset: u32, flags: u32, contents: fc.uint8Array({ maxLength: 256 }) })],
    [VringArea, fc.record({ value: u64, size: u64, offset: u64 })],
    [Inflight, fc.record({ mmapSize: u64, mmapOffset: u64, numQueues: u16, queueSize: u16 })],
    [Shared, fc.record({ uuid: octets(16) })],
    [DeviceState, fc.record({ direction: u32, phase: u32 })],
    [Mmap, fc.record({ shmid: u8, fdOffset: u64, shmOffset: u64, len: u64, flags: u64 })],
    [
      ShmemConfig,
      fc.record({ nregions: u32, memorySizes: fc.array(u64, { minLength: 256, maxLength: 256 }) }),
    ],
    [Opaque, fc.uint8Array({ maxLength: 300 })],
  ] as const
).map(([payload, value]) => [payload.name, payload as Payload<unknown>, value]);

describe.each(PAYLOADS)('%s', (_, payload, value) => {
  test('what was encoded decodes to itself, and its size is within the limits', () => {
    fc.assert(
      fc.property(value, (v) => {
        const encoded = payload.encode(v);
        expect(encoded.length).toBeGreaterThanOrEqual(payload.minSize);
        expect(encoded.length).toBeLessThanOrEqual(payload.maxSize);
        expect(payload.decode(encoded)).toEqual(v);
      }),
      { numRuns: 50 },
    );
  });

  test('any bytes decode or are a CodecError', () => {
    const nearSize = fc
      .integer({ min: Math.max(0, payload.minSize - 1), max: payload.minSize + 33 })
      .chain(octets);
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), nearSize), (bytes) => {
        try {
          payload.decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
      { numRuns: 50 },
    );
  });

  test('one octet too many is refused, unless it is part of a list', () => {
    const encoded = payload.encode(fc.sample(value, { numRuns: 1, seed: 1 })[0]);
    const longer = Buffer.concat([encoded, Buffer.alloc(1)]);
    if (payload === (Opaque as Payload<unknown>))
      expect(payload.decode(longer)).toEqual(Uint8Array.from(longer));
    else expect(() => payload.decode(longer)).toThrow(CodecError);
  });
});

test('a memory table that claims 2^32 − 1 regions is refused without allocating them', () => {
  expect(() => MemoryTable.decode(Buffer.from('ffffffff00000000', 'hex'))).toThrow(CodecError);
});

test('configuration space of more than 256 bytes is refused', () => {
  const header = Buffer.from('000000000101000000000000', 'hex'); // size 257
  expect(() => ConfigAccess.decode(Buffer.concat([header, Buffer.alloc(257)]))).toThrow(CodecError);
});
