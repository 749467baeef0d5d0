import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { mapShared, viewOf } from '../../src/host/mapping.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';

const PAGE = 4096;

/** The front-end's half: takes bits until told to stop, then reports how many there were. */
const COLLECT_BITS = `
  const { workerData, parentPort } = require('node:worker_threads');
  const { address, size, control } = workerData;
  const log = new Uint8Array(require(workerData.koffi).view(address, size));
  const ones = (octet) => octet.toString(2).replaceAll('0', '').length;
  let count = 0;
  Atomics.store(control, 0, 1);
  for (let isLast = false; !isLast; ) {
    isLast = Atomics.load(control, 1) === 1;
    for (let i = 0; i < size; i++) count += ones(Atomics.exchange(log, i, 0));
  }
  parentPort.postMessage(count);
`;

/** A memory that logs into a file, and what the file holds. */
function logging(bytes: number, offset = 0): { memory: GuestMemory; read: () => number[] } {
  const fd = createMemfd('log', offset + bytes);
  const mapped = mapShared(fd, 0, offset + bytes);
  const log = new Uint8Array(viewOf(mapped, offset + bytes));
  const memory = new GuestMemory({ maxSlots: 1 });
  memory.setLog(new OwnedFd(fd), BigInt(offset), BigInt(bytes));
  return { memory, read: () => [...log.subarray(offset)] };
}

test('a byte marks its page: page 9 is bit 1 of byte 1', () => {
  const { memory, read } = logging(4);
  memory.markDirty(9 * PAGE + 17, 1);
  expect(read()).toEqual([0, 2, 0, 0]);
});

test('a range marks every page it touches, and no other', () => {
  const { memory, read } = logging(4);
  memory.markDirty(7 * PAGE - 1, 9 * PAGE + 2); // last byte of page 6 to first of page 16
  expect(read()).toEqual([0xc0, 0xff, 0x01, 0]);
});

test('pages beyond the log and empty ranges are left out', () => {
  const { memory, read } = logging(2);
  memory.markDirty(14 * PAGE, 1000 * PAGE);
  memory.markDirty(2 ** 52, PAGE);
  memory.markDirty(0, 0);
  expect(read()).toEqual([0, 0xc0]);
});

test('the log may start in the middle of a page of its file', () => {
  const { memory, read } = logging(4, 5000);
  memory.markDirty(0, PAGE);
  expect(read()).toEqual([1, 0, 0, 0]);
});

test('marking without a log does nothing; a cleared log is left alone', () => {
  const { memory, read } = logging(1);
  memory.clearLog();
  expect(memory.isLogging).toBe(false);
  memory.markDirty(0, PAGE);
  expect(read()).toEqual([0]);
});

test('any ranges mark what a list of pages would', () => {
  const range = fc.record({ gpa: fc.nat({ max: 70 * PAGE }), size: fc.nat({ max: 20 * PAGE }) });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 5 }), (ranges) => {
      const { memory, read } = logging(8);
      const expected = Array.from({ length: 8 }, () => 0);
      for (const { gpa, size } of ranges) {
        memory.markDirty(gpa, size);
        for (let page = 0; page < 64; page++) {
          const isTouched = size > 0 && page * PAGE < gpa + size && (page + 1) * PAGE > gpa;
          if (isTouched) expected[page >> 3]! |= 1 << (page & 7);
        }
      }
      expect(read()).toEqual(expected);
    }),
    { numRuns: 50 },
  );
});

test.each([
  ['size 0', 0n, 0n, 'BAD_VALUE'],
  ['above 4 GiB', 0n, 2n ** 32n + 1n, 'BAD_VALUE'],
  ['beyond its file', 1n, 4096n, 'BAD_VALUE'],
  ['offset near 2^64', 2n ** 64n - 1n, 1n, 'BAD_VALUE'],
])('a log with %s is refused, its descriptor closed, the old log in use', (_name, offset, size, code) => {
  const { memory, read } = logging(1);
  const fd = new OwnedFd(createMemfd('log', PAGE));
  expect(() => memory.setLog(fd, offset, size)).toThrow(expect.objectContaining({ code }));
  expect(fd.isClosed).toBe(true);
  memory.markDirty(0, 1);
  expect(read()).toEqual([1]);
});

test('a log that is no file is refused by the kernel', () => {
  const memory = new GuestMemory({ maxSlots: 1 });
  const fd = new OwnedFd(createEventfd());
  expect(() => memory.setLog(fd, 0n, 4096n)).toThrow(expect.objectContaining({ code: 'SYSTEM' }));
});

test('a front-end that clears bits while they are set misses none and sees none twice', async () => {
  // Few bytes, many rounds: with a plain |= a byte read before the clear brings its old bits back.
  const BYTES = 16;
  const ROUNDS = 20_000;
  const fd = createMemfd('log', BYTES);
  const address = mapShared(fd, 0, BYTES);
  const control = new Int32Array(new SharedArrayBuffer(8));
  const frontend = new Worker(COLLECT_BITS, {
    eval: true,
    workerData: { koffi: createRequire(import.meta.url).resolve('koffi'), address, size: BYTES, control },
  });
  const collected = new Promise<number>((resolve, reject) => {
    frontend.once('message', resolve);
    frontend.once('error', reject);
  });
  await new Promise((resolve) => frontend.once('online', resolve));
  const memory = new GuestMemory({ maxSlots: 1 });
  memory.setLog(new OwnedFd(fd), 0n, BigInt(BYTES));
  while (Atomics.load(control, 0) === 0); // the collector runs
  let marked = 0;
  const log = new Uint8Array(viewOf(address, BYTES));
  for (let round = 0; round < ROUNDS; round++) {
    for (let page = 0; page < BYTES * 8; page += 3) {
      if ((Atomics.load(log, page >> 3) & (1 << (page & 7))) !== 0) continue; // not collected yet: nothing to count
      memory.markDirty(page * PAGE, 1);
      marked++;
    }
  }
  Atomics.store(control, 1, 1);
  expect(await collected).toBe(marked);
});
