import { describe, expect, test, vi } from 'vitest';
import { BusyPoll } from '../../src/vhost/busy-poll.ts';
import { Rig, TestDevice } from './rig.ts';

const MAX_US = 80;
/** Milliseconds between two requests. */
const SOON = 0.02;
const LATE = 10;

/** The window in microseconds after sleeps that requests ended so long after the one before. */
function windowAfter(...sleeps: readonly number[]): number {
  const busyPoll = new BusyPoll(MAX_US);
  for (const ms of sleeps) busyPoll.woken(ms);
  return Math.round(1000 * busyPoll.windowMs);
}

describe('the window', () => {
  test.each([
    ['nothing at first', [], 0],
    ['a quarter after one request that a full one would have caught', [SOON], 20],
    ['the largest after three', [SOON, SOON, SOON], 80],
    ['never above the largest', [SOON, SOON, SOON, SOON, SOON], 80],
    ['half after a request that was too late', [SOON, SOON, SOON, LATE], 40],
    ['nothing after three', [SOON, SOON, SOON, LATE, LATE, LATE], 0],
    ['nothing for a driver that is always late', [LATE, LATE], 0],
  ])('is %s', (_name, sleeps, expected) => {
    expect(windowAfter(...sleeps)).toBe(expected);
  });

  test('of 0 never opens', () => {
    const busyPoll = new BusyPoll(0);
    for (let i = 0; i < 5; i += 1) busyPoll.woken(0.001);
    expect(busyPoll.windowMs).toBe(0);
  });
});

/** Its driver makes `requests` more, without a kick, each as soon as the ring has run empty. */
class BusyDevice extends TestDevice {
  requests = 0;
  next: () => void = () => undefined;

  override isWaitedFor(): boolean {
    if (this.requests > 0) {
      this.requests -= 1;
      this.next();
    }
    return true;
  }
}

/** A rig whose window is wide open. */
function busyRig(): { rig: Rig; device: BusyDevice } {
  const device = new BusyDevice();
  const rig = new Rig({ device, pollMicros: 5000 }).start();
  for (let i = 0; i < 4; i += 1) rig.ping(0);
  device.next = () => {
    rig.collect(0);
    rig.drivers[0]!.add([0x20_0000, 0x20_1000], [16, 64], 2, 1);
    rig.drivers[0]!.publish();
  };
  return { rig, device };
}

describe('a ring that is looked at', () => {
  test('is served without kicks', () => {
    using busy = disposable(busyRig());
    const { rig, device } = busy;
    const before = device.served.length;
    rig.offer(0);
    device.requests = 3;
    rig.pump();
    expect(device.served.length - before).toBe(4);
  });

  test('has its driver asked for kicks again before anybody sleeps', () => {
    using busy = disposable(busyRig());
    const { rig } = busy;
    rig.ping(0);
    rig.drivers[0]!.add([0x20_0000, 0x20_1000], [16, 64], 2, 1);
    rig.drivers[0]!.publish();
    expect(rig.drivers[0]!.kickNeeded()).toBe(true);
  });

  test('leaves the others their turn, however busy its driver is', () => {
    using busy = disposable(busyRig());
    const { rig, device } = busy;
    device.requests = 1_000_000;
    rig.offer(0);
    rig.offer(1);
    rig.poll();
    rig.run();
    rig.run();
    expect(device.requests).toBeGreaterThan(0);
    expect(device.served.some(([queue]) => queue === 1)).toBe(true);
    device.requests = 0;
  });

  test('may be stopped meanwhile, and set up again', () => {
    using busy = disposable(busyRig());
    const { rig } = busy;
    rig.ping(0);
    const base = rig.stop(0);
    rig.setUpRing(0, base);
    rig.pump();
    expect(rig.ping(0)).toBe(true);
  });
});

describe('a ring nobody waits for, beside a busy one', () => {
  /** Nobody waits for ring 1. */
  class PatientDevice extends TestDevice {
    override isWaitedFor(queueIndex: number): boolean {
      return queueIndex === 0;
    }
  }

  /** Offers one request without a kick. @returns whether the driver would have kicked */
  const addQuietly = (rig: Rig): boolean => {
    rig.drivers[1]!.kickNeeded(); // about what was kicked for already
    rig.drivers[1]!.add([0x20_0000, 0x20_1000], [16, 64], 2, 1);
    rig.drivers[1]!.publish();
    return rig.drivers[1]!.kickNeeded();
  };
  /** Time stands still, until it is told to go on. */
  function stopClock(): { later: (ms: number) => void } & Disposable {
    let now = performance.now();
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
    return { later: (ms) => void (now += ms), [Symbol.dispose]: () => clock.mockRestore() };
  }

  /** Both rings are served by one thread, and ring 0 was just now. */
  function busyRig(): Rig {
    const rig = new Rig({ device: new PatientDevice(), hasQueueThreads: false }).start();
    rig.ping(0);
    return rig;
  }

  test('asks for the next kick at once when there is nothing else to do', () => {
    using clock = stopClock();
    using rig = busyRig();
    clock.later(1);
    rig.ping(1);
    expect(addQuietly(rig)).toBe(true);
  });

  test('is served without further kicks while it is busy, and asks for them again', () => {
    using clock = stopClock();
    using rig = busyRig();
    rig.ping(1);
    expect(addQuietly(rig)).toBe(false);
    expect(rig.run()).toBe(1);
    expect(rig.collect(1)).toBe(1);
    clock.later(1);
    expect(rig.run()).toBe(-1);
    expect(addQuietly(rig)).toBe(true);
  });

  test('is looked at once more before it is left alone', () => {
    using clock = stopClock();
    using rig = busyRig();
    rig.ping(1);
    rig.run();
    addQuietly(rig);
    clock.later(1);
    rig.run();
    expect(rig.collect(1)).toBe(1);
  });

  test('that fills up fast asks for the next kick at once', () => {
    using clock = stopClock();
    using rig = busyRig();
    clock.later(0.5);
    rig.offer(1, 5); // of 16
    rig.pump();
    expect(rig.collect(1)).toBe(5);
    expect(addQuietly(rig)).toBe(true);
  });

  test('may be stopped meanwhile', () => {
    using clock = stopClock();
    using rig = busyRig();
    rig.ping(1);
    const base = rig.stop(1);
    clock.later(1);
    rig.run();
    rig.setUpRing(1, base);
    expect(rig.ping(1)).toBe(true);
  });
});

function disposable<T extends { readonly rig: Rig }>(held: T): T & Disposable {
  return { ...held, [Symbol.dispose]: () => held.rig[Symbol.dispose]() };
}
