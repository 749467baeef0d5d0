import { expect, test } from 'vitest';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { GiB } from '../../src/units.ts';
import { wordsOf } from '../support/views.ts';

test('words on both sides of a window end are those of the memory there', () => {
  using memory = new GuestMemory({ maxSlots: 1 });
  const described = { guestPhysAddr: 0n, memorySize: BigInt(10 * GiB), userspaceAddr: 0n, mmapOffset: 0n };
  memory.addRegion(described, new OwnedFd(createMemfd('words', 10 * GiB)));
  for (const gpa of [0, 4 * GiB - 4, 4 * GiB, 8 * GiB + 4096, 10 * GiB - 4]) {
    memory.translate(gpa, 4);
    const address = memory.lastAddress;
    wordsOf(memory.ringView(address, 4))[0] = 0xabc0_0000 + gpa / GiB;
    const words = memory.wordsAround(address);
    expect(words[(address - memory.lastWordsAddress) / 4]).toBe(Math.floor(0xabc0_0000 + gpa / GiB));
  }
  memory.translate(0, 4);
  const first = memory.lastAddress;
  expect(memory.wordsAround(first)).toBe(memory.wordsAround(first + 4096));
  expect(() => memory.wordsAround(4096)).toThrow(RangeError);
});

test('a ring makes no buffer of its own, unless it lies across the end of a window', () => {
  using memory = new GuestMemory({ maxSlots: 1 });
  const described = { guestPhysAddr: 0n, memorySize: BigInt(5 * GiB), userspaceAddr: 0n, mmapOffset: 0n };
  memory.addRegion(described, new OwnedFd(createMemfd('rings', 5 * GiB)));
  memory.translate(0, 4);
  const start = memory.lastAddress;
  const [first, second] = [memory.ringView(start, 16), memory.ringView(start + 4096, 16)];
  expect(first.buffer).toBe(second.buffer);
  memory.wordsAround(start);
  const across = 4 * GiB - 8 - (start - memory.lastWordsAddress);
  memory.ringView(start + across, 16).setUint32(8, 0xabcd, true);
  expect(wordsOf(memory.ringView(start + across + 8, 4))[0]).toBe(0xabcd);
});
