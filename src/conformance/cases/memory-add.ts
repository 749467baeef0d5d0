/** ADD_MEM_REG and REM_MEM_REG: what works, and what must be refused. */
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { GiB, KiB, MiB } from '../../units.ts';
import type { CaseNeeds, ConformanceCase } from '../case.ts';
import type { Link } from '../link.ts';
import type { Rig } from '../rig.ts';
import type { RegionChange, SharedMemory } from '../shared-memory.ts';
import { check, skipped } from '../verdict.ts';

const SLOTS: CaseNeeds = { protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'] };
const ADD = {
  section: 'vhost-user § VHOST_USER_ADD_MEM_REG',
  says: 'describes a region of guest memory which the back-end must map in',
};
const REM = {
  section: 'vhost-user § VHOST_USER_REM_MEM_REG',
  says: 'the region to remove is identified by its guest address, user address and size; the mmap offset is ignored',
};
const REFUSED = 'a non-zero ack, and the connection lives on';

const SIZE = MiB;
const PAGE = 0x1000;
/** Where the regions of these cases lie. */
const GPA = 4 * GiB;

interface Context {
  readonly rig: Rig;
  readonly link: Link;
  readonly memory: SharedMemory;
  readonly add: (change: RegionChange, fds?: readonly number[]) => void;
}

const withMemory = (rig: Rig): Context => {
  const link = rig.negotiate();
  const memory = rig.memory(SIZE);
  const add = (change: RegionChange, fds: readonly number[] = [memory.fd]): void =>
    link.accepts(R.ADD_MEM_REG, { padding: 0n, region: memory.region(change) }, { fds });
  return { rig, link, memory, add };
};

interface Refusal {
  readonly id: string;
  readonly title: string;
  readonly change?: RegionChange;
  /** What comes with it; the region's memory unless said otherwise. */
  readonly fds?: (context: Context) => readonly number[];
  /** What is there before. */
  readonly before?: RegionChange;
}

const REFUSALS: readonly Refusal[] = [
  {
    id: 'overlap-guest',
    title: 'A region that shares guest addresses with another is refused',
    before: { gpa: GPA, size: SIZE / 2 },
    change: { gpa: GPA + SIZE / 4, size: SIZE / 2, offset: SIZE / 2 },
  },
  {
    id: 'overlap-first-page',
    title: 'A region whose last page is the first of another is refused',
    before: { gpa: GPA, size: SIZE / 2 },
    change: { gpa: GPA - SIZE / 2 + PAGE, size: SIZE / 2, offset: SIZE / 2 },
  },
  {
    id: 'identical',
    title: 'A region that is there already is refused',
    before: { gpa: GPA },
    change: { gpa: GPA },
  },
  { id: 'past-end', title: 'A region longer than its file is refused', change: { gpa: GPA, size: 2 * SIZE } },
  {
    id: 'offset-past-end',
    title: 'A region that begins behind the end of its file is refused',
    change: { gpa: GPA, size: SIZE, offset: SIZE },
  },
  { id: 'size-0', title: 'A region of size 0 is refused', change: { gpa: GPA, size: 0 } },
  {
    id: 'size-huge',
    title: 'A region of 2^63 bytes is refused',
    change: { gpa: 0, size: 1n << 63n },
  },
  {
    id: 'guest-wrap',
    title: 'A region that wraps around the guest address space is refused',
    change: { gpa: 0xffff_ffff_fff8_0000n },
  },
  {
    id: 'user-wrap',
    title: 'A region that wraps around the user address space is refused',
    change: { gpa: GPA, user: 0xffff_ffff_fff8_0000n },
  },
  {
    id: 'offset-wrap',
    title: 'A region whose offset and size wrap around is refused',
    change: { gpa: GPA, offset: 0xffff_ffff_fff8_0000n, user: 0x7f00_0000_0000n },
  },
  {
    id: 'no-descriptor',
    title: 'A region without descriptor is refused',
    change: { gpa: GPA },
    fds: () => [],
  },
  {
    id: 'two-descriptors',
    title: 'A region with two descriptors is refused',
    change: { gpa: GPA },
    fds: ({ rig, memory }) => [memory.fd, rig.memory(PAGE, rig.label('stray')).fd],
  },
  {
    id: 'eventfd',
    title: 'A region whose descriptor cannot be mapped is refused',
    change: { gpa: GPA },
    fds: ({ rig }) => [rig.eventfd()],
  },
];

const refusal = ({ id, title, change, before, fds }: Refusal): ConformanceCase => ({
  id: `memory.add.${id}`,
  title,
  level: 'robustness',
  spec:
    id === 'no-descriptor' || id === 'two-descriptors'
      ? {
          section: ADD.section,
          says: 'exactly one file descriptor from which the memory is mapped is in the ancillary data',
        }
      : ADD,
  expected: REFUSED,
  needs: SLOTS,
  run: (rig) => {
    const context = withMemory(rig);
    const { link, memory } = context;
    if (before !== undefined) context.add(before);
    const sent = fds?.(context) ?? [memory.fd];
    link.refuses(R.ADD_MEM_REG, { padding: 0n, region: memory.region(change) }, { fds: sent });
    if (rig.pid === undefined) return;
    check(
      rig.becomes(() => rig.backendHolds(rig.label('stray')) === 0),
      'a descriptor is still open in the back-end',
    );
  },
});

const wrong = (id: string, what: string, change: RegionChange): ConformanceCase => ({
  id: `memory.remove.${id}`,
  title: `REM_MEM_REG with ${what} of no region removes none`,
  level: 'should',
  spec: REM,
  expected: 'not accepted, and if the connection lives on, the region can still be removed',
  needs: SLOTS,
  aftermath: 'new connection',
  run: (rig) => {
    const { link, memory, add } = withMemory(rig);
    add({ gpa: GPA });
    const asked = memory.region({ gpa: GPA, ...change });
    const outcome = link.tell(R.REM_MEM_REG, { padding: 0n, region: asked });
    // Some acknowledge everything, and then give the connection up over what they could not do.
    if (!link.isAnswering()) return;
    check(outcome !== 'accepted', `REM_MEM_REG with ${what} of no region was accepted`);
    const again = link.tell(R.REM_MEM_REG, { padding: 0n, region: memory.region({ gpa: GPA }) });
    check(again !== 'refused', 'the region is gone all the same');
  },
});

export const MEMORY_ADD_CASES: readonly ConformanceCase[] = [
  ...REFUSALS.map(refusal),
  {
    id: 'memory.add.refused-is-repeatable',
    title: 'What was refused once can be put right',
    level: 'robustness',
    spec: ADD,
    expected: 'after a refused region of the same addresses, the good one is accepted',
    needs: SLOTS,
    run: (rig) => {
      const { link, memory, add } = withMemory(rig);
      const region = memory.region({ gpa: GPA, size: 2 * SIZE });
      link.refuses(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [memory.fd] });
      add({ gpa: GPA });
    },
  },
  {
    id: 'memory.add.user-overlap',
    title: 'The same user addresses at two guest addresses do no harm',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Memory access',
      says: 'user addresses map to the region that contains them',
    },
    expected: 'accepted or refused, and the connection lives on',
    needs: SLOTS,
    run: (rig) => {
      const { link, memory, add } = withMemory(rig);
      add({ gpa: GPA });
      const region = memory.region({ gpa: GPA + SIZE });
      link.survives(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [memory.fd] });
    },
  },
  {
    id: 'memory.add.offset-unaligned',
    title: 'An offset within a page does no harm',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Single memory region description',
      says: 'the mmap offset is a 64-bit offset where the region starts in the mapped memory; no alignment is named',
    },
    expected: 'accepted or refused, and the connection lives on',
    needs: SLOTS,
    run: (rig) => {
      const { link, memory } = withMemory(rig);
      const region = memory.region({ gpa: GPA, size: SIZE / 2, offset: 0x123 });
      link.survives(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [memory.fd] });
    },
  },
  {
    id: 'memory.add.padding',
    title: 'The padding of ADD_MEM_REG and REM_MEM_REG is ignored',
    level: 'must',
    spec: {
      section: 'vhost-user § Single memory region description',
      says: 'the description begins with 64 bits of padding, which mean nothing',
    },
    expected: 'both are accepted',
    needs: SLOTS,
    run: (rig) => {
      const { link, memory } = withMemory(rig);
      const region = memory.region({ gpa: GPA });
      link.accepts(R.ADD_MEM_REG, { padding: 0x5a5a_5a5a_5a5a_5a5an, region }, { fds: [memory.fd] });
      link.accepts(R.REM_MEM_REG, { padding: 0xa5a5_a5a5_a5a5_a5a5n, region });
    },
  },
  {
    id: 'memory.add.descriptor-closed',
    title: 'The descriptor of a region that was removed is closed',
    level: 'robustness',
    spec: REM,
    expected: 'no descriptor of it is open in the back-end after ADD_MEM_REG and REM_MEM_REG',
    needs: { ...SLOTS, process: true },
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(SIZE, rig.label('stray'));
      const region = memory.region({ gpa: GPA });
      link.accepts(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [memory.fd] });
      link.accepts(R.REM_MEM_REG, { padding: 0n, region });
      check(
        rig.becomes(() => rig.backendHolds(rig.label('stray')) === 0),
        'a descriptor is still open in the back-end',
      );
    },
  },
  {
    id: 'memory.remove.unmaps',
    title: 'REM_MEM_REG unmaps the region',
    level: 'must',
    spec: {
      section: REM.section,
      says: 'describes a region of guest memory which the back-end must unmap',
    },
    expected: 'the memory is mapped in the back-end after ADD_MEM_REG and not after REM_MEM_REG',
    needs: { ...SLOTS, process: true },
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(SIZE, rig.label('stray'));
      const region = memory.region({ gpa: GPA });
      link.accepts(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [memory.fd] });
      const mapped = rig.backendMapped(rig.label('stray'));
      if (mapped === 0) skipped('the memory is not seen in the process of the command: another one serves');
      link.accepts(R.REM_MEM_REG, { padding: 0n, region });
      check(
        rig.becomes(() => rig.backendMapped(rig.label('stray')) === 0),
        `${rig.backendMapped(rig.label('stray'))} bytes are still mapped`,
      );
    },
  },
  {
    id: 'memory.remove.offset-ignored',
    title: 'REM_MEM_REG with another mmap offset removes the region',
    level: 'must',
    spec: REM,
    expected: 'accepted',
    needs: SLOTS,
    run: (rig) => {
      const { link, memory, add } = withMemory(rig);
      const region = memory.region({ gpa: GPA, size: SIZE / 2, offset: SIZE / 4 });
      add({ gpa: GPA, size: SIZE / 2, offset: SIZE / 4 });
      link.accepts(R.REM_MEM_REG, { padding: 0n, region: { ...region, mmapOffset: 0n } });
    },
  },
  {
    id: 'memory.remove.with-descriptor',
    title: 'REM_MEM_REG with a descriptor is accepted or refused, and the descriptor is closed',
    level: 'robustness',
    spec: {
      section: REM.section,
      says: 'no descriptors should be passed; the back-end may accept one, and then must close it without using it',
    },
    expected: 'the connection lives on, and the descriptor is closed',
    needs: SLOTS,
    run: (rig) => {
      const { link, memory, add } = withMemory(rig);
      add({ gpa: GPA });
      const fds = [rig.memory(PAGE, rig.label('stray')).fd];
      link.survives(R.REM_MEM_REG, { padding: 0n, region: memory.region({ gpa: GPA }) }, { fds });
      if (rig.pid === undefined) return;
      check(
        rig.becomes(() => rig.backendHolds(rig.label('stray')) === 0),
        'the descriptor is still open in the back-end',
      );
    },
  },
  wrong('wrong-user', 'a user address', { user: 0x1234_5678_0000n }),
  wrong('wrong-guest', 'a guest address', { gpa: GPA + SIZE }),
  wrong('wrong-size', 'a size', { size: SIZE / 2 }),
  {
    id: 'memory.remove.unknown',
    title: 'REM_MEM_REG of a region that was never there is refused',
    level: 'robustness',
    spec: REM,
    expected: REFUSED,
    needs: SLOTS,
    run: (rig) => {
      const { link, memory } = withMemory(rig);
      link.refuses(R.REM_MEM_REG, { padding: 0n, region: memory.region({ gpa: GPA }) });
    },
  },
  {
    id: 'memory.remove.twice',
    title: 'REM_MEM_REG of a region that is gone is refused',
    level: 'robustness',
    spec: REM,
    expected: REFUSED,
    needs: SLOTS,
    run: (rig) => {
      const { link, memory, add } = withMemory(rig);
      add({ gpa: GPA });
      link.accepts(R.REM_MEM_REG, { padding: 0n, region: memory.region({ gpa: GPA }) });
      link.refuses(R.REM_MEM_REG, { padding: 0n, region: memory.region({ gpa: GPA }) });
    },
  },
  {
    id: 'memory.cycles',
    title: 'A region can be added and removed again and again',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_ADD_MEM_REG',
      says: 'together with REM_MEM_REG it sets and updates the memory table',
    },
    expected: '100 cycles are accepted',
    needs: SLOTS,
    run: (rig) => {
      const { link, memory, add } = withMemory(rig);
      for (let i = 0; i < 100; i += 1) {
        add({ gpa: GPA + i * 64 * KiB });
        link.accepts(R.REM_MEM_REG, {
          padding: 0n,
          region: memory.region({ gpa: GPA + i * 64 * KiB }),
        });
      }
    },
  },
];
