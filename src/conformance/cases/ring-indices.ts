/** Where rings begin, where they are when they stop, and how their indices wrap around. */
import type { ConformanceCase } from '../case.ts';
import { RING_FEATURES } from '../negotiate.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import { check } from '../verdict.ts';
import { maskOf } from '../../../protocol/bits.ts';
import { VIRTIO_RING_F_EVENT_IDX } from '../../../protocol/virtio-ring.ts';

const GET_BASE = 'vhost-user § VHOST_USER_GET_VRING_BASE';
const SET_BASE = 'vhost-user § VHOST_USER_SET_VRING_BASE';
const INDEX = 'vhost-user § A vring descriptor index for split virtqueues';
const KNOWN = { device: ['fs', 'blk'] } as const;

export const RING_INDEX_CASES: readonly ConformanceCase[] = [
  {
    id: 'ring.base.counts',
    title: 'GET_VRING_BASE answers how many requests were taken',
    level: 'must',
    spec: { section: GET_BASE, says: 'the next index to process in the available ring is returned' },
    expected: 'after 5 requests from base 0: index 5; upper 16 bits zero; the ring named in the request',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      for (let i = 0; i < 5; i += 1) ring.request();
      expectBase(ring, 5);
    },
  },
  {
    id: 'ring.base.beyond-num',
    title: 'GET_VRING_BASE answers an index that is not wrapped by the size of the ring',
    level: 'must',
    spec: { section: INDEX, says: 'the index is free-running and not wrapped by the ring size' },
    expected: 'after 21 requests in a ring of 16: index 21',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing(16);
      for (let i = 0; i < 21; i += 1) ring.request();
      expectBase(ring, 21);
    },
  },
  {
    id: 'ring.base.unserved',
    title: 'GET_VRING_BASE answers an index before the requests that were not taken',
    level: 'must',
    spec: {
      section: GET_BASE,
      says: 'the answer may differ from the index in the available ring, which is where the driver goes on',
    },
    expected: 'index and used index agree, so that no request is lost',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      ring.enable(false);
      for (let i = 0; i < 3; i += 1) ring.place(plane.probe());
      ring.raw.publish();
      const base = ring.stop();
      check(base === ring.raw.usedIndex, `index ${base}, but the used index is ${ring.raw.usedIndex}`);
      ring.enable();
    },
  },
  {
    id: 'ring.base.drains',
    title: 'GET_VRING_BASE is answered when what was taken has been finished',
    level: 'must',
    spec: {
      section: GET_BASE,
      says: 'by default the back-end must complete all inflight requests of the ring before stopping it',
    },
    expected: '100 requests in the ring: those before the index are in the used ring, and no others',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing(256);
      ring.request();
      const requests = Array.from({ length: 100 }, () => ring.place(plane.probe()));
      ring.submit();
      const base = ring.stop();
      const used = ring.raw.usedIndex;
      check(base === used, `index ${base}, but the used index is ${used}`);
      ring.collect();
      for (const request of requests) if (request.answers > 0) ring.checkAnswer(request);
      // What is left is served after a restart at that index.
      ring.tell({ base });
      ring.kick();
      for (const request of requests) ring.finish(request);
    },
  },
  {
    id: 'ring.base.restart',
    title: 'A ring goes on at the index it is given',
    level: 'must',
    spec: { section: SET_BASE, says: 'sets the next index to process in the available ring' },
    expected: 'requests after stop and restart are answered once each, in the next elements of the used ring',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing(16);
      for (let round = 0; round < 3; round += 1) {
        for (let i = 0; i < 5; i += 1) ring.request();
        ring.tell({ base: expectBase(ring, 5 * (round + 1)) });
      }
      ring.request();
    },
  },
  {
    id: 'ring.base.used-from-memory',
    title: 'The used index is read from memory when a ring is started',
    level: 'should',
    spec: {
      section: SET_BASE,
      says: 'the device is supposed to read the next index of the used ring from the ring in guest memory',
    },
    expected: 'started at index 9 with used index 7 in memory, the next answer is used element 7',
    needs: KNOWN,
    run: (rig) => new Plane(rig).ring().setUp({ base: 9, used: 7 }).request(),
  },
  {
    id: 'ring.base.last',
    title: 'A ring may begin at index 65535',
    level: 'must',
    spec: { section: INDEX, says: 'bits 0 to 15 are the index; it is free-running' },
    expected: 'requests are answered, and the index is 2 after three of them',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).ring().setUp({ base: 65_535 });
      for (let i = 0; i < 3; i += 1) ring.request();
      expectBase(ring, 2);
    },
  },
  ...[true, false].map((eventIdx): ConformanceCase => {
    const name = eventIdx ? 'event-idx' : 'flags';
    return {
      id: `ring.wrap.base-${name}`,
      title: `Indices wrap around at 65536 soon after the start, ${eventIdx ? 'with' : 'without'} EVENT_IDX`,
      level: 'must',
      spec: {
        section: 'virtio 1.2 § 2.7.13.3',
        says: 'the index always increments and wraps naturally at 65536',
      },
      expected:
        'started at 65530, 40 requests are answered one by one, each kicked only if the device wants it',
      needs: { ...KNOWN, ...(eventIdx ? { features: [VIRTIO_RING_F_EVENT_IDX] } : {}) },
      run: (rig) => {
        const features = eventIdx ? RING_FEATURES : RING_FEATURES & ~maskOf(VIRTIO_RING_F_EVENT_IDX);
        const plane = new Plane(rig, { features });
        const ring = plane.ring(16).setUp({ base: 65_530 });
        for (let i = 0; i < 40; i += 1) {
          const request = ring.place(plane.probe());
          ring.raw.publish();
          if (ring.raw.wantsKick(plane.hasEventIdx)) ring.kick();
          ring.finish(request);
        }
        expectBase(ring, (65_530 + 40) & 0xffff);
      },
    };
  }),
  {
    id: 'ring.wrap.long-run',
    title: 'A ring lives through 66,000 requests',
    level: 'must',
    spec: {
      section: 'virtio 1.2 § 2.7.13.3',
      says: 'the index always increments and wraps naturally at 65536',
    },
    expected: 'each request is answered once; the index at the end is 66,001 modulo 65536',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing(1024);
      ring.request();
      for (let done = 0; done < 66_000; done += 500) {
        const requests = Array.from({ length: 500 }, () => ring.place(plane.probe()));
        ring.submit();
        for (const request of requests) ring.finish(request);
      }
      expectBase(ring, 66_001 & 0xffff);
    },
  },
  {
    id: 'ring.wrap.slots',
    title: 'Descriptors and ring entries are used again and again',
    level: 'must',
    spec: { section: 'virtio 1.2 § 2.7.6', says: 'the avail index is taken modulo the size of the ring' },
    expected: 'in a ring of 2, 100 requests are answered, alone',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing(2);
      for (let i = 0; i < 100; i += 1) ring.request();
    },
  },
  ...[2, 8, 128, 1024].map((num): ConformanceCase => ({
    id: `ring.num.${num}`,
    title: `A ring of ${num} entries works when it is full`,
    level: num > 256 ? 'should' : 'must',
    spec: {
      section: 'virtio 1.2 § 2.7',
      says: 'the queue size is a power of 2 up to 32768; it is what the driver has chosen',
    },
    expected: 'as many requests as there is room for are answered, in three rounds',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing(num);
      ring.request();
      for (let round = 0; round < 3; round += 1) {
        const requests = Array.from({ length: num / 2 }, () => ring.place(plane.probe()));
        ring.submit();
        for (const request of requests) ring.finish(request);
      }
    },
  })),
  {
    id: 'ring.batch.one-kick',
    title: 'One kick is enough for any number of requests',
    level: 'must',
    spec: {
      section: 'virtio 1.2 § 2.7.13',
      says: 'the driver may make many buffers available before it updates the index and notifies once',
    },
    expected: '500 requests behind one kick are all answered',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing(1024);
      ring.request();
      const requests = Array.from({ length: 500 }, () => ring.place(plane.probe()));
      ring.submit();
      for (const request of requests) ring.finish(request);
    },
  },
];

/** Stops the ring. @returns the index */
function expectBase(ring: ProbedRing, expected: number): number {
  const base = ring.stop();
  check(base === expected, `index ${base}, expected ${expected}`);
  return base;
}
