/** What becomes of the process when a thread fails. The threads are stand-ins: real ones do not fail on demand. */
import { expect, test } from 'vitest';
import { ThreadGroup } from '../../src/daemon/thread-group.ts';
import type { DeviceThreadSetup } from '../../src/daemon/device-thread.ts';
import { createEventfd, drainEventfd } from '../../src/host/eventfd.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { TurnGate } from '../../src/host/turn-gate.ts';
import { type Log, SILENT_LOG } from '../../src/log.ts';

const THREADS = 2;
const QUEUE_THREAD = 1;

interface Stage {
  readonly isFailing: boolean;
  readonly isStuck?: boolean;
  /** Of the queue thread's setup. */
  readonly more?: object;
}

function stage({ isFailing, isStuck = false, more = {} }: Stage) {
  const stop = new OwnedFd(createEventfd());
  const answer = new OwnedFd(createEventfd());
  const gateMemory = NativeMemory.allocate(TurnGate.bytesFor(THREADS));
  const fatal: object[] = [];
  const log: Log = { ...SILENT_LOG, fatal: (fields) => void fatal.push(fields) };
  const queueThread = {
    isFailing,
    thread: QUEUE_THREAD,
    threads: THREADS,
    gateAddress: gateMemory.address,
    answerFd: answer.fd,
    ...more,
  };
  const setup = { stopFd: stop.fd, isStuck, queueThread } as unknown as DeviceThreadSetup;
  const gates = [0, QUEUE_THREAD].map((thread) => new TurnGate(gateMemory, THREADS, thread));
  return { stop, answer, fatal, log, setup, gates };
}

const directory = new URL('./failing-threads/', import.meta.url);
const never = (): void => {
  throw new Error('nobody is stuck');
};

test('a queue thread that fails stops the others, wakes who waits for it, and is named once', async () => {
  const { stop, answer, fatal, log, setup, gates } = stage({ isFailing: true });
  gates[1]!.enter(); // it failed in the middle of a turn
  const threads = new ThreadGroup({ log, stopFd: stop.fd, onStuck: never, directory });
  expect(await threads.run(setup)).toBe(1);
  expect(fatal).toEqual([{ thread: 'queue-thread', err: expect.objectContaining({ name: 'TypeError' }) }]);
  expect(drainEventfd(answer.fd)).toBe(0);
  expect(gates[0]!.isDeadThread(QUEUE_THREAD)).toBe(true);
  gates[0]!.waitForOthers();
});

test.each([
  ['fails before its first line of code, which is status 0', { failsWith0: true }],
  ['cannot be started, as for want of threads', { port: 'no port' }],
])('a queue thread that %s is a failure, too', async (_, more) => {
  const { answer, stop, fatal, log, setup, gates } = stage({ isFailing: true, more });
  const threads = new ThreadGroup({ log, stopFd: stop.fd, onStuck: never, directory });
  expect(await threads.run(setup)).toBe(1);
  expect(fatal).toEqual([expect.objectContaining({ thread: 'queue-thread' })]);
  expect(drainEventfd(answer.fd)).toBe(0);
  expect(gates[0]!.isDeadThread(QUEUE_THREAD)).toBe(true);
});

test('a device thread that cannot be started is status 1', async () => {
  const { stop, fatal, log, setup } = stage({ isFailing: false });
  const nowhere = new URL('http://localhost/');
  const threads = new ThreadGroup({ log, stopFd: stop.fd, onStuck: never, directory: nowhere });
  expect(await threads.run(setup)).toBe(1);
  expect(fatal).toEqual([expect.objectContaining({ thread: 'device-thread' })]);
});

test('when the others do not stop then, the process is ended', async () => {
  const { stop, log, setup } = stage({ isFailing: true, isStuck: true });
  await new Promise<void>((onStuck) => {
    const threads = new ThreadGroup({ log, stopFd: stop.fd, onStuck, directory, patienceMs: 10 });
    void threads.run(setup);
  });
});
