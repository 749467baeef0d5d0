/** Memory in use: buffers in added regions, across regions, beyond 4 GiB, and in regions that are gone. */
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import type { GuestBuffer } from '../../machine/guest-ram.ts';
import { GiB, KiB, TiB } from '../../units.ts';
import type { CaseNeeds, ConformanceCase } from '../case.ts';
import { UNTOUCHED } from '../device.ts';
import type { Guest } from '../guest.ts';
import { check } from '../verdict.ts';

const NEEDS: CaseNeeds = { protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'], device: ['fs', 'blk'] };
const ACCESS = {
  section: 'vhost-user § Memory access',
  says: 'guest addresses map to the region that contains them',
};
const ADD = {
  section: 'vhost-user § VHOST_USER_ADD_MEM_REG',
  says: 'sets and updates the memory table; the back-end must map the region in',
};
const BUFFER = 4096;

const inSlot = ({ ram }: Guest, slot: number, offset = 0): GuestBuffer =>
  ram.slotBuffer(slot, offset, BUFFER);

export const MEMORY_USE_CASES: readonly ConformanceCase[] = [
  {
    id: 'memory.use.added',
    title: 'Buffers in an added region are served',
    level: 'must',
    spec: ADD,
    expected: 'a good request with both buffers there is answered',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      guest.addSlot(2);
      guest.request({ in: inSlot(guest, 2), out: inSlot(guest, 2, 32 * KiB) });
    },
  },
  {
    id: 'memory.use.added-before-rings',
    title: 'Regions added before the rings are set up are served',
    level: 'must',
    spec: ADD,
    expected: 'a good request with buffers in two of them is answered',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.guest();
      guest.negotiate();
      guest.addSlot(1);
      guest.shareMemory('add');
      guest.addSlot(0);
      guest.startRings();
      guest.request({ in: inSlot(guest, 0), out: inSlot(guest, 1) });
    },
  },
  {
    id: 'memory.use.hot-cycles',
    title: 'Regions come and go while rings run',
    level: 'must',
    spec: {
      section: 'vhost-user § Ring states',
      says: 'while processing rings, the back-end must support changing some configuration aspects on the fly',
    },
    expected: 'every request is answered, whichever regions are there',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      for (let i = 0; i < 12; i += 1) {
        guest.addSlot(i);
        const pending = guest.submit({ in: inSlot(guest, i), out: inSlot(guest, i, BUFFER) });
        if (i + 1 < 12) guest.addSlot(i + 1);
        guest.finish(pending);
        guest.removeSlot(i);
        guest.request();
        if (i + 1 < 12) guest.removeSlot(i + 1);
      }
    },
  },
  {
    id: 'memory.use.across-regions',
    title: 'A buffer that begins in one region and ends in the next is served',
    level: 'must',
    spec: {
      section: 'virtio 1.2 § 2.7.5',
      says: 'a descriptor refers to a buffer by guest physical address and length; where regions of the back-end meet is nothing a driver knows',
    },
    expected: 'a good request whose writable buffer lies in two neighbouring regions is answered',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      guest.addSlot(4);
      guest.addSlot(5);
      const { slotSize } = guest.ram.layout;
      guest.request({ out: guest.ram.slotBuffer(4, slotSize - 32, BUFFER) });
      guest.request({ in: guest.ram.slotBuffer(4, slotSize - 8, BUFFER) });
    },
  },
  {
    id: 'memory.use.beyond-4-gib',
    title: 'A region of 5 GiB is usable beyond its first 4 GiB',
    level: 'must',
    spec: {
      section: 'vhost-user § Memory regions description',
      says: 'sizes, addresses and offsets of regions have 64 bits',
    },
    expected: 'requests with buffers at its end, and 4 GiB before that, are answered',
    needs: NEEDS,
    run: (rig) => {
      const size = 5 * GiB;
      const guest = rig.startGuest({ layout: { slotSize: size, slots: 1 } });
      guest.addSlot(0);
      guest.request({ in: inSlot(guest, 0, size - BUFFER), out: inSlot(guest, 0, size - BUFFER - 4 * GiB) });
      guest.request({ in: inSlot(guest, 0), out: inSlot(guest, 0, size - BUFFER) });
    },
  },
  {
    id: 'memory.use.high-guest-address',
    title: 'A region at a guest address of 1 TiB is served',
    level: 'must',
    spec: {
      section: 'vhost-user § Memory regions description',
      says: 'the guest address of a region has 64 bits',
    },
    expected: 'a good request with buffers there is answered',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      const memory = rig.memory(64 * KiB);
      const gpa = TiB;
      guest.link.accepts(
        R.ADD_MEM_REG,
        { padding: 0n, region: memory.region({ gpa }) },
        { fds: [memory.fd] },
      );
      guest.request({
        in: { gpa, bytes: memory.bytes.subarray(0, BUFFER) },
        out: { gpa: gpa + BUFFER, bytes: memory.bytes.subarray(BUFFER, 2 * BUFFER) },
      });
    },
  },
  {
    id: 'memory.use.replaced-in-place',
    title: 'A region removed and another added at its address: requests see the new one',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_REM_MEM_REG',
      says: 'the back-end must unmap the region; ADD_MEM_REG sets another',
    },
    expected: 'the answer is in the new memory, and the old is untouched',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      const gpa = 16 * GiB;
      const [old, fresh] = [rig.memory(64 * KiB), rig.memory(64 * KiB)];
      const { link } = guest;
      link.accepts(R.ADD_MEM_REG, { padding: 0n, region: old.region({ gpa }) }, { fds: [old.fd] });
      guest.request({ out: { gpa, bytes: old.bytes } });
      link.accepts(R.REM_MEM_REG, { padding: 0n, region: old.region({ gpa }) });
      link.accepts(R.ADD_MEM_REG, { padding: 0n, region: fresh.region({ gpa }) }, { fds: [fresh.fd] });
      old.bytes.fill(UNTOUCHED);
      guest.request({ out: { gpa, bytes: fresh.bytes } });
      check(
        old.bytes.every((byte) => byte === UNTOUCHED),
        'the memory that was removed was written',
      );
    },
  },
  {
    id: 'memory.use.removed',
    title: 'A buffer in a region that was removed is not written, and the device goes on',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_REM_MEM_REG',
      says: 'the back-end must unmap the region',
    },
    expected: 'no byte of it changes; afterwards good requests are answered',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      guest.addSlot(3);
      guest.request({ out: inSlot(guest, 3) });
      guest.removeSlot(3);
      const out = inSlot(guest, 3);
      const pending = guest.submit({ out });
      guest.isAnswered(pending, 50);
      check(
        out.bytes.subarray(0, pending.probe.writable).every((byte) => byte === UNTOUCHED),
        'the memory that was removed was written',
      );
    },
  },
  {
    id: 'memory.use.never-shared',
    title: 'A buffer in memory that was never shared does not stop the device',
    level: 'robustness',
    spec: ACCESS,
    expected: 'afterwards good requests are answered',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      guest.request();
      guest.isAnswered(guest.submit({ out: inSlot(guest, 7) }), 50);
    },
  },
  {
    id: 'memory.use.ring-removed',
    title: 'The region of a running ring is removed: the back-end lives on',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_MEM_TABLE',
      says: 'the table is what vring addresses are translated with',
    },
    expected: 'accepted or refused; rings set up anew are served',
    needs: NEEDS,
    run: (rig) => {
      const guest = rig.startGuest();
      guest.request();
      guest.link.survives(R.REM_MEM_REG, { padding: 0n, region: guest.ram.baseRegion });
      guest.submit();
      rig.pause(10);
    },
  },
];
