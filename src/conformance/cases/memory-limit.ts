/** The memory slots a back-end says it has, and those it has. */
import type { MemoryRegionDescription } from '../../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { GiB } from '../../units.ts';
import type { CaseNeeds, ConformanceCase } from '../case.ts';
import type { Rig } from '../rig.ts';
import { check, skipped } from '../verdict.ts';

const SLOTS: CaseNeeds = { protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'] };
const LIMIT = {
  section: 'vhost-user § VHOST_USER_GET_MAX_MEM_SLOTS',
  says: 'the answer is the maximum number of memory slots for the front-end to expose to the guest',
};

const PAGE = 0x1000;
/** A limit above it is not filled: it would take too long. */
const MOST = 4096;

interface Slots {
  readonly fd: number;
  readonly region: (slot: number) => MemoryRegionDescription;
  readonly add: (slot: number) => void;
}

/** As many slots of one page as the back-end has, and a few more; none is added yet. */
function slotsOf(rig: Rig): Slots {
  const { memSlots } = rig.facts;
  if (memSlots > MOST) skipped(`a limit of ${memSlots} is more than is tried, ${MOST}`);
  const link = rig.negotiate();
  const memory = rig.memory((memSlots + 2) * PAGE);
  // A hole after each: neighbours might be joined.
  const region = (slot: number): MemoryRegionDescription =>
    memory.region({ gpa: 4 * GiB + 2 * slot * PAGE, size: PAGE, offset: slot * PAGE });
  const add = (slot: number): void =>
    link.accepts(R.ADD_MEM_REG, { padding: 0n, region: region(slot) }, { fds: [memory.fd] });
  return { fd: memory.fd, region, add };
}

function fill(rig: Rig): Slots {
  const slots = slotsOf(rig);
  for (let slot = 0; slot < rig.facts.memSlots; slot += 1) slots.add(slot);
  return slots;
}

export const MEMORY_LIMIT_CASES: readonly ConformanceCase[] = [
  {
    id: 'memory.limit.answered',
    title: 'GET_MAX_MEM_SLOTS names a limit of at least 1',
    level: 'must',
    spec: LIMIT,
    expected: 'a number above 0',
    needs: { protocolFeatures: ['CONFIGURE_MEM_SLOTS'] },
    run: (rig) => {
      const limit = rig.negotiate().ask(R.GET_MAX_MEM_SLOTS, undefined);
      check(limit > 0n, `the limit is ${limit}`);
    },
  },
  {
    id: 'memory.limit.usable',
    title: 'As many regions as were promised are accepted',
    level: 'must',
    spec: LIMIT,
    expected: 'every ADD_MEM_REG up to the limit is accepted',
    needs: SLOTS,
    run: (rig) => void fill(rig),
  },
  {
    id: 'memory.limit.enforced',
    title: 'One region more than was promised is refused',
    level: 'robustness',
    spec: LIMIT,
    expected: 'a non-zero ack to the first ADD_MEM_REG beyond the limit, and the connection lives on',
    needs: SLOTS,
    run: (rig) => {
      const { fd, region } = fill(rig);
      const surplus = rig.facts.memSlots;
      rig.link.refuses(
        R.ADD_MEM_REG,
        { padding: 0n, region: region(surplus) },
        { fds: [fd], because: `region ${surplus + 1}, the limit is ${surplus}` },
      );
    },
  },
  {
    id: 'memory.limit.reusable',
    title: 'At the limit, a removed region makes room for another',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_REM_MEM_REG',
      says: 'together with ADD_MEM_REG it sets and updates the memory table',
    },
    expected: 'after each REM_MEM_REG, an ADD_MEM_REG is accepted',
    needs: SLOTS,
    run: (rig) => {
      const { region, add } = fill(rig);
      const { memSlots } = rig.facts;
      for (const slot of [0, memSlots - 1, memSlots >> 1]) {
        rig.link.accepts(R.REM_MEM_REG, { padding: 0n, region: region(slot) });
        add(slot);
      }
      rig.link.accepts(R.REM_MEM_REG, { padding: 0n, region: region(0) });
      add(memSlots); // another than was there
    },
  },
  {
    id: 'memory.limit.served',
    title: 'With all slots in use, requests with buffers in the last are served',
    level: 'must',
    spec: {
      section: 'vhost-user § Memory access',
      says: 'guest addresses map to the region that contains them',
    },
    expected: 'a good request is answered',
    needs: { ...SLOTS, device: ['fs', 'blk'], memSlots: 3 },
    run: (rig) => {
      const { memSlots } = rig.facts;
      if (memSlots > MOST) skipped(`a limit of ${memSlots} is more than is tried, ${MOST}`);
      const slots = memSlots - 1; // the base region takes one
      const guest = rig.startGuest({ layout: { slotSize: PAGE, slots } });
      for (let slot = 0; slot < slots; slot += 1) guest.addSlot(slot);
      guest.request({ in: guest.ram.slotBuffer(slots - 1, 0, PAGE), out: guest.ram.slotBuffer(0, 0, PAGE) });
      guest.request({ in: guest.ram.slotBuffer(0, 0, PAGE), out: guest.ram.slotBuffer(slots - 1, 0, PAGE) });
    },
  },
];
