import fc from 'fast-check';
import { expect, test } from 'vitest';
import { mapFixedAnonymous, mapShared, PAGE_SIZE, reserve, unmap, viewOf } from '../../src/host/mapping.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { copyMemory, NativeMemory, setU64 } from '../../src/host/native-memory.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';

test('is zeroed, page-aligned, whole pages, one memory at every width', () => {
  using memory = NativeMemory.allocate(5000);
  expect(memory.size).toBe(2 * PAGE_SIZE);
  expect(memory.address % PAGE_SIZE).toBe(0);
  expect(memory.u8.every((octet) => octet === 0)).toBe(true);
  memory.u32[1] = 0x8765_4321;
  expect([memory.u8[4], memory.u16[3], memory.i32[1], memory.view.getUint8(7)]).toEqual([
    0x21,
    0x8765,
    0x8765_4321 - 2 ** 32,
    0x87,
  ]);
});

test('tables of gigabytes cost what is touched of them, and others may look at them', () => {
  using table = NativeMemory.reserve(4 * 2 ** 30);
  const before = process.memoryUsage.rss();
  table.u32[2 ** 30 - 1] = 7;
  const tail = NativeMemory.at(table.address + table.size - PAGE_SIZE, PAGE_SIZE);
  expect(tail.u32[PAGE_SIZE / 4 - 1]).toBe(7);
  tail.unmap(); // not its own
  expect(table.u32[2 ** 30 - 1]).toBe(7);
  expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 2 ** 20);
});

test('copies between addresses', () => {
  using memory = NativeMemory.allocate(PAGE_SIZE);
  memory.u8.set([1, 2, 3, 4], 10);
  copyMemory(memory.address + 100, memory.address + 11, 2);
  expect([...memory.u8.subarray(99, 103)]).toEqual([0, 2, 3, 0]);
});

test('any safe integer is stored as a 64-bit value', () => {
  using memory = NativeMemory.allocate(PAGE_SIZE);
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat({ max: 100 }), (value, index) => {
      setU64(memory.u32, index, value);
      expect(memory.view.getBigUint64(index * 4, true)).toBe(BigInt(value));
    }),
  );
});

test('a file mapped beyond 4 GiB is the file there', () => {
  using fd = new OwnedFd(createMemfd('far', 6 * 2 ** 30));
  const whole = mapShared(fd.fd, 0, 6 * 2 ** 30);
  const far = mapShared(fd.fd, 5 * 2 ** 30, PAGE_SIZE);
  using value = NativeMemory.allocate(4);
  value.u32[0] = 0xcafe_f00d;
  copyMemory(whole + 5 * 2 ** 30 + 16, value.address, 4);
  expect(new Uint32Array(viewOf(far, PAGE_SIZE))[4]).toBe(0xcafe_f00d);
  unmap(whole, 6 * 2 ** 30);
  unmap(far, PAGE_SIZE);
});

test('what the kernel refuses is −errno', () => {
  expect(mapShared(-1, 0, PAGE_SIZE)).toBe(-9); // EBADF
  expect(reserve(2 ** 60)).toBe(-12); // ENOMEM
  expect(unmap(PAGE_SIZE + 1, PAGE_SIZE)).toBe(-22); // EINVAL
  expect(createMemfd('name', 0, 0x4000_0000)).toBe(-22);
});

test('16 TiB of address space can be reserved, read as zeros, and covered again', () => {
  const size = 16 * 2 ** 40;
  const address = reserve(size);
  const far = new Uint32Array(viewOf(address + size - PAGE_SIZE, PAGE_SIZE));
  far[0] = 7;
  expect(mapFixedAnonymous(address + size - PAGE_SIZE, PAGE_SIZE)).toBe(address + size - PAGE_SIZE);
  expect(far[0]).toBe(0);
  unmap(address, size);
});

test.each([
  [0, 4096],
  [-4096, 4096],
  [2 ** 53, 4096],
  [4096, 0],
  [4096, 4 * 2 ** 30 + 1],
  [4096, 1.5],
])('no view is made of %d+%d', (address, size) => {
  expect(() => viewOf(address, size)).toThrow(RangeError);
});
