/** When, in a turn of many requests, the driver is called. */
import { describe, expect, test } from 'vitest';
import type { Chain } from '../../src/virtio/chain.ts';
import { Rig, TestDevice, wasSignalled } from './rig.ts';

/** Looks, before it answers a request, whether the driver of ring 0 was called. */
class WatchingDevice extends TestDevice {
  /** Requests answered before those that found a call. */
  readonly calledAfter: number[] = [];
  rig: Rig | undefined;

  override handle(queueIndex: number, chain: Chain): number {
    if (wasSignalled(this.rig!.calls[0]!)) this.calledAfter.push(this.served.length);
    return super.handle(queueIndex, chain);
  }
}

/** Requests of one turn that are answered when the driver is called; the last is the turn's end. */
function callsOf(requests: number, eventIdx = true): number[] {
  const device = new WatchingDevice();
  using rig = new Rig({ device, num: 64, eventIdx, hasQueueThreads: false }).start();
  device.rig = rig;
  rig.offer(0, requests);
  rig.pump();
  expect(device.served).toHaveLength(requests);
  if (wasSignalled(rig.calls[0]!)) device.calledAfter.push(requests);
  expect(rig.collect(0)).toBe(requests);
  return device.calledAfter;
}

describe('the driver of a turn of many requests', () => {
  test.each([
    [1, [1]],
    [2, [2]],
    [3, [2]],
    [4, [2]],
    [5, [2]],
    [20, [10]],
    [64, [32]],
  ])('that has %i is called once, after %j', (requests, calls) => {
    expect(callsOf(requests)).toEqual(calls);
  });

  test('is called for the rest as well where it cannot say that it is awake', () => {
    expect(callsOf(20, false)).toEqual([10, 20]);
  });

  test('is called for the rest if it has asked to be meanwhile', () => {
    const device = new (class extends WatchingDevice {
      override handle(queueIndex: number, chain: Chain): number {
        const written = super.handle(queueIndex, chain);
        if (this.calledAfter.length === 1 && this.served.length === 15) this.rig!.collect(0);
        return written;
      }
    })();
    using rig = new Rig({ device, num: 64, hasQueueThreads: false }).start();
    device.rig = rig;
    rig.offer(0, 20);
    rig.pump();
    expect(device.calledAfter).toEqual([10]);
    expect(wasSignalled(rig.calls[0]!)).toBe(true);
  });
});
