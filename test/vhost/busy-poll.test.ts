import { describe, expect, test } from 'vitest';
import type { Chain } from '../../src/virtio/chain.ts';
import { BusyPoll } from '../../src/vhost/busy-poll.ts';
import { Rig, TestDevice } from './rig.ts';

const MAX_US = 80;
/** Milliseconds between two requests. */
const SOON = 0.02;
const LATE = 10;

/** The window in microseconds after sleeps that requests ended so long after the one before. */
function windowAfter(...sleeps: readonly number[]): number {
  const busyPoll = new BusyPoll(MAX_US);
  for (const ms of sleeps) busyPoll.woken(ms, 0);
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
    for (let i = 0; i < 5; i += 1) busyPoll.woken(0.001, 0);
    expect(busyPoll.windowMs).toBe(0);
  });

  test('is closed for a while when somebody else ran in between, and then opens as before', () => {
    const busyPoll = new BusyPoll(MAX_US);
    for (let i = 0; i < 4; i += 1) busyPoll.woken(SOON, 0);
    busyPoll.looked(0.01, 1);
    expect(busyPoll.windowMs).toBeGreaterThan(0);
    busyPoll.looked(3, 2);
    expect(busyPoll.windowMs).toBe(0);
    busyPoll.woken(SOON, 50);
    expect(busyPoll.windowMs).toBe(0);
    busyPoll.woken(SOON, 200);
    expect(busyPoll.windowMs).toBeGreaterThan(0);
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

describe('a ring nobody waits for', () => {
  /** Nobody waits for ring 1; while chain number `at` of ring 0 is served, its driver makes a request there without a kick. */
  class PatientDevice extends TestDevice {
    at = -1;
    next: () => void = () => undefined;

    override isWaitedFor(queueIndex: number): boolean {
      return queueIndex === 0;
    }
    override handle(queueIndex: number, chain: Chain): number {
      const written = super.handle(queueIndex, chain);
      if (queueIndex === 0 && this.served.filter(([queue]) => queue === 0).length === this.at) this.next();
      return written;
    }
  }

  test('is looked at between the batches of the ring beside it, without a kick', () => {
    const device = new PatientDevice();
    using rig = new Rig({ device, num: 64, hasQueueThreads: false }).start();
    device.next = () => {
      rig.drivers[1]!.add([0x20_0000, 0x20_1000], [16, 64], 2, 1);
      rig.drivers[1]!.publish();
    };
    device.at = 4;
    rig.offer(1);
    rig.poll();
    rig.offer(0, 20);
    rig.poll();
    rig.run();
    const order = device.served.map(([queue]) => queue);
    expect(order).toEqual([1, ...Array<number>(8).fill(0), 1, ...Array<number>(12).fill(0)]);
  });

  test('has its driver asked for kicks before anybody sleeps', () => {
    using rig = new Rig({ device: new PatientDevice() }).start();
    rig.ping(1);
    rig.drivers[1]!.kickNeeded(); // about what was kicked for already
    rig.drivers[1]!.add([0x20_0000, 0x20_1000], [16, 64], 2, 1);
    rig.drivers[1]!.publish();
    expect(rig.drivers[1]!.kickNeeded()).toBe(true);
  });
});

function disposable<T extends { readonly rig: Rig }>(held: T): T & Disposable {
  return { ...held, [Symbol.dispose]: () => held.rig[Symbol.dispose]() };
}
