/** Several rings side by side. */
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from '../case.ts';
import { requestQueues, unansweredProbe } from '../device-requests.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import type { Rig } from '../rig.ts';
import { check } from '../verdict.ts';

const MULTI = 'vhost-user § Multiple queue support';
const STATES = 'vhost-user § Ring states';
const KNOWN = { device: ['fs', 'blk'] } as const;
const TWO = { ...KNOWN, queues: 2 } as const;
/** Rings that are set up at most. */
const MOST = 8;

export const QUEUE_CASES: readonly ConformanceCase[] = [
  {
    id: 'queues.number',
    title: 'The back-end has the rings its device needs',
    level: 'must',
    spec: {
      section: MULTI,
      says: 'GET_QUEUE_NUM answers the maximum number of queues the back-end supports',
    },
    expected: 'at least 2 for a file system (hiprio and one for requests), 1 for a block device',
    needs: { ...KNOWN, protocolFeatures: ['MQ'] },
    run: (rig) => {
      rig.negotiate();
      const count = rig.link.ask(R.GET_QUEUE_NUM, undefined);
      check(count >= BigInt(rig.device.queues), `${count} rings, needed ${rig.device.queues}`);
    },
  },
  {
    id: 'queues.each',
    title: 'Each ring answers what was asked on it, and calls through its own descriptor',
    level: 'must',
    spec: { section: MULTI, says: 'the index in a message identifies the queue' },
    expected: 'one request on each ring: an answer and a call there, and no answer on another',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig);
      for (const ring of rings) {
        const before = rings.map((each) => each.raw.usedIndex);
        askAndExpectCall(plane, ring);
        rings.forEach((other, i) => {
          if (other === ring) return;
          check(
            other.raw.usedIndex === before[i],
            `a request on ring ${ring.index} moved the used index of ring ${other.index}`,
          );
        });
      }
    },
  },
  {
    id: 'queues.calls',
    title: 'Nobody is called for a ring on which nothing was asked',
    level: 'should',
    spec: {
      section: 'virtio 1.2 § 2.7.7.2',
      says: 'the device should not send a notification but for a used element the driver wants to know of',
    },
    expected: 'one request on each ring: no call through the descriptor of another',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig);
      for (const ring of rings) ask(plane, ring);
      for (const ring of rings) {
        rig.pause(5);
        for (const each of rings) each.wasCalled();
        askAndExpectCall(plane, ring);
        const called = rings.find((each) => each !== ring && each.wasCalled());
        check(called === undefined, `a request on ring ${ring.index} called for ring ${called?.index}`);
      }
    },
  },
  {
    id: 'queues.together',
    title: 'Requests on all rings at once',
    level: 'must',
    spec: { section: MULTI, says: 'the index in a message identifies the queue' },
    expected: '20 requests on each ring, made before any is waited for, are answered where they were made',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig);
      for (const ring of rings) ask(plane, ring);
      const requests = rings.map((ring) =>
        Array.from({ length: 20 }, () => ({ ring, request: ring.place(probeFor(plane, ring)) })),
      );
      for (const ring of rings) ring.submit();
      for (const { ring, request } of requests.flat()) ring.finish(request);
    },
  },
  {
    id: 'queues.bases',
    title: 'GET_VRING_BASE answers for the ring it names',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_VRING_BASE',
      says: 'stops the ring it names, returns its index',
    },
    expected: '2, 3, 4 … requests on the rings: these indices, each with its ring',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig);
      const counts = rings.map((ring, i) => {
        for (let count = 0; count < i + 2; count += 1) ask(plane, ring);
        return ring.raw.usedIndex;
      });
      rings.forEach((ring, i) => {
        const base = ring.stop();
        check(base === counts[i], `ring ${ring.index}: index ${base}, expected ${counts[i]}`);
      });
    },
  },
  {
    id: 'queues.stop-one',
    title: 'A ring that is stopped does not stop the others',
    level: 'must',
    spec: { section: STATES, says: 'GET_VRING_BASE stops the ring it names' },
    expected: 'the other rings go on, and it goes on when it was set up again',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig);
      for (const ring of rings) ask(plane, ring);
      for (const ring of rings) {
        const base = ring.stop();
        for (const other of rings) if (other !== ring) ask(plane, other);
        ring.setUp({ base, used: base });
        ask(plane, ring);
      }
    },
  },
  {
    id: 'queues.disable-one',
    title: 'A ring that is disabled does not disable the others',
    level: 'must',
    spec: { section: STATES, says: 'SET_VRING_ENABLE enables or disables the ring it names' },
    expected: 'the other rings go on',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig);
      for (const ring of rings) ask(plane, ring);
      for (const ring of rings) {
        ring.enable(false);
        for (const other of rings) if (other !== ring) ask(plane, other);
        ring.enable();
        ask(plane, ring);
      }
    },
  },
  {
    id: 'queues.sizes',
    title: 'Rings may have different sizes',
    level: 'must',
    spec: { section: 'virtio 1.2 § 2.7', says: 'each queue has a size of its own' },
    expected: 'rings of 4, 8, 16 … entries serve 40 requests each',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig, (i) => 4 << i);
      for (const ring of rings) for (let i = 0; i < 40; i += 1) ask(plane, ring);
    },
  },
  {
    id: 'queues.lost-one',
    title: 'A ring that is lost does not take the others with it',
    level: 'robustness',
    spec: { section: STATES, says: 'the state of a ring is its own' },
    expected: 'an avail index that jumps on one ring: the others go on',
    needs: TWO,
    run: (rig) => {
      const { plane, rings } = startAll(rig);
      for (const ring of rings) ask(plane, ring);
      const lost = rings[0]!;
      lost.raw.publish(lost.raw.next + 1000);
      lost.kick();
      rig.pause(20);
      for (const other of rings) if (other !== lost) ask(plane, other);
      lost.stop();
      lost.setUp();
      ask(plane, lost);
    },
  },
];

/** All rings of the device, up to some, running; those that carry requests have served one. */
function startAll(
  rig: Rig,
  num: (i: number) => number = () => 64,
): { readonly plane: Plane; readonly rings: readonly ProbedRing[] } {
  const plane = new Plane(rig);
  const count = Math.min(rig.facts.queues, MOST);
  const rings = Array.from({ length: count }, (_, index) => plane.startRing(num(index), index));
  // The first request opens the session; the others may come on any ring after it.
  rings[rig.device.requestQueue]!.request();
  return { plane, rings };
}

/** One request, and the call that was asked for with it. */
function askAndExpectCall(plane: Plane, ring: ProbedRing): void {
  ring.wasCalled();
  ring.raw.usedEvent = ring.raw.usedIndex;
  ask(plane, ring);
  const { timeoutMs } = plane.rig.clock;
  check(
    plane.waitUntil(() => ring.wasCalled(), timeoutMs),
    `ring ${ring.index} answered without a call`,
  );
}

/** One request that the ring's own queue takes. */
function ask(plane: Plane, ring: ProbedRing): void {
  ring.request({}, probeFor(plane, ring));
}

const probeFor = (plane: Plane, { index }: ProbedRing) =>
  requestQueues(plane.rig.device, plane.rig.facts.queues).includes(index) ? plane.probe() : unansweredProbe();
