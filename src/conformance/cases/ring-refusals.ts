/** Messages about rings that name what cannot be. */
import { FrontendRequest } from '../../../protocol/vhost-user.ts';
import type { VringAddr } from '../../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from '../case.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import { hungUp, skipped } from '../verdict.ts';

const ACKS = { protocolFeatures: ['REPLY_ACK'] } as const;
const SIZE = 'virtio 1.2 § 2.7';
const REFUSED = 'a non-zero ack; the connection and the ring live on';

/** Hardly a back-end has as many, and all of the messages can say it. */
const NO_RING = 200;

const NUMS = [
  { name: 'zero', num: 0 },
  { name: 'three', num: 3 },
  { name: 'beyond-16-bits', num: 0x1_0000 },
  { name: 'not-a-power', num: 1000 },
  { name: 'huge', num: 0xffff_ffff },
] as const;

const ADDRESSES: readonly {
  readonly name: string;
  readonly title: string;
  readonly change: (addr: VringAddr) => Partial<VringAddr>;
}[] = [
  { name: 'desc-outside', title: 'descriptors in no region', change: () => ({ descUserAddr: 0x1000n }) },
  { name: 'avail-outside', title: 'an avail ring in no region', change: () => ({ availUserAddr: 0x1000n }) },
  { name: 'used-outside', title: 'a used ring in no region', change: () => ({ usedUserAddr: 0x1000n }) },
  {
    name: 'end-of-space',
    title: 'descriptors at the end of the address space',
    change: () => ({ descUserAddr: 2n ** 64n - 16n }),
  },
  {
    name: 'desc-misaligned',
    title: 'descriptors that are not aligned to 16',
    change: ({ descUserAddr }) => ({ descUserAddr: descUserAddr + 8n }),
  },
  {
    name: 'avail-misaligned',
    title: 'an avail ring that is not aligned to 2',
    change: ({ availUserAddr }) => ({ availUserAddr: availUserAddr + 1n }),
  },
  {
    name: 'used-misaligned',
    title: 'a used ring that is not aligned to 4',
    change: ({ usedUserAddr }) => ({ usedUserAddr: usedUserAddr + 2n }),
  },
];

export const RING_REFUSAL_CASES: readonly ConformanceCase[] = [
  ...NUMS.map(({ name, num }): ConformanceCase => ({
    id: `ring.num.${name}`,
    title: `SET_VRING_NUM ${num} is refused`,
    level: 'robustness',
    spec: {
      section: `${SIZE}; vhost-user § REPLY_ACK`,
      says: 'the queue size is always a power of 2, at most 32768; failure is acknowledged with a non-zero value',
    },
    expected: REFUSED,
    needs: ACKS,
    run: (rig) => {
      const ring = running(new Plane(rig));
      ring.stop();
      rig.link.refuses(R.SET_VRING_NUM, { index: ring.index, num }, { because: `a ring of ${num} entries` });
    },
  })),
  ...ADDRESSES.map(({ name, title, change }): ConformanceCase => ({
    id: `ring.addr.${name}`,
    title: `SET_VRING_ADDR with ${title} is refused`,
    level: 'robustness',
    spec: {
      section: `${SIZE}; vhost-user § Memory access`,
      says: 'user addresses lie in a region; the areas are aligned to 16, 2 and 4',
    },
    expected: REFUSED,
    needs: ACKS,
    run: (rig) => {
      const ring = running(new Plane(rig));
      ring.stop();
      const addr = ring.addresses();
      rig.link.refuses(R.SET_VRING_ADDR, { ...addr, ...change(addr) }, { because: title });
    },
  })),
  {
    id: 'ring.addr.beyond-region',
    title: 'SET_VRING_ADDR with a ring that reaches beyond its region does no harm',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Memory access',
      says: 'user addresses map to the region that contains them',
    },
    expected: 'refused, or the ring is not served',
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = running(plane);
      ring.stop();
      const end = plane.guest.ram.userAddress(0) + BigInt(plane.guest.ram.layout.baseSize);
      const outcome = rig.link.tell(R.SET_VRING_ADDR, { ...ring.addresses(), usedUserAddr: end - 8n });
      if (outcome === 'closed') hungUp('SET_VRING_ADDR: the connection was closed');
      ring.kick();
    },
  },
  {
    id: 'ring.base.beyond-16-bits',
    title: 'SET_VRING_BASE above 65535 does no harm',
    level: 'robustness',
    spec: {
      section: 'vhost-user § A vring descriptor index for split virtqueues',
      says: 'bits 16 to 31 are reserved and zero',
    },
    expected: 'refused, or the upper bits ignored',
    run: (rig) => {
      const ring = running(new Plane(rig));
      ring.stop();
      const outcome = rig.link.tell(R.SET_VRING_BASE, { index: ring.index, num: 0xffff_0005 });
      if (outcome === 'closed') hungUp('SET_VRING_BASE: the connection was closed');
      ring.kick();
    },
  },
  ...(['SET_VRING_NUM', 'SET_VRING_BASE', 'SET_VRING_ENABLE'] as const).flatMap((name) =>
    [NO_RING, 0x8000_0001].map((index): ConformanceCase =>
      noRing(
        `${dashed(name)}${index === NO_RING ? '' : '-huge'}`,
        `${name} of ring ${index}`,
        (ring, rig) => {
          const num = name === 'SET_VRING_NUM' ? 64 : name === 'SET_VRING_ENABLE' ? 1 : 0;
          void ring;
          rig.link.refuses(R[name], { index, num }, { because: `ring ${index}` });
        },
      ),
    ),
  ),
  noRing('addr', `SET_VRING_ADDR of ring ${NO_RING}`, (ring, rig) =>
    rig.link.refuses(
      R.SET_VRING_ADDR,
      { ...ring.addresses(), index: NO_RING },
      { because: `ring ${NO_RING}` },
    ),
  ),
  ...(['SET_VRING_KICK', 'SET_VRING_CALL', 'SET_VRING_ERR'] as const).map((name) =>
    noRing(dashed(name), `${name} of ring ${NO_RING}`, (ring, rig) => {
      const fds = [ring.callFd];
      rig.link.startedRings.delete(NO_RING);
      try {
        rig.link.refuses(R[name], BigInt(NO_RING), { fds, because: `ring ${NO_RING}` });
      } finally {
        rig.link.startedRings.delete(NO_RING);
      }
    }),
  ),
  {
    id: 'ring.index.get-vring-base',
    title: `GET_VRING_BASE of ring ${NO_RING} does no harm`,
    level: 'robustness',
    spec: { section: 'vhost-user § Multiple queue support', says: 'the back-end says how many rings it has' },
    expected: 'some answer; the connection lives on',
    run: (rig) => {
      running(new Plane(rig));
      const payload = R.GET_VRING_BASE.payload.encode({ index: NO_RING, num: 0 });
      rig.link.sendFrame({ request: FrontendRequest.GET_VRING_BASE, payload });
      const arrival = rig.link.receive(300);
      if (arrival.kind === 'closed') hungUp('GET_VRING_BASE: the connection was closed');
    },
  },
];

/** A case about a message that names a ring which does not exist. */
function noRing(
  name: string,
  title: string,
  run: (ring: ProbedRing, rig: Parameters<ConformanceCase['run']>[0]) => void,
): ConformanceCase {
  return {
    id: `ring.index.${name}`,
    title: `${title} is refused`,
    level: 'robustness',
    spec: { section: 'vhost-user § Multiple queue support', says: 'the back-end says how many rings it has' },
    expected: REFUSED,
    needs: ACKS,
    run: (rig) => run(running(new Plane(rig)), rig),
  };
}

function dashed(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}

/** A ring that has served a request, if we know one. */
function running(plane: Plane): ProbedRing {
  const ring = plane.startRing();
  if (plane.rig.device.name !== 'any') ring.request();
  if (plane.rig.facts.queues > NO_RING) skipped(`the back-end has ${plane.rig.facts.queues} rings`);
  return ring;
}
