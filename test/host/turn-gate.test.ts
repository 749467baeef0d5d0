import { expect, test } from 'vitest';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { TurnGate } from '../../src/host/turn-gate.ts';
import { ended, startWorker } from '../support/typescript-worker.ts';
import { GateWord, type GateTest } from './gate-words.ts';

function gates(threads: number): TurnGate[] {
  const memory = NativeMemory.allocate(TurnGate.bytesFor(threads));
  return Array.from({ length: threads }, (_, thread) => new TurnGate(memory, threads, thread));
}

test('nobody is waited for who is outside', () => {
  const [first, second] = gates(2) as [TurnGate, TurnGate];
  first.waitForOthers();
  second.enter();
  second.leave();
  first.enter(); // oneself is not waited for
  first.waitForOthers();
  expect(second.isWanted).toBe(false);
});

test('one thread at a time has the gate for itself', () => {
  const [first, second] = gates(2) as [TurnGate, TurnGate];
  const order: string[] = [];
  const isDone = first.exclusively(() => {
    order.push('first');
    order.push(`second: ${second.exclusively(() => order.push('never'))}`);
  });
  expect([isDone, ...order]).toEqual([true, 'first', 'second: false']);
  expect(second.exclusively(() => undefined)).toBe(true);
});

test('a thread is wanted as long as somebody says so', () => {
  const [first, second] = gates(2) as [TurnGate, TurnGate];
  first.want(1);
  expect([first.isWanted, second.isWanted]).toEqual([false, true]);
  first.unwant(1);
  expect(second.isWanted).toBe(false);
});

test('what a thread notes is seen by the others', () => {
  const [first, second] = gates(2) as [TurnGate, TurnGate];
  second.isBusy = true;
  expect([first.isBusyThread(1), first.isBusyThread(0)]).toEqual([true, false]);
});

test('a thread that has died inside is not waited for, nor what it had for itself', () => {
  const [first, second, third] = gates(3) as [TurnGate, TurnGate, TurnGate];
  second.enter();
  expect(() =>
    second.exclusively(() => {
      first.bury(1);
      throw new Error('the thread ends');
    }),
  ).toThrow();
  expect([first.isDeadThread(1), first.isDeadThread(2)]).toEqual([true, false]);
  first.waitForOthers();
  expect(third.exclusively(() => undefined)).toBe(true);
});

test('a gate wants room for its threads', () => {
  using memory = NativeMemory.allocate(4096);
  expect(() => new TurnGate(memory, 1000, 0)).toThrow(RangeError);
  expect(() => new TurnGate(memory, 2, 2)).toThrow(RangeError);
});

test('what was withdrawn before waiting is seen by nobody after it, and who is alone is alone', async () => {
  const ROUNDS = 3000;
  const PAGES = 64;
  const THREADS = 3;
  using gateMemory = NativeMemory.allocate(TurnGate.bytesFor(THREADS));
  using shared = NativeMemory.allocate(4096);
  const words = shared.i32;
  words[GateWord.PAGES] = 1;
  const readers = [1, 2].map((thread) =>
    startWorker(new URL('./gate-reader.ts', import.meta.url), {
      gateAddress: gateMemory.address,
      sharedAddress: shared.address,
      threads: THREADS,
      thread,
    } satisfies GateTest),
  );
  const allEnded = Promise.all(readers.map((reader) => ended(reader)));
  while (Atomics.load(words, GateWord.RUNNING) < readers.length) await new Promise(setImmediate);
  const gate = new TurnGate(gateMemory, THREADS, 0);
  for (let round = 0; round < ROUNDS; round += 1) {
    const old = round % PAGES;
    const next = (round + 1) % PAGES;
    Atomics.store(words, GateWord.PAGES + next, 1);
    Atomics.store(words, GateWord.CURRENT, next);
    gate.waitForOthers();
    Atomics.store(words, GateWord.PAGES + old, 0);
  }
  Atomics.store(words, GateWord.STOP, 1);
  await allEnded;
  expect([words[GateWord.STALE], words[GateWord.INTRUDED]]).toEqual([0, 0]);
  expect(words[GateWord.ALONE]).toBeGreaterThan(0);
});
