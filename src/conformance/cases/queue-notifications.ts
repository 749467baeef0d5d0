/** Calls and kicks: those that must come, those that need not, and none that is lost. */
import { maskOf } from '../../../protocol/bits.ts';
import {
  VIRTIO_RING_F_EVENT_IDX,
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_USED_F_NO_NOTIFY,
} from '../../../protocol/virtio-ring.ts';
import type { ConformanceCase } from '../case.ts';
import { RING_FEATURES } from '../negotiate.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import type { Rig } from '../rig.ts';
import { check } from '../verdict.ts';

const CALLS = 'virtio 1.2 § 2.7.7.2';
const KICKS = 'virtio 1.2 § 2.7.10.2';
const KNOWN = { device: ['fs', 'blk'] } as const;
const EVENT_IDX = { ...KNOWN, features: [VIRTIO_RING_F_EVENT_IDX] } as const;
const WITHOUT = RING_FEATURES & ~maskOf(VIRTIO_RING_F_EVENT_IDX);
/** How long to look for a call that must not come. */
const QUIET_MS = 60;
/** Requests of a run in which no kick may be lost. */
const RUN = 1500;

export const QUEUE_NOTIFICATION_CASES: readonly ConformanceCase[] = [
  {
    id: 'queue.call.flags-wanted',
    title: 'Without EVENT_IDX the driver is called',
    level: 'must',
    spec: { section: CALLS, says: 'if flags is 0, the device must send a notification after a used element' },
    expected: 'a call after each of 5 requests',
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = warm(rig, WITHOUT);
      for (let i = 0; i < 5; i += 1) {
        ring.request();
        expectCall(plane, ring);
      }
    },
  },
  {
    id: 'queue.call.flags-unwanted',
    title: 'Without EVENT_IDX the driver that sets NO_INTERRUPT is not called',
    level: 'should',
    spec: { section: CALLS, says: 'if flags is 1, the device should not send a notification' },
    expected: 'no call; and calls again once flags is 0',
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = warm(rig, WITHOUT);
      ring.raw.availFlags = VRING_AVAIL_F_NO_INTERRUPT;
      for (let i = 0; i < 3; i += 1) ring.request();
      expectNoCall(plane, ring);
      ring.raw.availFlags = 0;
      ring.request();
      expectCall(plane, ring);
    },
  },
  {
    id: 'queue.call.flags-ignore-event',
    title: 'Without EVENT_IDX used_event means nothing',
    level: 'must',
    spec: { section: CALLS, says: 'if EVENT_IDX was not negotiated, the device must ignore used_event' },
    expected: 'a call after each request, whatever used_event holds',
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = warm(rig, WITHOUT);
      for (const ahead of [0, 1, 100, 0x8000]) {
        ring.raw.usedEvent = ring.raw.usedIndex + ahead;
        ring.request();
        expectCall(plane, ring);
      }
    },
  },
  {
    id: 'queue.call.event-wanted',
    title: 'With EVENT_IDX the driver is called at the element it has named',
    level: 'must',
    spec: {
      section: CALLS,
      says: 'if the used index at which an element was placed equals used_event, the device must notify',
    },
    expected: 'a call after each of 5 requests, each named just before',
    needs: EVENT_IDX,
    run: (rig) => {
      const { plane, ring } = warm(rig);
      for (let i = 0; i < 5; i += 1) {
        ring.raw.usedEvent = ring.raw.usedIndex;
        ring.request();
        expectCall(plane, ring);
      }
    },
  },
  {
    id: 'queue.call.event-unwanted',
    title: 'With EVENT_IDX the driver is not called before the element it has named',
    level: 'should',
    spec: { section: CALLS, says: 'otherwise the device should not send a notification' },
    expected: 'used_event 4 elements ahead: no call for 4 requests, one for the fifth',
    needs: EVENT_IDX,
    run: (rig) => {
      const { plane, ring } = warm(rig);
      ring.raw.usedEvent = ring.raw.usedIndex + 4;
      for (let i = 0; i < 4; i += 1) ring.request();
      expectNoCall(plane, ring);
      ring.request();
      expectCall(plane, ring);
      ring.request();
      expectNoCall(plane, ring);
    },
  },
  {
    id: 'queue.call.event-in-batch',
    title: 'With EVENT_IDX the driver is called for an element within a batch',
    level: 'must',
    spec: {
      section: CALLS,
      says: 'if the used index at which an element was placed equals used_event, the device must notify',
    },
    expected: '20 requests at once with used_event at each of them in turn: a call each time',
    needs: EVENT_IDX,
    run: (rig) => {
      const { plane, ring } = warm(rig, RING_FEATURES, 64);
      for (let at = 0; at < 20; at += 1) {
        ring.raw.usedEvent = ring.raw.usedIndex + at;
        const requests = Array.from({ length: 20 }, () => ring.place(plane.probe()));
        ring.submit();
        for (const request of requests) ring.finish(request);
        expectCall(plane, ring);
      }
    },
  },
  {
    id: 'queue.call.event-wraps',
    title: 'With EVENT_IDX the driver is called where the index wraps around',
    level: 'must',
    spec: { section: CALLS, says: 'used_event is compared with the index modulo 65536' },
    expected: 'from element 65531 on, a call after each of 10 requests named just before',
    needs: EVENT_IDX,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.ring().setUp({ base: 65_530 });
      ring.request();
      settle(plane, ring);
      for (let i = 0; i < 10; i += 1) {
        ring.raw.usedEvent = ring.raw.usedIndex;
        ring.request();
        expectCall(plane, ring);
      }
    },
  },
  {
    id: 'queue.call.event-ignores-flags',
    title: 'With EVENT_IDX the flags of the avail ring mean nothing',
    level: 'must',
    spec: {
      section: CALLS,
      says: 'if EVENT_IDX was negotiated, the device must ignore the lower bit of flags',
    },
    expected: 'a call although flags is 1',
    needs: EVENT_IDX,
    run: (rig) => {
      const { plane, ring } = warm(rig);
      ring.raw.availFlags = VRING_AVAIL_F_NO_INTERRUPT;
      ring.raw.usedEvent = ring.raw.usedIndex;
      ring.request();
      expectCall(plane, ring);
    },
  },
  {
    id: 'queue.kick.event-flags',
    title: 'With EVENT_IDX the flags of the used ring stay 0',
    level: 'must',
    spec: { section: KICKS, says: 'if EVENT_IDX was negotiated, the device must set flags to 0' },
    expected: 'flags 0 before, during and after 200 requests',
    needs: EVENT_IDX,
    run: (rig) => expectFlags(rig, RING_FEATURES, [0]),
  },
  {
    id: 'queue.kick.flags',
    title: 'Without EVENT_IDX the flags of the used ring are 0 or 1',
    level: 'must',
    spec: { section: KICKS, says: 'if EVENT_IDX was not negotiated, the device must set flags to 0 or 1' },
    expected: 'nothing else before, during and after 200 requests',
    needs: KNOWN,
    run: (rig) => expectFlags(rig, WITHOUT, [0, VRING_USED_F_NO_NOTIFY]),
  },
  ...[true, false].flatMap((hasEventIdx) =>
    [1, 3].map((batch): ConformanceCase => {
      const name = `${hasEventIdx ? 'event' : 'flags'}${batch === 1 ? '' : '-batches'}`;
      return {
        id: `queue.kick.none-lost-${name}`,
        title: `No kick is lost: ${batch === 1 ? 'single requests' : 'batches of 3'}, ${hasEventIdx ? 'with' : 'without'} EVENT_IDX`,
        level: 'must',
        spec: {
          section: 'virtio 1.2 § 2.7.10',
          says: 'the device says by flags or avail_event when it needs no notification; whatever else comes is notified',
        },
        expected: `${RUN} requests are answered, kicked exactly when the device wants it`,
        needs: hasEventIdx ? EVENT_IDX : KNOWN,
        run: (rig) => {
          const { plane, ring } = warm(rig, hasEventIdx ? RING_FEATURES : WITHOUT);
          ring.raw.wantsKick(hasEventIdx);
          for (let done = 0; done < RUN; done += batch) {
            const requests = Array.from({ length: batch }, () => {
              const request = ring.place(plane.probe());
              ring.raw.publish();
              if (ring.raw.wantsKick(hasEventIdx)) ring.kick();
              return request;
            });
            for (const request of requests) ring.finish(request);
          }
        },
      };
    }),
  ),
];

/** A ring that has served its first request, after which calls come only as the driver wants them. */
function warm(
  rig: Rig,
  features = RING_FEATURES,
  num = 64,
): { readonly plane: Plane; readonly ring: ProbedRing } {
  const plane = new Plane(rig, { features });
  const ring = plane.startRing(num);
  ring.request();
  ring.request();
  settle(plane, ring);
  return { plane, ring };
}

/** Lets calls that are under way arrive. */
function settle(plane: Plane, ring: ProbedRing): void {
  plane.rig.pause(10);
  ring.wasCalled();
}

function expectCall(plane: Plane, ring: ProbedRing): void {
  const { timeoutMs } = plane.rig.clock;
  check(
    plane.waitUntil(() => ring.wasCalled(), timeoutMs),
    `used index ${ring.raw.usedIndex}: no call in ${timeoutMs} ms`,
  );
}

function expectNoCall(plane: Plane, ring: ProbedRing): void {
  plane.rig.pause(QUIET_MS);
  check(!ring.wasCalled(), `used index ${ring.raw.usedIndex}: a call that the driver does not want`);
}

function expectFlags(rig: Rig, features: bigint, allowed: readonly number[]): void {
  const { plane, ring } = warm(rig, features, 256);
  const look = (): void => {
    const flags = ring.raw.usedFlags;
    check(allowed.includes(flags), `flags ${flags}, allowed ${allowed.join(' and ')}`);
  };
  for (let round = 0; round < 4; round += 1) {
    const requests = Array.from({ length: 50 }, () => ring.place(plane.probe()));
    ring.submit();
    look();
    for (const request of requests) {
      ring.finish(request);
      look();
    }
  }
  rig.pause(10);
  look();
}
