/** Rings while what is around them changes: memory, the dirty log, a reset of the device. */
import { maskOf } from '../../../protocol/bits.ts';
import {
  VHOST_F_LOG_ALL,
  VHOST_LOG_PAGE,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_VRING_F_LOG,
} from '../../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { hex } from '../../units.ts';
import type { ConformanceCase } from '../case.ts';
import { DirtyLog } from '../dirty-log.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import type { Rig } from '../rig.ts';
import { check, hungUp } from '../verdict.ts';

const KNOWN = { device: ['fs', 'blk'] } as const;
const LOGGED = {
  ...KNOWN,
  features: [VHOST_F_LOG_ALL],
  protocolFeatures: ['REPLY_ACK', 'LOG_SHMFD'],
} as const;
const SLOTS = { ...KNOWN, protocolFeatures: ['CONFIGURE_MEM_SLOTS', 'REPLY_ACK'], memSlots: 2 } as const;
const MIGRATION = 'vhost-user § Migration';
const QUIET_MS = 120;

export const RING_SURROUNDING_CASES: readonly ConformanceCase[] = [
  {
    id: 'ring.log.used-element',
    title: 'The used element is marked where it lies, and the used index where it lies',
    level: 'must',
    spec: {
      section: MIGRATION,
      says: 'the write to the first byte of the used ring is logged at the log address, and so each byte after it',
    },
    expected: 'in a used ring of three pages, the page of the index and the page of the element',
    needs: LOGGED,
    run: (rig) => {
      for (const at of [0, 600, 1000]) {
        const { plane, ring, log } = startLogged(rig, 1024, at);
        const element = ring.raw.usedGpa + 4 + 8 * (ring.raw.usedIndex % 1024);
        log.clear();
        ring.request();
        expectMarked(log, ring.raw.usedGpa + 2, 'the used index');
        expectMarked(log, element, `used element ${at}`);
        ring.stop();
        plane.guest.link.accepts(R.SET_FEATURES, plane.link.features & ~maskOf(VHOST_F_LOG_ALL));
      }
    },
  },
  {
    id: 'ring.log.across-pages',
    title: 'All pages of an answer are marked',
    level: 'must',
    spec: {
      section: MIGRATION,
      says: 'all modifications of memory that descriptors point to should be marked',
    },
    expected: 'an answer that begins in one page and ends in the next: both',
    needs: LOGGED,
    run: (rig) => {
      const { plane, ring, log } = startLogged(rig);
      const pages = plane.guest.ram.allocate(2 * VHOST_LOG_PAGE, VHOST_LOG_PAGE);
      const at = VHOST_LOG_PAGE - 24;
      log.clear();
      ring.request({
        place: (size, isWritable) =>
          isWritable
            ? { gpa: pages.gpa + at, bytes: pages.bytes.subarray(at, at + size) }
            : ring.scratch.take(size),
      });
      expectMarked(log, pages.gpa, 'the page the answer begins in');
      expectMarked(log, pages.gpa + VHOST_LOG_PAGE, 'the page the answer ends in');
    },
  },
  {
    id: 'ring.log.each-descriptor',
    title: 'The pages of all descriptors of an answer are marked',
    level: 'must',
    spec: {
      section: MIGRATION,
      says: 'all modifications of memory that descriptors point to should be marked',
    },
    expected: 'an answer cut over three pages: all three',
    needs: LOGGED,
    run: (rig) => {
      const { plane, ring, log } = startLogged(rig);
      const pages: number[] = [];
      log.clear();
      ring.request({
        writable: [16, 8],
        place: (size, isWritable) => {
          if (!isWritable) return ring.scratch.take(size);
          const page = plane.guest.ram.allocate(VHOST_LOG_PAGE, VHOST_LOG_PAGE);
          pages.push(page.gpa);
          return { gpa: page.gpa, bytes: page.bytes.subarray(0, size) };
        },
      });
      for (const [i, gpa] of pages.entries()) expectMarked(log, gpa, `the page of writable descriptor ${i}`);
    },
  },
  {
    id: 'ring.reset.disables',
    title: 'RESET_DEVICE disables a ring that was enabled',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_RESET_DEVICE',
      says: 'asks the back-end to disable all rings and to reset all internal device state',
    },
    expected: 'set up again and not enabled, the ring serves nothing; enabled and kicked, it does',
    needs: { ...KNOWN, protocolFeatures: ['RESET_DEVICE'], features: [VHOST_USER_F_PROTOCOL_FEATURES] },
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      ring.stop();
      plane.link.accepts(R.RESET_DEVICE, undefined);
      // As at the beginning, features and memory table included: whether they stay is not said.
      plane.link.accepts(R.SET_FEATURES, plane.link.features);
      plane.guest.shareMemory('table');
      ring.setUp({ enable: false });
      const request = ring.place(rig.device.probe(0));
      ring.submit();
      check(!ring.isAnswered(request, QUIET_MS), 'a request was served on a ring that was not enabled again');
      ring.enable();
      ring.kick();
      ring.finish(request);
    },
  },
  {
    id: 'ring.memory.removed-and-added',
    title: 'A ring goes on when the region it lies in was removed and added again',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_REM_MEM_REG',
      says: 'the messages update the memory table; QEMU removes and adds a region to change its size',
    },
    expected: 'requests are answered before and after, the ring not set up again',
    needs: SLOTS,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      const { baseRegion: region, fd } = plane.guest.ram;
      const { link } = plane;
      link.accepts(R.REM_MEM_REG, { padding: 0n, region });
      link.accepts(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [fd] });
      ring.request();
    },
  },
  {
    id: 'ring.memory.table-refused',
    title: 'A table that is refused leaves the memory of a running ring alone',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_MEM_TABLE; § REPLY_ACK',
      says: 'failure is acknowledged with a non-zero value',
    },
    expected: 'requests are answered before and after a table with a descriptor that cannot be mapped',
    needs: { ...KNOWN, protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      const region = plane.guest.ram.baseRegion;
      const outcome = plane.link.tell(
        R.SET_MEM_TABLE,
        { padding: 0, regions: [region] },
        { fds: [rig.eventfd()] },
      );
      if (outcome === 'closed') hungUp('SET_MEM_TABLE: the connection was closed');
      check(outcome === 'refused', 'an eventfd was accepted as memory');
      ring.request();
    },
  },
  {
    id: 'ring.base.need-reply',
    title: 'GET_VRING_BASE with need_reply is answered once',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_PROTOCOL_F_REPLY_ACK',
      says: 'for messages that already solicit a reply, the flag brings no change of behaviour',
    },
    expected: 'one answer, the index',
    needs: { ...KNOWN, protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      ring.request();
      const { num } = rig.link.ask(R.GET_VRING_BASE, { index: ring.index, num: 0 }, { needReply: true });
      check(num === 1, `index ${num}, expected 1`);
      if (!rig.link.isAnswering()) hungUp('the connection was closed');
    },
  },
];

/** A ring that has served a request and is logged. @param base where it begins */
function startLogged(
  rig: Rig,
  num = 64,
  base = 0,
): { readonly plane: Plane; readonly ring: ProbedRing; readonly log: DirtyLog } {
  if (base !== 0) rig.reconnect();
  const plane = new Plane(rig);
  const log = new DirtyLog(rig);
  log.use(plane.guest);
  plane.link.accepts(R.SET_FEATURES, plane.link.features | maskOf(VHOST_F_LOG_ALL));
  const ring = plane.ring(num).setUp({ base, flags: VHOST_VRING_F_LOG });
  ring.request();
  return { plane, ring, log };
}

function expectMarked(log: DirtyLog, gpa: number, what: string): void {
  check(log.isDirty(gpa), `${what}: the page at ${hex(gpa)} was written and is not marked`);
}
