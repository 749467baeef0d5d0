/** When, in a turn of many requests, the driver is called. */
import { describe, expect, test } from 'vitest';
import type { Chain } from '../../src/virtio/chain.ts';
import { KiB, MiB } from '../../src/units.ts';
import { Rig, TestDevice, wasSignalled } from './rig.ts';

/** Looks, before it answers a request, whether the driver of ring 0 was called. */
class WatchingDevice extends TestDevice {
  /** Requests answered before those that found a call. */
  readonly calledAfter: number[] = [];
  rig: Rig | undefined;
  isAwake = false;

  override handle(queueIndex: number, chain: Chain): number {
    if (this.rig !== undefined && wasSignalled(this.rig.calls[0]!)) this.calledAfter.push(this.served.length);
    if (this.isAwake) this.rig!.collect(0);
    return super.handle(queueIndex, chain);
  }
}

/** What a turn is like. */
interface Turn {
  readonly eventIdx?: boolean;
  /** Bytes written for each request. */
  readonly written?: number;
  /** 0: none; 5000: rings are looked at for long, as nobody else wants the processor. */
  readonly pollMicros?: number;
  /** The driver looks at its ring before each request is answered, and wants to be called again. */
  readonly isAwake?: boolean;
}

/** Requests of one turn that are answered when the driver is called; the last is the turn's end. */
function callsOf(requests: number, turn: Turn = {}): number[] {
  const { eventIdx = true, written = 16, pollMicros = 0, isAwake = false } = turn;
  const device = new WatchingDevice();
  using rig = new Rig({ device, num: 64, eventIdx, pollMicros, hasQueueThreads: false }).start();
  for (let i = 0; i < 4; i += 1) rig.ping(0);
  wasSignalled(rig.calls[0]!);
  device.served.length = 0;
  device.written = written;
  device.isAwake = isAwake;
  device.rig = rig;
  rig.offer(0, requests);
  rig.pump();
  expect(device.served).toHaveLength(requests);
  if (wasSignalled(rig.calls[0]!)) device.calledAfter.push(requests);
  rig.collect(0);
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
    expect(callsOf(20, { eventIdx: false })).toEqual([10, 20]);
  });

  test('is called for the rest if it has asked to be meanwhile', () => {
    expect(callsOf(20, { isAwake: true })).toEqual([10, 20]);
  });

  // Where the machine is busy while this runs, processors are short, and we are right not to look.
  test(
    'is called after every 128 KiB where processors are not short, and not for larger requests',
    { retry: 5 },
    () => {
      expect(callsOf(8, { written: 64 * KiB, pollMicros: 5000, isAwake: true })).toEqual([2, 4, 6, 8]);
      expect(callsOf(8, { written: MiB, pollMicros: 5000, isAwake: true })).toEqual([4, 8]);
    },
  );

  test('is not where there is no looking for requests', () => {
    expect(callsOf(8, { written: 64 * KiB, isAwake: true })).toEqual([4, 8]);
  });
});
