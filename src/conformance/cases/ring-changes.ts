/** What may change while rings run, and rings that are set up anew. */
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { setNonBlocking, signalEventfd } from '../../host/eventfd.ts';
import { createPipe } from '../../host/pipe.ts';
import type { ConformanceCase } from '../case.ts';
import { Plane } from '../plane.ts';
import { check } from '../verdict.ts';

const STATES = 'vhost-user § Ring states';
const KICK = 'vhost-user § VHOST_USER_SET_VRING_KICK';
const CALL = 'vhost-user § VHOST_USER_SET_VRING_CALL';
const KNOWN = { device: ['fs', 'blk'] } as const;
const ON_THE_FLY =
  'while processing the rings, the back-end must support changing some configuration aspects on the fly';
const NO_FD = 0x100n;
const QUIET_MS = 60;

export const RING_CHANGE_CASES: readonly ConformanceCase[] = [
  {
    id: 'ring.kick.replaced',
    title: 'The kick descriptor of a running ring may be replaced',
    level: 'should',
    spec: { section: STATES, says: ON_THE_FLY },
    expected: 'requests kicked with the new descriptor are answered',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      ring.request();
      for (let i = 0; i < 3; i += 1) {
        ring.kickFd = rig.eventfd();
        rig.link.accepts(R.SET_VRING_KICK, BigInt(ring.index), { fds: [ring.kickFd] });
        ring.request();
        ring.request();
      }
    },
  },
  {
    id: 'ring.kick.replaced-signalled',
    title: 'A kick descriptor that is readable when it replaces another is a kick',
    level: 'should',
    spec: { section: STATES, says: 'a kick is detecting that the descriptor is readable' },
    expected: 'the request is answered without another kick',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      const request = ring.place(plane.probe());
      ring.raw.publish();
      ring.kickFd = rig.eventfd();
      signalEventfd(ring.kickFd);
      rig.link.accepts(R.SET_VRING_KICK, BigInt(ring.index), { fds: [ring.kickFd] });
      ring.finish(request);
    },
  },
  {
    id: 'ring.kick.spurious',
    title: 'Kicks without requests are harmless',
    level: 'must',
    spec: {
      section: 'virtio 1.2 § 2.7.10.2',
      says: 'the device must handle spurious notifications from the driver',
    },
    expected: 'nothing appears in the used ring, and the next request is answered',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      ring.request();
      for (let i = 0; i < 200; i += 1) ring.kick();
      rig.pause(20);
      check(ring.collect() === 0, 'something was given back');
      ring.request();
    },
  },
  {
    id: 'ring.kick.polled',
    title: 'Without a kick descriptor the ring is polled',
    level: 'should',
    spec: {
      section: KICK,
      says: 'the invalid-fd flag signals that polling should be used instead of waiting',
    },
    expected: 'requests are answered though nobody kicks',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.ring().setUp({ kick: 'poll' });
      for (let i = 0; i < 3; i += 1) {
        const request = ring.place(plane.probe());
        ring.raw.publish();
        ring.finish(request);
      }
    },
  },
  {
    id: 'ring.kick.pipe',
    title: 'A kick may come through a pipe',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Support for platforms other than Linux',
      says: 'where there is no eventfd, pipes are used: each event is 8 octets that mean nothing',
    },
    expected: 'requests are answered; more kicks than a pipe holds do no harm',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).ring().setUp({ kick: false });
      const { reader, writer } = createPipe();
      rig.own(writer);
      setNonBlocking(writer.fd);
      rig.link.accepts(R.SET_VRING_KICK, BigInt(ring.index), { fds: [rig.own(reader).fd] });
      ring.kickFd = writer.fd;
      for (let i = 0; i < 20; i += 1) {
        ring.request();
        for (let kicks = 0; kicks < 50; kicks += 1) ring.kick();
      }
    },
  },
  {
    id: 'ring.call.replaced',
    title: 'The call descriptor of a running ring may be replaced',
    level: 'should',
    spec: { section: STATES, says: ON_THE_FLY },
    expected: 'calls come through the new descriptor, and through the old one no more',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      plane.waitUntil(() => ring.wasCalled(), rig.clock.timeoutMs);
      const old = ring.callFd;
      ring.callFd = rig.eventfd();
      rig.link.accepts(R.SET_VRING_CALL, BigInt(ring.index), { fds: [ring.callFd] });
      ring.raw.usedEvent = ring.raw.usedIndex;
      ring.request();
      check(
        plane.waitUntil(() => ring.wasCalled(), rig.clock.timeoutMs),
        'no call through the new descriptor',
      );
      ring.callFd = old;
      check(!ring.wasCalled(), 'a call through the old descriptor');
    },
  },
  {
    id: 'ring.call.none',
    title: 'A ring works without a call descriptor',
    level: 'should',
    spec: {
      section: CALL,
      says: 'the invalid-fd flag signals that the front-end polls instead of waiting for calls',
    },
    expected: 'requests are answered and nobody is called',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      rig.link.accepts(R.SET_VRING_CALL, BigInt(ring.index) | NO_FD);
      ring.wasCalled(); // a call before that was the driver's
      ring.wasCalled(); // what came before it was given up does not count
      for (let i = 0; i < 3; i += 1) ring.request();
      rig.pause(QUIET_MS);
      check(!ring.wasCalled(), 'a call through the descriptor that was given up');
    },
  },
  {
    id: 'ring.err.none',
    title: 'A ring works without an err descriptor',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_VRING_ERR',
      says: 'the invalid-fd flag is set when there is no descriptor',
    },
    expected: 'requests are answered',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      rig.link.accepts(R.SET_VRING_ERR, BigInt(ring.index) | NO_FD);
      for (let i = 0; i < 3; i += 1) ring.request();
    },
  },
  {
    id: 'ring.addr.same-again',
    title: 'SET_VRING_ADDR of a running ring with its own addresses changes nothing',
    level: 'should',
    spec: {
      section: 'vhost-user § Migration',
      says: 'to start and stop logging of the used ring the front-end may send SET_VRING_ADDR with another flag',
    },
    expected: 'requests are answered before and after',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      for (let i = 0; i < 4; i += 1) {
        ring.request();
        ring.tellAddresses();
      }
      ring.request();
    },
  },
  {
    id: 'ring.again.elsewhere',
    title: 'A stopped ring may be set up with another size at another place',
    level: 'must',
    spec: { section: STATES, says: 'a ring is started by a kick on whatever it was set up with last' },
    expected: 'rings of 64, 16 and 256 entries work one after the other',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      for (const num of [64, 16, 256]) {
        const ring = plane.startRing(num);
        ring.request();
        for (let i = 0; i < 20; i += 1) {
          // Heads that differ, so that no entry can be taken for another.
          const requests = Array.from({ length: 3 }, () => ring.place(plane.probe()));
          ring.submit();
          for (const request of requests) ring.finish(request);
        }
        ring.stop();
      }
    },
  },
  {
    id: 'ring.again.from-zero',
    title: 'A stopped ring may begin at index 0 again',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_VRING_BASE',
      says: 'sets the next index to process; after a reset of the device by its driver that is 0',
    },
    expected: 'the requests of each round are answered',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing(16);
      for (let round = 0; round < 3; round += 1) {
        for (let i = 0; i < 5 + round; i += 1) ring.request();
        ring.stop();
        ring.setUp();
      }
      ring.request();
    },
  },
  {
    id: 'ring.again.stop-twice',
    title: 'GET_VRING_BASE of a stopped ring is answered',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_VRING_BASE',
      says: 'stops the ring and returns the index; the message is always replied to',
    },
    expected: 'the second answer is as the first',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      for (let i = 0; i < 3; i += 1) ring.request();
      const first = ring.stop();
      const second = ring.stop();
      check(first === second, `index ${first}, then ${second}`);
    },
  },
];
