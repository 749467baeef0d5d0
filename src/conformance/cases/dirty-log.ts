/** The dirty log: what live migration copies again. A page that is written and not logged is lost. */
import { VHOST_F_LOG_ALL } from '../../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { GiB, hex } from '../../units.ts';
import type { CaseNeeds, ConformanceCase } from '../case.ts';
import { DirtyLog, LOG_SIZE, startLogging, stopLogging } from '../dirty-log.ts';
import type { Guest } from '../guest.ts';
import type { Rig } from '../rig.ts';
import { check, hungUp } from '../verdict.ts';

const NEEDS: CaseNeeds = {
  protocolFeatures: ['REPLY_ACK', 'LOG_SHMFD'],
  features: [VHOST_F_LOG_ALL],
  device: ['fs', 'blk'],
};
const HOT: CaseNeeds = { ...NEEDS, protocolFeatures: ['REPLY_ACK', 'LOG_SHMFD', 'CONFIGURE_MEM_SLOTS'] };
const MIGRATION = 'vhost-user § Migration';
const MARKED = {
  section: MIGRATION,
  says: 'with LOG_ALL, all modifications of memory that descriptors point to are marked, a bit for each 4 KiB of guest memory',
};
const BUFFER = 4096;

/** Makes a request whose answer goes there, and looks whether its page is marked. */
function expectLogged(guest: Guest, log: DirtyLog, slot: number, what: string): void {
  const out = guest.ram.slotBuffer(slot, 0, BUFFER);
  guest.request({ out });
  check(log.isDirty(out.gpa), `${what}: the page at ${hex(out.gpa)} was written and is not marked`);
}

/** Makes a request whose answer goes to the base region. */
function expectBaseLogged(guest: Guest, log: DirtyLog, what: string): void {
  const out = guest.ram.allocate(BUFFER, BUFFER);
  guest.request({ out });
  check(log.isDirty(out.gpa), `${what}: the page at ${hex(out.gpa)} was written and is not marked`);
}

export const DIRTY_LOG_CASES: readonly ConformanceCase[] = [
  {
    id: 'log.base.answered',
    title: 'SET_LOG_BASE is answered',
    level: 'must',
    spec: {
      section: 'vhost-user § Communication',
      says: 'SET_LOG_BASE is in the list of requests that have a reply, if LOG_SHMFD was negotiated',
    },
    expected: 'an answer, whatever it carries',
    needs: { protocolFeatures: ['LOG_SHMFD'] },
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(LOG_SIZE);
      link.send(R.SET_LOG_BASE, { mmapSize: BigInt(LOG_SIZE), mmapOffset: 0n }, { fds: [memory.fd] });
      link.expectReply('SET_LOG_BASE');
    },
  },
  {
    id: 'log.data',
    title: 'A page the device writes is marked',
    level: 'must',
    spec: MARKED,
    expected: 'the page of the answer is marked in the log',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      guest.request();
      const log = new DirtyLog(rig);
      startLogging(guest, log);
      expectBaseLogged(guest, log, 'LOG_ALL is set');
    },
  },
  {
    id: 'log.used-ring',
    title: 'The used ring is marked at the log address of the ring',
    level: 'must',
    spec: {
      section: MIGRATION,
      says: 'modifications of the used ring are marked if VHOST_VRING_F_LOG is set, at log_guest_addr',
    },
    expected: 'the page of the log address is marked',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      const log = new DirtyLog(rig);
      startLogging(guest, log);
      guest.request();
      const { usedGpa } = guest.queues[rig.device.requestQueue]!.driver;
      check(log.isDirty(usedGpa), `the used ring at ${hex(usedGpa)} is not marked`);
    },
  },
  {
    id: 'log.added-before',
    title: 'A region that was there before logging began is logged',
    level: 'must',
    spec: MARKED,
    expected: 'the page of an answer in it is marked',
    needs: HOT,
    run: (rig) => {
      const guest = rig.startGuest();
      guest.addSlot(0);
      const log = new DirtyLog(rig);
      startLogging(guest, log);
      expectLogged(guest, log, 0, 'added before SET_LOG_BASE');
    },
  },
  {
    id: 'log.added-after',
    title: 'A region that is added while logging is logged',
    level: 'must',
    spec: {
      section: MIGRATION,
      says: 'all modifications of memory that descriptors point to are marked; the log covers all known guest addresses',
    },
    expected: 'the page of an answer in it is marked',
    needs: HOT,
    run: (rig) => {
      const guest = rig.startGuest();
      const log = new DirtyLog(rig);
      startLogging(guest, log);
      guest.addSlot(0);
      expectLogged(guest, log, 0, 'added after SET_LOG_BASE');
    },
  },
  {
    id: 'log.table-after',
    title: 'A table that comes while logging is logged',
    level: 'must',
    spec: MARKED,
    expected: 'the page of an answer in a region of the new table is marked',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.guest();
      guest.negotiate();
      guest.shareMemory('table');
      guest.startRings();
      const log = new DirtyLog(rig);
      startLogging(guest, log);
      const regions = [guest.ram.baseRegion, guest.ram.slotRegion(1)];
      guest.link.accepts(R.SET_MEM_TABLE, { padding: 0, regions }, { fds: [guest.ram.fd, guest.ram.fd] });
      expectLogged(guest, log, 1, 'in the second table');
      expectBaseLogged(guest, log, 'in both tables');
    },
  },
  {
    id: 'log.offset',
    title: 'A log that begins within its file is written there',
    level: 'must',
    spec: {
      section: MIGRATION,
      says: 'the log starts at the supplied offset in the supplied file descriptor',
    },
    expected: 'the page of the answer is marked behind the offset',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      const log = new DirtyLog(rig, 0x1_0000);
      startLogging(guest, log);
      expectBaseLogged(guest, log, 'log at offset 0x10000');
    },
  },
  {
    id: 'log.replaced',
    title: 'A second SET_LOG_BASE moves the log',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_LOG_BASE',
      says: 'sets the shared memory that is logged into',
    },
    expected: 'pages are marked in the second log',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      startLogging(guest, new DirtyLog(rig));
      guest.request();
      const log = new DirtyLog(rig);
      log.use(guest);
      expectBaseLogged(guest, log, 'after the second SET_LOG_BASE');
    },
  },
  {
    id: 'log.again',
    title: 'Logging can be stopped and started again, as by a second migration',
    level: 'must',
    spec: {
      section: MIGRATION,
      says: 'to start and stop logging, SET_FEATURES with and without LOG_ALL and SET_VRING_ADDR with and without the flag are sent',
    },
    expected: 'pages are marked the second time',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      const first = new DirtyLog(rig);
      startLogging(guest, first);
      expectBaseLogged(guest, first, 'the first time');
      stopLogging(guest);
      guest.request();
      const second = new DirtyLog(rig);
      startLogging(guest, second);
      expectBaseLogged(guest, second, 'the second time');
    },
  },
  {
    id: 'log.stopped',
    title: 'When logging has stopped, nothing is marked',
    level: 'should',
    spec: { section: MIGRATION, says: 'logging stops with SET_FEATURES without LOG_ALL' },
    expected: 'the log stays as it is',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      const log = new DirtyLog(rig);
      startLogging(guest, log);
      guest.request();
      stopLogging(guest);
      log.clear();
      guest.request();
      check(log.count() === 0, `${log.count()} pages were marked`);
    },
  },
  {
    id: 'log.too-small',
    title: 'A log that does not cover the memory is refused, or at least not written beyond its end',
    level: 'robustness',
    spec: {
      section: MIGRATION,
      says: 'the log should be large enough to cover all known guest addresses',
    },
    expected: 'the connection lives on, and requests are answered',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      const gpa = 64 * GiB;
      const memory = rig.memory(0x1_0000);
      const regions = [guest.ram.baseRegion, memory.region({ gpa })];
      guest.link.accepts(R.SET_MEM_TABLE, { padding: 0, regions }, { fds: [guest.ram.fd, memory.fd] });
      guest.request();
      const log = new DirtyLog(rig);
      startLoggingAnyhow(guest, log, rig);
      guest.isAnswered(guest.submit({ out: { gpa, bytes: memory.bytes } }), 50);
    },
  },
  {
    id: 'log.no-descriptor',
    title: 'SET_LOG_BASE without descriptor is refused',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_LOG_BASE',
      says: 'with LOG_SHMFD the descriptor of the log is in the ancillary data',
    },
    expected: 'answered, and the connection lives on',
    needs: { protocolFeatures: ['LOG_SHMFD'] },
    run: (rig) => {
      const link = rig.negotiate();
      link.send(R.SET_LOG_BASE, { mmapSize: BigInt(LOG_SIZE), mmapOffset: 0n });
      link.expectReply('SET_LOG_BASE');
    },
  },
  {
    id: 'log.past-end',
    title: 'A log longer than its file does not crash the back-end',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_LOG_BASE',
      says: 'size and offset of the shared memory area are in the message',
    },
    expected: 'answered, and the connection lives on',
    needs: { protocolFeatures: ['LOG_SHMFD'] },
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(0x1000);
      link.send(R.SET_LOG_BASE, { mmapSize: 1n << 40n, mmapOffset: 1n << 40n }, { fds: [memory.fd] });
      link.expectReply('SET_LOG_BASE');
    },
  },
];

/** As `startLogging`, where refusals are in order. */
function startLoggingAnyhow(guest: Guest, log: DirtyLog, rig: Rig): void {
  log.use(guest);
  const logging = guest.link.features | (1n << BigInt(VHOST_F_LOG_ALL));
  guest.link.survives(R.SET_FEATURES, logging);
  if (rig.link.hasEnded()) hungUp('the connection was closed');
}
