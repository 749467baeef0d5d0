import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { BlockedThreads } from '../../src/daemon/blocked-threads.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { ThreadPulse } from '../../src/host/thread-pulse.ts';
import { SILENT_LOG } from '../../src/log.ts';

const LOOK_MS = 5000;

let told: object[];
let pulses: ThreadPulse[];
let blocked: BlockedThreads;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  told = [];
  const memory = NativeMemory.allocate(ThreadPulse.bytesFor(2));
  pulses = [0, 1].map((thread) => new ThreadPulse(memory, thread));
  const tell = (fields: object, event: string): void => void told.push({ ...fields, event });
  blocked = new BlockedThreads(pulses, { ...SILENT_LOG, warn: tell, info: tell }, LOOK_MS);
});
afterEach(() => {
  blocked[Symbol.dispose]();
  vi.useRealTimers();
});

const look = (times: number): unknown => vi.advanceTimersByTime(times * LOOK_MS);

test('a thread that is in the same request at two looks is told once, and that it goes on', () => {
  pulses[1]!.work();
  pulses[1]!.task = FuseOpcode.OPEN;
  look(1);
  expect(told).toEqual([]);
  look(3);
  const blockedFor5 = { event: 'thread_blocked', thread: 'queue-thread 1', request: 'OPEN', seconds: 5 };
  expect(told).toEqual([blockedFor5]);
  pulses[1]!.rest();
  look(2);
  expect(told).toEqual([blockedFor5, { event: 'thread_goes_on', thread: 'queue-thread 1', seconds: 20 }]);
});

test('the device thread outside a request is told without one', () => {
  pulses[0]!.work();
  look(2);
  expect(told).toEqual([{ event: 'thread_blocked', thread: 'device-thread', seconds: 5 }]);
});

test('threads that rest, or work anew at each look, are not told', () => {
  for (let i = 0; i < 4; i += 1) {
    pulses[1]!.rest();
    pulses[1]!.work();
    look(1);
  }
  expect(told).toEqual([]);
});
