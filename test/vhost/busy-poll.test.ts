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

const times = (count: number, ms: number): number[] => Array.from({ length: count }, () => ms);

describe('the window', () => {
  test.each([
    ['nothing at first', [], 0],
    ['nothing after one request that came soon', [SOON], 0],
    ['half as long again as the pause after two', [SOON, SOON], 34],
    ['never above the largest', [0.07, 0.07], 80],
    ['as after the longest pause that counts for one that waking up made longer', [0.12, 0.12], 80],
    ['the same after a request that was late, among many that were not', [...times(8, SOON), LATE], 34],
    [
      'nothing when every other request is late',
      [...times(8, SOON), ...Array.from({ length: 16 }, (_, i) => (i % 2 === 0 ? LATE : SOON))],
      0,
    ],
    ['there when one in four is late', [SOON, SOON, SOON, LATE, SOON, SOON, SOON, LATE, SOON, SOON], 34],
    ['nothing for a driver that is always late', [LATE, LATE], 0],
    ['soon nothing for one that becomes so', [...times(100, SOON), ...times(4, LATE)], 0],
  ])('is %s', (_name, sleeps, expected) => {
    expect(windowAfter(...sleeps)).toBe(expected);
  });

  test('shrinks to what the driver takes, and grows at once when it takes longer', () => {
    const busyPoll = new BusyPoll(MAX_US);
    for (let i = 0; i < 3; i += 1) busyPoll.woken(0.05, 0);
    expect(busyPoll.windowMs).toBeCloseTo(0.079);
    for (let i = 0; i < 40; i += 1) busyPoll.found(0.002);
    expect(busyPoll.windowMs).toBeCloseTo(0.007);
    busyPoll.woken(0.03, 0);
    expect(busyPoll.windowMs).toBeCloseTo(0.049);
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
    for (let i = 0; i < 4; i += 1) busyPoll.woken(SOON, 50);
    expect(busyPoll.windowMs).toBe(0);
    for (let i = 0; i < 2; i += 1) busyPoll.woken(SOON, 200);
    expect(busyPoll.windowMs).toBeGreaterThan(0);
  });
});

describe('where processors are short', () => {
  /** Looks at the pace of a busy driver. @returns each time there was a window: when it began and ended, in milliseconds */
  function windowsOf(areShort: (ms: number) => boolean, forMs = 10_000): [number, number][] {
    let ms = 0;
    const windows: [number, number][] = [];
    const busyPoll = new BusyPoll(MAX_US, () => areShort(ms));
    let wasOpen = false;
    for (; ms < forMs; ms += 1) {
      busyPoll.woken(SOON, ms);
      busyPoll.woken(SOON, ms);
      const isOpen = busyPoll.windowMs > 0;
      if (isOpen && !wasOpen) windows.push([ms, ms]);
      if (isOpen) windows.at(-1)![1] = ms;
      if (isOpen) busyPoll.looked(0.01, ms);
      wasOpen = isOpen;
    }
    return windows;
  }

  /** Milliseconds without a window, each time. */
  const pausesOf = (windows: readonly [number, number][]): number[] =>
    windows.slice(1).map(([begin], i) => begin - windows[i]![1]);

  test('there is a window all the time where they never are', () => {
    expect(windowsOf(() => false)).toEqual([[0, 9999]]);
  });

  /** Processors are short in so many of 16 answers, one every other millisecond. */
  const shortIn =
    (answers: number) =>
    (ms: number): boolean =>
      (ms >> 1) % 16 < answers;

  test('and where they are in 4 answers of 16, but not in 5', () => {
    expect(windowsOf(shortIn(4))).toEqual([[0, 9999]]);
    expect(windowsOf(shortIn(5))[0]).toEqual([0, 30]);
  });

  test('each pause is twice as long as the one before, up to 3.2 seconds, and each window has 16 answers', () => {
    const windows = windowsOf(() => true, 20_000);
    expect(pausesOf(windows).slice(0, 8)).toEqual([100, 200, 400, 800, 1600, 3200, 3200, 3200]);
    expect(windows.slice(0, -1).map(([begin, end]) => end - begin)).toEqual(windows.slice(1).map(() => 30));
  });

  test('pauses begin short again after they were not', () => {
    const pauses = pausesOf(windowsOf((ms) => ms < 2000 || ms >= 6000));
    expect(pauses.slice(0, 7)).toEqual([100, 200, 400, 800, 1600, 100, 200]);
  });

  test('an interrupted look does not cut a pause short', () => {
    const busyPoll = new BusyPoll(MAX_US, () => true);
    const wake = (ms: number): number => {
      busyPoll.woken(SOON, ms);
      busyPoll.woken(SOON, ms);
      return busyPoll.windowMs;
    };
    let ms = 0;
    for (let pauses = 0; pauses < 3; ms += 1) {
      if (wake(ms) === 0) continue;
      busyPoll.looked(0.01, ms);
      if (busyPoll.windowMs > 0) continue;
      pauses += 1;
      busyPoll.looked(5, ms);
    }
    expect(wake(ms + 150)).toBe(0);
    expect(wake(ms + 450)).toBeGreaterThan(0);
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
