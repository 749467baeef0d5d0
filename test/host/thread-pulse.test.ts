import { expect, test } from 'vitest';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { ThreadPulse } from '../../src/host/thread-pulse.ts';

const THREADS = 2;

test('a thread is seen to work, on what, and to rest; the others are not disturbed', () => {
  using memory = NativeMemory.allocate(ThreadPulse.bytesFor(THREADS));
  const own = new ThreadPulse(memory, 1);
  const [other, seen] = [new ThreadPulse(memory, 0), new ThreadPulse(memory, 1)];
  expect([seen.isWorking, seen.turns]).toEqual([false, 0]);
  own.work();
  own.task = 14;
  expect([seen.isWorking, seen.turns, seen.task]).toEqual([true, 1, 14]);
  own.rest();
  own.work();
  expect([seen.isWorking, seen.turns, seen.task]).toEqual([true, 3, 0]);
  expect([other.isWorking, other.turns, other.task]).toEqual([false, 0, 0]);
});

test('saying it twice changes nothing', () => {
  using memory = NativeMemory.allocate(ThreadPulse.bytesFor(1));
  const pulse = new ThreadPulse(memory, 0);
  pulse.rest();
  expect(pulse.turns).toBe(0);
  pulse.work();
  pulse.task = 14;
  pulse.work();
  expect([pulse.turns, pulse.task]).toEqual([1, 14]);
});
