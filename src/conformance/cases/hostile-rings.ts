/** Avail rings that no driver may make, and what tells the front-end that a ring is lost. */
import type { ConformanceCase } from '../case.ts';
import { expectService } from '../hostile.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import { check } from '../verdict.ts';

const KNOWN = { device: ['fs', 'blk'] } as const;
const AVAIL = 'virtio 1.2 § 2.7.6';
const EXPECTED = 'the ring is stopped or goes on; a good request is answered once the ring was set up anew';
const NUM = 64;
/** How long the back-end may take to notice. */
const NOTICE_MS = 100;

const RINGS: readonly {
  readonly id: string;
  readonly title: string;
  readonly says: string;
  readonly act: (ring: ProbedRing) => void;
}[] = [
  {
    id: 'head-outside',
    title: 'A head outside the ring',
    says: 'entries of the avail ring are indices of descriptors',
    act: (ring) => {
      ring.raw.offer(5000);
      ring.submit();
    },
  },
  {
    id: 'head-last',
    title: 'A head just outside the ring',
    says: 'entries of the avail ring are indices of descriptors',
    act: (ring) => {
      ring.raw.offer(NUM);
      ring.submit();
    },
  },
  {
    id: 'index-jump',
    title: 'An avail index that jumps by more than the ring has entries',
    says: 'the index is incremented for each entry, of which there are at most as many as the ring has',
    act: (ring) => jump(ring, NUM + 1),
  },
  {
    id: 'index-far-jump',
    title: 'An avail index that jumps by 32768',
    says: 'the index is incremented for each entry, of which there are at most as many as the ring has',
    act: (ring) => jump(ring, 0x8000),
  },
  {
    id: 'index-back',
    title: 'An avail index that goes back by one',
    says: 'the driver must not decrement the avail index',
    act: (ring) => jump(ring, -1),
  },
  {
    id: 'stale-entries',
    title: 'An avail index that covers entries nobody wrote',
    says: 'the driver writes entries before it moves the index over them',
    act: (ring) => jump(ring, 20),
  },
];

export const HOSTILE_RING_CASES: readonly ConformanceCase[] = [
  ...RINGS.map(({ id, title, says, act }): ConformanceCase => ({
    id: `hostile.ring.${id}`,
    title,
    level: 'robustness',
    spec: { section: AVAIL, says },
    expected: EXPECTED,
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = start(rig);
      endureIndex(plane, ring, () => act(ring));
    },
  })),
  {
    id: 'hostile.ring.same-head-twice',
    title: 'One chain offered twice',
    level: 'robustness',
    spec: { section: AVAIL, says: 'a descriptor belongs to the device until it is given back' },
    expected: EXPECTED,
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = start(rig);
      endure(plane, ring, () => {
        const { head } = ring.place(plane.probe());
        ring.raw.offer(head);
        ring.submit();
      });
    },
  },
  {
    id: 'hostile.ring.answer-over-ring',
    title: 'An answer whose buffer is the descriptor table',
    level: 'robustness',
    spec: {
      section: 'virtio 1.2 § 2.7.5',
      says: 'buffers are the memory that the driver means for the device',
    },
    expected: EXPECTED,
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = start(rig);
      endure(plane, ring, () => {
        ring.place(plane.probe(), {
          place: (size, isWritable) =>
            isWritable ? { gpa: ring.raw.descGpa, bytes: new Uint8Array(size) } : ring.scratch.take(size),
        });
        ring.submit();
      });
    },
  },
  {
    id: 'hostile.ring.answer-over-used',
    title: 'An answer whose buffer is the used ring',
    level: 'robustness',
    spec: {
      section: 'virtio 1.2 § 2.7.5',
      says: 'buffers are the memory that the driver means for the device',
    },
    expected: EXPECTED,
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = start(rig);
      endure(plane, ring, () => {
        ring.place(plane.probe(), {
          place: (size, isWritable) =>
            isWritable ? { gpa: ring.raw.usedGpa, bytes: new Uint8Array(size) } : ring.scratch.take(size),
        });
        ring.submit();
      });
    },
  },
  {
    id: 'ring.err.signalled',
    title: 'Err is signalled when a ring cannot be served any more',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_VRING_ERR',
      says: 'the descriptor is the one to signal when an error occurs',
    },
    expected: 'an avail index that jumps is signalled, or taken for something that can be served',
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = start(rig);
      jump(ring, NUM + 1);
      const seen = (): boolean => ring.hasFailed();
      if (plane.waitUntil(seen, rig.clock.timeoutMs)) return;
      if (!plane.link.hasEnded())
        check(ring.raw.usedIndex !== 1, 'the ring is silent, and err was not signalled');
      expectService(plane, ring, false);
    },
  },
  {
    id: 'ring.err.set-up-again',
    title: 'A ring that was lost twice works when it is set up again',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Ring states',
      says: 'a ring is stopped by GET_VRING_BASE and started by a kick',
    },
    expected: 'a good request is answered each time',
    needs: KNOWN,
    run: (rig) => {
      const { plane, ring } = start(rig);
      for (let round = 0; round < 2; round += 1) {
        endureIndex(plane, ring, () => jump(ring, NUM + 1));
        ring.request();
      }
    },
  },
];

function start(rig: Parameters<ConformanceCase['run']>[0]): {
  readonly plane: Plane;
  readonly ring: ProbedRing;
} {
  const plane = new Plane(rig);
  const ring = plane.startRing(NUM);
  ring.request();
  return { plane, ring };
}

/** Publishes an index that is off by so many. */
function jump(ring: ProbedRing, by: number): void {
  ring.raw.publish(ring.raw.next + by);
  ring.kick();
}

/** The ring is lost to the driver, whatever the back-end makes of it; the connection is not. */
function endure(plane: Plane, ring: ProbedRing, act: () => void): void {
  act();
  plane.waitUntil(() => ring.hasFailed(), NOTICE_MS);
  expectService(plane, ring, false);
}

/** As `endure`; and nothing was made up. */
function endureIndex(plane: Plane, ring: ProbedRing, act: () => void): void {
  const before = ring.raw.usedIndex;
  endure(plane, ring, () => {
    act();
    plane.waitUntil(() => false, NOTICE_MS);
    const count = (ring.raw.usedIndex - before) & 0xffff;
    check(count <= NUM, `${count} chains were given back, the ring has ${NUM} entries`);
    for (let i = 0; i < count; i += 1) {
      const { id } = ring.raw.used((before + i) & 0xffff);
      check(id < NUM, `used element names head ${id}, the ring has ${NUM} entries`);
    }
  });
}
