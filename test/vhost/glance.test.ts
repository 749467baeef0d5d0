/** Requests that follow each other at once, with a clock that moves only when it is asked, and while a request is served. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Chain } from '../../src/virtio/chain.ts';
import { TurnGate } from '../../src/host/turn-gate.ts';
import { BusyPoll } from '../../src/vhost/busy-poll.ts';
import { Rig, TestDevice } from './rig.ts';

const clock = vi.hoisted(() => ({ now: 1000, asked: 0 }));
vi.mock('../../src/host/clock.ts', () => ({
  monotonicMs: () => {
    clock.asked += 1;
    return (clock.now += 0.001);
  },
}));
afterEach(() => void vi.restoreAllMocks());

/** A driver that makes its next request on ring `ring` as soon as one is answered; nobody waits for ring 1. */
class EagerDevice extends TestDevice {
  requests = 0;
  takesMs = 0.002;
  isDue = false;
  next: () => void = () => undefined;

  override isWaitedFor(queue: number): boolean {
    if (this.isDue && this.requests > 0) {
      this.isDue = false;
      this.requests -= 1;
      this.next();
    }
    return queue === 0;
  }
  override elsewhere(): this {
    return this;
  }
  override handle(queue: number, chain: Chain): number {
    clock.now += this.takesMs;
    this.isDue = true;
    return super.handle(queue, chain);
  }
}

interface Eagerness {
  readonly requests: number;
  readonly takesMs?: number;
  readonly pollMicros?: number;
  /** Where the driver makes them, and where it has made the first one. */
  readonly ring?: number;
  readonly first?: number;
  /** The thread that serves is wanted for something else once so many are served. */
  readonly wantedAfter?: number;
}

/** @returns chains served in one run, how often the clock was asked, and how often a request was found in time */
function runWith({
  requests,
  takesMs = 0.002,
  pollMicros = 5000,
  ring = 0,
  first = 0,
  wantedAfter,
}: Eagerness): {
  served: number;
  asked: number;
  found: number;
} {
  const device = new EagerDevice();
  using rig = new Rig({ device, pollMicros, hasQueueThreads: wantedAfter !== undefined, num: 64 }).start();
  for (let i = 0; i < 6; i += 1) rig.ping(0);
  device.next = () => {
    rig.collect(ring);
    rig.drivers[ring]!.add([0x20_0000, 0x20_1000], [16, 64], 2, 1);
    rig.drivers[ring]!.publish();
  };
  rig.offer(first);
  if (ring !== first) rig.offer(ring); // what was served is looked at
  rig.poll();
  const found = vi.spyOn(BusyPoll.prototype, 'found');
  const before = device.served.length;
  vi.spyOn(TurnGate.prototype, 'isWanted', 'get').mockImplementation(
    () => device.served.length - before >= (wantedAfter ?? Infinity),
  );
  clock.asked = 0;
  Object.assign(device, { isDue: false, requests, takesMs });
  rig.run();
  device.requests = 0;
  return { served: device.served.length - before, asked: clock.asked, found: found.mock.calls.length };
}

describe('requests that follow each other at once', () => {
  test('are served in one run, each found in time, and the clock is asked once in a few', () => {
    const { served, asked, found } = runWith({ requests: 20 });
    expect([served, found]).toEqual([21, 20]);
    expect(asked).toBeLessThan(20);
  });

  test('end the run when others have waited for long enough: a few more, since the clock is not asked each time', () => {
    expect(runWith({ requests: 200, takesMs: 1 }).served).toBeLessThan(12);
    expect(runWith({ requests: 2000 }).served).toBeLessThan(200);
  });

  test('end it as soon as the thread is wanted for something else', () => {
    expect(runWith({ requests: 20, wantedAfter: 3 }).served).toBe(3);
  });

  test('are not looked for without a window', () => {
    expect(runWith({ requests: 20, pollMicros: 0 }).served).toBe(1);
  });

  test('and that nobody waits for say nothing of the one who waits', () => {
    const { served, found } = runWith({ requests: 5, ring: 1 });
    expect(served).toBeGreaterThan(2);
    expect(found).toBe(0);
  });

  test('are not looked for when nobody has been answered who waits', () => {
    expect(runWith({ requests: 5, ring: 1, first: 1 }).served).toBe(1);
  });
});
