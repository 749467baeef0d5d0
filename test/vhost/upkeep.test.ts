/** What a device puts off it is asked for before the thread sleeps, and now and then while it does not. */
import { expect, test } from 'vitest';
import { Rig, TestDevice } from './rig.ts';

class PuttingOff extends TestDevice {
  /** What `upkeep` answers, one call after the other; then −1. */
  delays: number[] = [];
  calls = 0;
  lastNow = 0;

  upkeep(now: number): number {
    this.calls += 1;
    expect(now).toBeGreaterThanOrEqual(this.lastNow);
    this.lastNow = now;
    return this.delays.shift() ?? -1;
  }
}

test('the thread sleeps no longer than the device says', () => {
  const device = new PuttingOff();
  using rig = new Rig({ device, hasQueueThreads: false }).start();
  rig.offer(0);
  rig.pump();
  device.delays = [10, 3.2, -1];
  expect([rig.run(), rig.run(), rig.run()]).toEqual([10, 4, -1]);
  const { calls } = device;
  rig.offer(0);
  rig.pump();
  expect(rig.collect(0)).toBe(2);
  expect(device.calls).toBeGreaterThan(calls);
});

test('a thread that never sleeps finds the time, too', () => {
  const device = new PuttingOff();
  using rig = new Rig({ device, hasQueueThreads: false }).start();
  rig.pump();
  const { calls } = device;
  for (let i = 0; i < 200; i += 1) {
    rig.offer(0);
    rig.kick(0);
    rig.poll();
    rig.run();
    rig.collect(0);
  }
  expect(device.calls).toBeGreaterThan(calls + 2);
});
