/** File descriptors that come with messages: too few, too many, of the wrong kind. None may be leaked. */
import { FrontendRequest, requestFlags, VHOST_USER_VRING_NOFD_MASK } from '../../../protocol/vhost-user.ts';
import { U64 } from '../../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from '../case.ts';
import type { Rig } from '../rig.ts';
import type { SharedMemory } from '../shared-memory.ts';
import { check } from '../verdict.ts';

const PAGE = 0x1000;
const MOST_FDS = 253;

const ATTACHED = {
  section: 'vhost-user § Communication',
  says: 'a list of messages comes with descriptors; all others have none',
};
const NO_FD_BIT = {
  section: 'vhost-user § VHOST_USER_SET_VRING_CALL',
  says: 'bit 8 is set when there is no file descriptor in the ancillary data',
};

/** Memory whose descriptors must not stay open in the back-end. */
const strayMemory = (rig: Rig): SharedMemory => rig.memory(PAGE, rig.label('stray'));

function expectNoneLeft(rig: Rig, what: string): void {
  // What ends with its connection leaves nothing.
  if (rig.pid === undefined || (rig.link.hasEnded() && !rig.facts.reconnects)) return;
  const held = (): number => rig.backendHolds(rig.label('stray'));
  check(
    rig.becomes(() => held() === 0),
    `${what}: ${held()} descriptors are still open in the back-end`,
  );
}

export const DESCRIPTOR_CASES: readonly ConformanceCase[] = [
  {
    id: 'descriptors.surplus.none-wanted',
    title: 'Descriptors with a request that has none are closed',
    level: 'robustness',
    spec: ATTACHED,
    expected: 'the request is accepted or refused, the connection lives on, and the descriptors are closed',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const fds = [strayMemory(rig).fd, strayMemory(rig).fd];
      link.survives(R.SET_VRING_NUM, { index: 0, num: 64 }, { fds, because: 'with 2 descriptors' });
      expectNoneLeft(rig, 'SET_VRING_NUM with 2 descriptors');
    },
  },
  {
    id: 'descriptors.surplus.query',
    title: 'A descriptor with GET_FEATURES is closed',
    level: 'robustness',
    spec: ATTACHED,
    expected: 'an answer or a refusal, the connection lives on, and the descriptor is closed',
    run: (rig) => {
      const link = rig.negotiate();
      link.send(R.GET_FEATURES, undefined, { fds: [strayMemory(rig).fd] });
      link.expectReply('GET_FEATURES');
      expectNoneLeft(rig, 'GET_FEATURES with a descriptor');
    },
  },
  {
    id: 'descriptors.surplus.unknown',
    title: 'Descriptors with an unknown request are closed',
    level: 'robustness',
    spec: ATTACHED,
    expected: 'the descriptors are closed; if the connection is closed, whoever connects then is served',
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const fds = Array.from({ length: 8 }, () => strayMemory(rig).fd);
      link.sendFrame({ request: 99, payload: U64.encode(0n) }, fds);
      link.isAnswering();
      expectNoneLeft(rig, 'request 99 with 8 descriptors');
    },
  },
  {
    id: 'descriptors.surplus.most',
    title: 'As many descriptors as a message can carry are closed',
    level: 'robustness',
    spec: ATTACHED,
    expected: 'the descriptors are closed; if the connection is closed, whoever connects then is served',
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const { fd } = strayMemory(rig);
      link.sendFrame(
        { request: FrontendRequest.GET_FEATURES },
        Array.from({ length: MOST_FDS }, () => fd),
      );
      link.receive();
      expectNoneLeft(rig, `${MOST_FDS} descriptors`);
    },
  },
  {
    id: 'descriptors.surplus.call',
    title: 'SET_VRING_CALL with two descriptors leaks none',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_VRING_CALL',
      says: 'one event descriptor is in the ancillary data',
    },
    expected: 'accepted or refused, the connection lives on, and the second descriptor is closed',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const fds = [rig.eventfd(), strayMemory(rig).fd];
      link.survives(R.SET_VRING_CALL, 0n, { fds, because: 'with 2 descriptors' });
      expectNoneLeft(rig, 'SET_VRING_CALL with 2 descriptors');
    },
  },
  ...(['SET_VRING_KICK', 'SET_VRING_CALL', 'SET_VRING_ERR'] as const).map((name): ConformanceCase => ({
    id: `descriptors.missing.${name.toLowerCase().replaceAll('_', '-')}`,
    title: `${name} that promises a descriptor and has none is refused`,
    level: 'robustness',
    spec: NO_FD_BIT,
    expected: 'a non-zero ack, and the connection lives on',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => rig.negotiate().refuses(R[name], 0n, { because: 'without descriptor, bit 8 clear' }),
  })),
  {
    id: 'descriptors.no-fd-bit.with-fd',
    title: 'SET_VRING_CALL that says it has no descriptor and has one leaks none',
    level: 'robustness',
    spec: NO_FD_BIT,
    expected: 'accepted or refused, the connection lives on, and the descriptor is closed',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const fds = [strayMemory(rig).fd];
      link.survives(R.SET_VRING_CALL, BigInt(VHOST_USER_VRING_NOFD_MASK), { fds, because: 'bit 8 set' });
      expectNoneLeft(rig, 'SET_VRING_CALL with bit 8 and a descriptor');
    },
  },
  {
    id: 'descriptors.no-fd-bit.accepted',
    title: 'SET_VRING_CALL and SET_VRING_ERR without descriptor are accepted',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_VRING_CALL',
      says: 'without descriptor, bit 8 set, polling is used instead of waiting for the call',
    },
    expected: 'both are accepted',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      link.accepts(R.SET_VRING_CALL, BigInt(VHOST_USER_VRING_NOFD_MASK));
      link.accepts(R.SET_VRING_ERR, BigInt(VHOST_USER_VRING_NOFD_MASK));
    },
  },
  {
    id: 'descriptors.replaced.closed',
    title: 'A call descriptor that is replaced is closed',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_VRING_CALL',
      says: 'sets the event descriptor; setting it again leaves nobody who needs the first',
    },
    expected: 'after 100 replacements as many descriptors are open as before',
    needs: { process: true },
    run: (rig) => {
      const link = rig.negotiate();
      const count = (): number => rig.backendFds().filter((fd) => fd.includes('eventfd')).length;
      const replace = (): void => void link.send(R.SET_VRING_CALL, 0n, { fds: [rig.eventfd()] });
      replace();
      link.isAnswering();
      const before = count();
      for (let i = 0; i < 100; i += 1) replace();
      link.isAnswering();
      const isSame = rig.becomes(() => count() <= before);
      check(isSame, `${before} eventfds before, ${count()} after 100 replacements`);
    },
  },
  {
    id: 'descriptors.late',
    title: 'A descriptor that comes with the last octet of a message does no harm',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Communication',
      says: 'descriptors come with the first byte of the header; the back-end can expect no others',
    },
    expected: 'refused or ignored, or the connection is closed; whoever connects then is served',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const payload = U64.encode(0n);
      const header = Buffer.alloc(12);
      header.writeUInt32LE(FrontendRequest.SET_VRING_CALL, 0);
      header.writeUInt32LE(requestFlags(true), 4);
      header.writeUInt32LE(payload.length, 8);
      const octets = Buffer.concat([header, payload]);
      rig.trace.note('  SET_VRING_CALL, its descriptor with the last octet');
      link.write(octets.subarray(0, -1));
      rig.pause(1);
      link.write(octets.subarray(-1), [strayMemory(rig).fd]);
      link.outcome(FrontendRequest.SET_VRING_CALL);
    },
  },
];
