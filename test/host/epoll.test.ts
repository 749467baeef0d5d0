import { openSync, closeSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EventLoop } from '../../src/host/epoll.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/host/eventfd.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { ThreadPulse } from '../../src/host/thread-pulse.ts';
import { socketPair } from '../../src/host/unix-socket.ts';

let loop: EventLoop;
let events: OwnedFd[];
const event = (): number => {
  const fd = new OwnedFd(createEventfd());
  events.push(fd);
  return fd.fd;
};
const nothing = (): void => {};
beforeEach(() => {
  loop = new EventLoop();
  events = [];
});
afterEach(() => {
  loop.close();
  for (const fd of events) fd.close();
});

test('a ready descriptor calls back, again and again until it is drained', () => {
  const fd = event();
  const seen: number[] = [];
  loop.add(fd, EPOLLIN, (ready) => seen.push(ready));
  expect(loop.runOnce(0)).toBe(0);
  signalEventfd(fd);
  expect([loop.runOnce(-1), loop.runOnce(0)]).toEqual([1, 1]);
  drainEventfd(fd);
  expect(loop.runOnce(0)).toBe(0);
  expect(seen).toEqual([EPOLLIN, EPOLLIN]);
});

test('the pulse of the thread rests while it waits, and only then', () => {
  using memory = NativeMemory.allocate(ThreadPulse.bytesFor(1));
  const pulse = new ThreadPulse(memory, 0);
  using own = new EventLoop(pulse);
  const fd = event();
  const seen: boolean[] = [];
  own.add(fd, EPOLLIN, () => seen.push(pulse.isWorking));
  signalEventfd(fd);
  own.runOnce(0);
  own.runOnce(0);
  expect(seen).toEqual([true, true]);
  expect([pulse.isWorking, pulse.turns]).toEqual([true, 3]);
});

test('an edge calls back once per signal, drained or not', () => {
  const fd = event();
  loop.add(fd, EPOLLIN | EPOLLET, nothing);
  signalEventfd(fd);
  expect([loop.runOnce(0), loop.runOnce(0)]).toEqual([1, 0]);
  signalEventfd(fd);
  expect([loop.runOnce(0), loop.runOnce(0)]).toEqual([1, 0]);
});

test('a descriptor removed by a callback of the same batch is not called, even if its number is watched anew', () => {
  const [first, second] = [event(), event()];
  const called: string[] = [];
  const replaceOther = (other: number) => (): void => {
    called.push('old');
    loop.remove(other);
    drainEventfd(other);
    loop.add(other, EPOLLIN, () => called.push('new'));
  };
  loop.add(first, EPOLLIN, replaceOther(second));
  loop.add(second, EPOLLIN, replaceOther(first));
  signalEventfd(first);
  signalEventfd(second);
  expect(loop.runOnce(0)).toBe(1);
  expect(called).toEqual(['old']);
});

test('more ready descriptors than one batch holds are all called in the end', () => {
  const called = new Set<number>();
  for (let i = 0; i < 150; i++) {
    const fd = event();
    loop.add(fd, EPOLLIN, () => {
      called.add(fd);
      drainEventfd(fd);
    });
    signalEventfd(fd);
  }
  while (loop.runOnce(0) > 0);
  expect(called.size).toBe(150);
  expect(loop.addCount).toBe(150);
});

test('modify changes what is waited for', () => {
  const fd = event();
  const seen: number[] = [];
  loop.add(fd, EPOLLIN, (ready) => seen.push(ready));
  expect(loop.modify(fd, EPOLLOUT)).toBe(0);
  loop.runOnce(0);
  expect(seen).toEqual([EPOLLOUT]);
});

test('a hang-up is reported unasked', () => {
  const [ours, theirs] = socketPair();
  const seen: number[] = [];
  loop.add(ours.fd, 0, (ready) => seen.push(ready));
  theirs.close();
  loop.runOnce(0);
  expect(seen).toEqual([EPOLLHUP]);
  loop.remove(ours.fd);
  ours.close();
});

test('what cannot be watched is refused: a regular file, one watched already, a closed one', () => {
  const file = openSync(import.meta.filename, 'r');
  const fd = event();
  expect(loop.add(fd, EPOLLIN, nothing)).toBe(0);
  expect([
    loop.add(file, EPOLLIN, nothing),
    loop.add(fd, EPOLLIN, nothing),
    loop.add(-1, EPOLLIN, nothing),
  ]).toEqual(
    [-1, -17, -9], // EPERM, EEXIST, EBADF
  );
  expect([loop.modify(file, EPOLLIN), loop.remove(file)]).toEqual([-2, -2]); // ENOENT
  expect(loop.addCount).toBe(1);
  closeSync(file);
});

test('waiting ends with the timeout', () => {
  const before = performance.now();
  expect(loop.runOnce(20)).toBe(0);
  expect(performance.now() - before).toBeGreaterThanOrEqual(19);
});
