/** SET_MEM_TABLE: the whole table at once. */
import type { MemoryRegionDescription } from '../../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { GiB } from '../../units.ts';
import type { CaseNeeds, ConformanceCase, Level } from '../case.ts';
import type { Guest } from '../guest.ts';
import type { Outcome } from '../link.ts';
import type { Rig } from '../rig.ts';
import { check, hungUp, skipped } from '../verdict.ts';

const ACK: CaseNeeds = { protocolFeatures: ['REPLY_ACK'] };
const TABLE = {
  section: 'vhost-user § VHOST_USER_SET_MEM_TABLE',
  says: 'sets the memory map of the back-end; number and order of the descriptors match those of the regions',
};
const ON_THE_FLY = {
  section: 'vhost-user § Ring states',
  says: 'while processing rings, the back-end must support changing some configuration aspects on the fly',
};

/** Regions the specification draws in a table. */
const BASELINE = 8;
const SIZE = 0x1_0000;
const GPA = 4 * GiB;

/** A table of so many regions, all of one memory. */
function tell(rig: Rig, regions: number, fds = regions): Outcome {
  const link = rig.negotiate();
  const memory = rig.memory(Math.max(1, regions) * SIZE);
  return link.tell(
    R.SET_MEM_TABLE,
    {
      padding: 0,
      regions: Array.from({ length: regions }, (_, i) =>
        memory.region({ gpa: GPA + i * 2 * SIZE, size: SIZE, offset: i * SIZE }),
      ),
    },
    { fds: Array.from({ length: fds }, () => memory.fd) },
  );
}

const odd = (id: string, title: string, regions: number): ConformanceCase => ({
  id: `memory.table.${id}`,
  title,
  level: 'robustness',
  spec: {
    section: 'vhost-user § Memory regions description',
    says: `a table has a 32-bit number of regions, drawn as region 0 to region ${BASELINE - 1}`,
  },
  expected: 'accepted or refused, and the connection lives on',
  needs: ACK,
  run: (rig) => {
    if (tell(rig, regions) === 'closed') hungUp(`${regions} regions: the connection was closed`);
  },
});

/** A request whose buffers lie in two memories beside that of the rings; the table in the order the case is about. */
const ordered = (
  id: string,
  title: string,
  level: Level,
  spec: ConformanceCase['spec'],
  arrange: (table: readonly TableEntry[]) => readonly TableEntry[],
): ConformanceCase => ({
  id: `memory.table.${id}`,
  title,
  level,
  spec,
  expected: 'a request with buffers in three memories, each with its own descriptor, is answered',
  needs: { ...ACK, device: ['fs', 'blk'] },
  run: (rig) => {
    const guest = rig.guest();
    guest.negotiate();
    const [readable, writable] = [rig.memory(SIZE), rig.memory(SIZE)];
    const table = arrange([
      { region: guest.ram.baseRegion, fd: guest.ram.fd },
      { region: readable.region({ gpa: GPA }), fd: readable.fd },
      { region: writable.region({ gpa: GPA + SIZE }), fd: writable.fd },
    ]);
    guest.link.accepts(
      R.SET_MEM_TABLE,
      { padding: 0, regions: table.map(({ region }) => region) },
      { fds: table.map(({ fd }) => fd) },
    );
    guest.startRings();
    guest.request({
      in: { gpa: GPA, bytes: readable.bytes },
      out: { gpa: GPA + SIZE, bytes: writable.bytes },
    });
  },
});

interface TableEntry {
  readonly region: MemoryRegionDescription;
  readonly fd: number;
}

/** Tells a table of the base region and these slots. */
function setTable(guest: Guest, slots: readonly number[]): void {
  const regions: MemoryRegionDescription[] = [
    guest.ram.baseRegion,
    ...slots.map((slot) => guest.ram.slotRegion(slot)),
  ];
  guest.link.accepts(R.SET_MEM_TABLE, { padding: 0, regions }, { fds: regions.map(() => guest.ram.fd) });
}

export const MEMORY_TABLE_CASES: readonly ConformanceCase[] = [
  ...[1, 2, BASELINE].map((regions): ConformanceCase => ({
    id: `memory.table.${regions}`,
    title: `A table of ${regions} region${regions === 1 ? '' : 's'} is accepted`,
    level: 'must',
    spec: TABLE,
    expected: 'accepted',
    needs: ACK,
    run: (rig) => {
      const outcome = tell(rig, regions);
      if (outcome === 'closed') hungUp('the connection was closed');
      check(outcome === 'accepted', `the table was ${outcome}`);
    },
  })),
  odd('0', 'A table of no regions does no harm', 0),
  odd('9', 'A table of 9 regions does no harm', 9),
  odd('33', 'A table of 33 regions does no harm', 33),
  odd('250', 'A table of 250 regions does no harm', 250),
  {
    id: 'memory.table.descriptors-missing',
    title: 'A table of 4 regions with 3 descriptors is refused',
    level: 'robustness',
    spec: TABLE,
    expected: 'a non-zero ack, and the connection lives on',
    needs: ACK,
    run: (rig) => {
      const outcome = tell(rig, 4, 3);
      if (outcome === 'closed') hungUp('4 regions, 3 descriptors: the connection was closed');
      check(outcome === 'refused', `4 regions with 3 descriptors: ${outcome}`);
    },
  },
  {
    id: 'memory.table.descriptors-surplus',
    title: 'A table of 1 region with 3 descriptors does no harm',
    level: 'robustness',
    spec: TABLE,
    expected: 'accepted or refused, and the connection lives on',
    needs: ACK,
    run: (rig) => {
      if (tell(rig, 1, 3) === 'closed') hungUp('1 region, 3 descriptors: the connection was closed');
    },
  },
  {
    id: 'memory.table.count-lies',
    title: 'A table that claims more regions than its payload holds is refused',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Memory regions description',
      says: 'the number of regions, then each of them',
    },
    expected: 'refused, or the connection is closed; whoever connects then is served',
    needs: ACK,
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(SIZE);
      const payload = Buffer.from(R.SET_MEM_TABLE.payload.encode({ padding: 0, regions: [memory.region()] }));
      payload.writeUInt32LE(8, 0);
      const outcome = link.tellFrame({ request: 5, flags: 9, payload }, [memory.fd]);
      check(outcome !== 'accepted', '8 regions in 40 octets were accepted');
    },
  },
  {
    id: 'memory.table.overlap',
    title: 'A table whose regions share guest addresses is refused',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Memory access',
      says: 'a guest address maps to the region that contains it, of which there is one',
    },
    expected: 'a non-zero ack, and the connection lives on',
    needs: ACK,
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(2 * SIZE);
      const regions = [
        memory.region({ gpa: GPA, size: SIZE }),
        memory.region({ gpa: GPA + SIZE / 2, size: SIZE, offset: SIZE }),
      ];
      link.refuses(R.SET_MEM_TABLE, { padding: 0, regions }, { fds: [memory.fd, memory.fd] });
    },
  },
  {
    id: 'memory.table.past-end',
    title: 'A table with a region longer than its file is refused',
    level: 'robustness',
    spec: TABLE,
    expected: 'a non-zero ack, and the connection lives on',
    needs: ACK,
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(SIZE);
      const regions = [memory.region({ gpa: GPA, size: 4 * SIZE })];
      link.refuses(R.SET_MEM_TABLE, { padding: 0, regions }, { fds: [memory.fd] });
    },
  },
  ordered('order', 'Descriptors belong to regions in their order', 'must', TABLE, (regions) => regions),
  ordered(
    'unsorted',
    'Regions of a table may come in any order of their addresses',
    'should',
    {
      section: 'vhost-user § Memory regions description',
      says: 'a table is a number of regions; no order of their addresses is named',
    },
    (regions) => regions.toReversed(),
  ),
  {
    id: 'memory.table.without-stopped-ring',
    title: 'A table may leave out the memory of a ring that is stopped',
    level: 'should',
    spec: {
      section: TABLE.section,
      says: 'sets the memory map, so that vring addresses can be translated; a stopped ring is not processed at all',
    },
    expected: 'accepted, and a ring set up in the new memory is served',
    needs: { ...ACK, device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = rig.guest();
      guest.negotiate();
      guest.shareMemory('table');
      guest.startRings();
      guest.request();
      guest.stopRings();
      const moved = rig.guest();
      moved.shareMemory('table');
      moved.startRings();
      moved.request();
    },
  },
  {
    id: 'memory.table.replaces',
    title: 'A second table replaces the first: what is not in it is unmapped',
    level: 'must',
    spec: { section: TABLE.section, says: 'sets the memory map regions on the back-end' },
    expected: 'the memory of the first table is not mapped after the second',
    needs: { ...ACK, process: true },
    run: (rig) => {
      const link = rig.negotiate();
      const [gone, kept] = [rig.memory(SIZE, rig.label('gone')), rig.memory(SIZE)];
      link.accepts(R.SET_MEM_TABLE, { padding: 0, regions: [gone.region({ gpa: GPA })] }, { fds: [gone.fd] });
      if (rig.backendMapped(rig.label('gone')) === 0)
        skipped('the memory is not seen in the process of the command: another one serves');
      link.accepts(R.SET_MEM_TABLE, { padding: 0, regions: [kept.region({ gpa: GPA })] }, { fds: [kept.fd] });
      check(
        rig.becomes(() => rig.backendMapped(rig.label('gone')) === 0),
        `${rig.backendMapped(rig.label('gone'))} bytes are still mapped`,
      );
    },
  },
  {
    id: 'memory.table.running',
    title: 'A table with the same region and another may come while rings run',
    level: 'must',
    spec: ON_THE_FLY,
    expected: 'requests before and after are answered, also with buffers in the new region',
    needs: { ...ACK, device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = rig.guest();
      guest.negotiate();
      setTable(guest, []);
      guest.startRings();
      guest.request();
      for (const slots of [[0], [0, 1], [1]]) {
        setTable(guest, slots);
        guest.request();
        const slot = slots.at(-1)!;
        guest.request({
          in: guest.ram.slotBuffer(slot, 0, 4096),
          out: guest.ram.slotBuffer(slot, 8192, 4096),
        });
      }
    },
  },
  {
    id: 'memory.table.then-add',
    title: 'ADD_MEM_REG and REM_MEM_REG change what SET_MEM_TABLE has set',
    level: 'should',
    spec: {
      section: 'vhost-user § Memory access',
      says: 'the front-end sends a list with SET_MEM_TABLE; regions can be added and removed by message',
    },
    expected: 'after SET_MEM_TABLE, an added region serves, and a region of the table can be removed',
    needs: { protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'], device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = rig.guest();
      guest.negotiate();
      setTable(guest, [0]);
      guest.startRings();
      guest.addSlot(1);
      guest.request({ in: guest.ram.slotBuffer(0, 0, 4096), out: guest.ram.slotBuffer(1, 0, 4096) });
      guest.removeSlot(0);
      guest.request({ in: guest.ram.slotBuffer(1, 0, 4096) });
    },
  },
  {
    id: 'memory.table.after-add',
    title: 'SET_MEM_TABLE replaces regions that were added one by one',
    level: 'should',
    spec: { section: TABLE.section, says: 'sets the memory map regions on the back-end' },
    expected: 'a region that ADD_MEM_REG brought is not mapped after the table',
    needs: { protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'], process: true },
    run: (rig) => {
      const link = rig.negotiate();
      const [gone, kept] = [rig.memory(SIZE, rig.label('gone')), rig.memory(SIZE)];
      link.accepts(R.ADD_MEM_REG, { padding: 0n, region: gone.region({ gpa: GPA }) }, { fds: [gone.fd] });
      const regions = [kept.region({ gpa: GPA + SIZE })];
      link.accepts(R.SET_MEM_TABLE, { padding: 0, regions }, { fds: [kept.fd] });
      check(
        rig.becomes(() => rig.backendMapped(rig.label('gone')) === 0),
        `${rig.backendMapped(rig.label('gone'))} bytes are still mapped`,
      );
    },
  },
];
