import { describe, expect, test } from 'vitest';
import { bitsOf, hasBit, maskOf } from '../../protocol/bits.ts';
import { BackendRequest, FrontendRequest, ProtocolFeature } from '../../protocol/vhost-user.ts';
import { U64, VringState } from '../../protocol/vhost-user-payloads.ts';
import { backendRow, frontendRow } from '../../protocol/vhost-user-requests.ts';

const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);

describe('the tables of requests', () => {
  test('front-end messages are 1 to 44 without a gap, each with a row of its name', () => {
    expect(Object.values(FrontendRequest)).toEqual(range(1, 44));
    expect(range(1, 44).map((id) => frontendRow(id)?.name)).toEqual(Object.keys(FrontendRequest));
    expect([0, 45, 99, 0xffff_ffff].map(frontendRow)).toEqual([undefined, undefined, undefined, undefined]);
  });

  test('back-end messages are 1 to 10 without a gap, each with a row of its name', () => {
    expect(Object.values(BackendRequest)).toEqual(range(1, 10));
    expect(range(1, 10).map((id) => backendRow(id)?.name)).toEqual(Object.keys(BackendRequest));
    expect([0, 11].map(backendRow)).toEqual([undefined, undefined]);
  });

  test('protocol features are bits 0 to 22 without a gap', () => {
    expect(Object.values(ProtocolFeature)).toEqual(range(0, 22));
  });

  test('what QEMU sends when it asks: GET_VRING_BASE is answered by a state, a memory slot only if asked', () => {
    expect(frontendRow(FrontendRequest.GET_VRING_BASE)!.reply).toBe(VringState);
    expect(frontendRow(FrontendRequest.GET_MAX_MEM_SLOTS)!.reply).toBe(U64);
    expect(frontendRow(FrontendRequest.ADD_MEM_REG)!.reply).toBe('ack');
  });
});

test('a mask is the bits it was made of', () => {
  expect(maskOf(32, 0)).toBe(0x1_0000_0001n);
  expect(bitsOf(0x8000_0000_0000_0005n)).toEqual([0, 2, 63]);
  expect([0, 1, 63].map((bit) => hasBit(maskOf(0, 63), bit))).toEqual([true, false, true]);
});
