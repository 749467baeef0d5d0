/** Rings that start, stop, are enabled and disabled. */
import { maskOf } from '../../../protocol/bits.ts';
import { VHOST_USER_F_PROTOCOL_FEATURES } from '../../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from '../case.ts';
import { effectProbe } from '../device-requests.ts';
import { RING_FEATURES } from '../negotiate.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import { check, skipped } from '../verdict.ts';

/** How long to look at what must not happen. */
const QUIET_MS = 120;

const STATES = 'vhost-user § Ring states';
const KNOWN = { device: ['fs', 'blk'] } as const;

export const RING_STATE_CASES: readonly ConformanceCase[] = [
  {
    id: 'ring.start.kick',
    title: 'A kick starts a ring',
    level: 'must',
    spec: {
      section: STATES,
      says: 'a ring that was told SET_VRING_KICK is started by a kick at the latest: when the descriptor becomes readable',
    },
    expected: 'the request is answered',
    needs: KNOWN,
    run: (rig) => void new Plane(rig).startRing().request(),
  },
  {
    id: 'ring.start.not-before-set-kick',
    title: 'A ring that has no kick descriptor yet is not processed',
    level: 'must',
    spec: {
      section: STATES,
      says: 'each ring is initialized stopped; while it is stopped, the back-end must not process it at all',
    },
    expected:
      'a request that is there before SET_VRING_KICK is left alone; SET_VRING_KICK and a kick bring the answer',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.ring().setUp({ kick: false });
      const request = ring.place(plane.probe());
      ring.raw.publish();
      check(!ring.isAnswered(request, QUIET_MS), 'the request was answered before SET_VRING_KICK');
      plane.link.accepts(R.SET_VRING_KICK, BigInt(ring.index), { fds: [ring.kickFd] });
      ring.kick();
      ring.finish(request);
    },
  },
  {
    id: 'ring.start.not-before-kick',
    title: 'A ring that was never kicked is not processed',
    level: 'should',
    spec: {
      section: STATES,
      says: 'each ring is initialized stopped, and started by a kick; a draft for QEMU 11.1 lets SET_VRING_KICK start it',
    },
    expected: 'a request that is there without a kick is left alone; the kick brings the answer',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.ring();
      ring.reset();
      const request = ring.place(plane.probe());
      ring.raw.publish();
      ring.tell();
      check(!ring.isAnswered(request, QUIET_MS), 'the request was answered before any kick');
      ring.kick();
      ring.finish(request);
    },
  },
  {
    id: 'ring.start.kicked-before',
    title: 'A kick that was there before SET_VRING_KICK starts the ring',
    level: 'must',
    spec: {
      section: STATES,
      says: 'a kick is detecting that the descriptor is readable, which it is from the beginning here',
    },
    expected: 'the request is answered without another kick',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.ring();
      ring.reset();
      const request = ring.place(plane.probe());
      ring.submit();
      ring.enable();
      ring.tell({ enable: false });
      ring.finish(request);
    },
  },
  {
    id: 'ring.start.kick-before-enable',
    title: 'A ring that was kicked before it was enabled runs once it is enabled',
    level: 'must',
    spec: {
      section: STATES,
      says: 'started and enabled are independent states; a ring that is both must be processed normally',
    },
    expected: 'the request is answered without another kick',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.ring().setUp({ enable: false });
      const request = ring.place(plane.probe());
      ring.submit();
      rig.pause(20);
      ring.enable();
      ring.finish(request);
    },
  },
  {
    id: 'ring.enable.before-start',
    title: 'SET_VRING_ENABLE may come before everything else about the ring',
    level: 'must',
    spec: {
      section: STATES,
      says: 'while a ring is stopped, enabled and disabled are still tracked and take effect once it is started',
    },
    expected: 'the request is answered',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.ring();
      ring.enable();
      ring.setUp({ enable: false }).request();
    },
  },
  {
    id: 'ring.enable.without-protocol-features',
    title: 'Without PROTOCOL_FEATURES rings are enabled by SET_FEATURES',
    level: 'must',
    spec: {
      section: STATES,
      says: 'on SET_FEATURES without VHOST_USER_F_PROTOCOL_FEATURES the back-end must enable all rings immediately',
    },
    expected: 'the request is answered, and no SET_VRING_ENABLE was sent',
    needs: { ...KNOWN, features: [VHOST_USER_F_PROTOCOL_FEATURES] },
    run: (rig) => {
      const features = RING_FEATURES & ~maskOf(VHOST_USER_F_PROTOCOL_FEATURES);
      new Plane(rig, { features }).startRing().request();
    },
  },
  {
    id: 'ring.disable.no-effects',
    title: 'A ring that was set up and not enabled has no effects',
    level: 'must',
    spec: { section: STATES, says: 'started and disabled, a ring must be processed without side effects' },
    expected: 'a request that would make a directory is not carried out before the ring is enabled',
    needs: { device: ['fs'], features: [VHOST_USER_F_PROTOCOL_FEATURES] },
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = startWritable(plane);
      const base = ring.stop();
      ring.enable(false);
      ring.setUp({ base, enable: false });
      expectNoEffect(plane, ring);
    },
  },
  {
    id: 'ring.disable.running',
    title: 'A ring that is disabled while it runs has no effects until it is enabled again',
    level: 'must',
    spec: { section: STATES, says: 'started and disabled, a ring must be processed without side effects' },
    expected: 'a request that would make a directory is not carried out while the ring is disabled',
    needs: { device: ['fs'], features: [VHOST_USER_F_PROTOCOL_FEATURES] },
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = startWritable(plane);
      ring.enable(false);
      expectNoEffect(plane, ring);
    },
  },
  {
    id: 'ring.enable.again',
    title: 'A ring that was disabled and enabled again is processed',
    level: 'must',
    spec: { section: STATES, says: 'started and enabled, a ring must be processed normally' },
    expected: 'requests are answered, before and after',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      ring.request();
      ring.enable(false);
      ring.enable();
      ring.request();
      ring.enable();
      ring.request();
    },
  },
  {
    id: 'ring.enable.kicked-meanwhile',
    title: 'A request kicked while the ring was disabled is answered once it is enabled again',
    level: 'must',
    spec: { section: STATES, says: 'started and enabled, the back-end must process all requests of a ring' },
    expected: 'the request is answered without another kick',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      ring.enable(false);
      const request = ring.place(plane.probe());
      ring.submit();
      rig.pause(20);
      ring.enable();
      ring.finish(request);
    },
  },
  {
    id: 'ring.stop.stops',
    title: 'GET_VRING_BASE stops a ring',
    level: 'must',
    spec: {
      section: STATES,
      says: 'a ring must be stopped on GET_VRING_BASE, and while it is stopped it must not be processed at all',
    },
    expected: 'a request made after that is not answered, kicked or not',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      ring.stop();
      const request = ring.place(plane.probe());
      ring.submit();
      check(!ring.isAnswered(request, QUIET_MS), 'the request was answered after GET_VRING_BASE');
    },
  },
  {
    id: 'ring.stop.suspended',
    title: 'While all rings are stopped nothing is written and nobody is called',
    level: 'must',
    spec: {
      section: 'vhost-user § Suspended device state',
      says: 'while all rings are stopped, the device must not write to guest memory and not notify the guest',
    },
    expected: 'memory and the call descriptor stay as they were when GET_VRING_BASE was answered',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing(256);
      ring.request();
      for (let i = 0; i < 100; i += 1) ring.place(plane.probe());
      ring.submit();
      ring.stop();
      const usedIndex = ring.raw.usedIndex;
      const memory = ring.scratch.copy();
      ring.wasCalled();
      ring.kick();
      rig.pause(QUIET_MS);
      check(ring.raw.usedIndex === usedIndex, 'the used index moved after GET_VRING_BASE was answered');
      check(ring.scratch.copy().equals(memory), 'a buffer was written after GET_VRING_BASE was answered');
      check(!ring.wasCalled(), 'the call descriptor was signalled after GET_VRING_BASE was answered');
    },
  },
  {
    id: 'ring.stop.keeps-enabled',
    title: 'A ring that is stopped stays enabled',
    level: 'must',
    spec: {
      section: STATES,
      says: 'started and enabled are independent states; GET_VRING_BASE stops a ring, it does not disable it',
    },
    expected: 'set up again without SET_VRING_ENABLE, the ring is processed',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      ring.request();
      ring.setUp({ base: ring.stop(), enable: false }).request();
    },
  },
];

/** A ring of a file system that can be written to, or there is nothing to see. */
function startWritable(plane: Plane): ProbedRing {
  const ring = plane.startRing();
  ring.request();
  const probe = effectProbe(nextName());
  const request = ring.place(probe);
  ring.submit();
  if (!ring.isAnswered(request, plane.rig.clock.timeoutMs)) ring.finish(request, 0);
  const wrong = probe.judge(request.writable[0]!.bytes, request.written);
  if (wrong !== undefined) skipped(`no directory can be made: ${wrong}`);
  return ring;
}

let names = 0;
const nextName = (): string => `conform-${process.pid}-${(names += 1)}`;

/** The ring is started and disabled. */
function expectNoEffect(plane: Plane, ring: ProbedRing): void {
  const probe = effectProbe(nextName());
  const request = ring.place(probe);
  ring.submit();
  // Answered without success it would have been discarded, as a network device discards packets: that is no effect.
  const isDone = ring.isAnswered(request, QUIET_MS);
  const reply = Buffer.concat(request.writable.map(({ bytes }) => bytes));
  check(
    !isDone || request.written === 0 || probe.judge(reply, request.written) !== undefined,
    'the request was carried out on a disabled ring',
  );
  ring.enable();
  ring.kick(); // whether the first one still counts is another case
  if (!isDone) ring.finish(request);
  ring.request({}, plane.probe());
}
