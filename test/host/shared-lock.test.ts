import { expect, test } from 'vitest';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { SharedLock } from '../../src/host/shared-lock.ts';
import { ended, startWorker } from '../support/typescript-worker.ts';

test('is taken once, and free again after release', () => {
  using memory = NativeMemory.allocate(64);
  const lock = new SharedLock(memory, 8);
  const seenElsewhere = new SharedLock(NativeMemory.at(memory.address, memory.size), 8);
  lock.acquire();
  expect(seenElsewhere.tryAcquire()).toBe(false);
  lock.release();
  expect(seenElsewhere.tryAcquire()).toBe(true);
  expect(memory.u32[2]).toBe(1);
});

test.each([-4, 2, 4096])('no lock lies at byte %d of a page', (offset) => {
  using memory = NativeMemory.allocate(4096);
  expect(() => new SharedLock(memory, offset)).toThrow(RangeError);
});

test('threads that count under it lose no count', async () => {
  const ROUNDS = 50_000;
  const THREADS = 2;
  using memory = NativeMemory.allocate(4096);
  const setup = { address: memory.address, rounds: ROUNDS, threads: THREADS };
  const counter = new URL('./lock-counter.ts', import.meta.url);
  await Promise.all(Array.from({ length: THREADS }, () => ended(startWorker(counter, setup))));
  expect(memory.u32[4]).toBe(THREADS * ROUNDS);
  expect(memory.u32[0]).toBe(0);
});
