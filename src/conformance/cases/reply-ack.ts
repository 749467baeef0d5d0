/** REPLY_ACK: who asks for an answer gets exactly one; who does not, gets none. */
import { ProtocolFeature, type ProtocolFeatureName, VHOST_F_LOG_ALL } from '../../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { socketPair } from '../../host/unix-socket.ts';
import type { ConformanceCase } from '../case.ts';
import type { Guest } from '../guest.ts';
import type { Rig } from '../rig.ts';
import { check, failed, hungUp } from '../verdict.ts';

interface Acked {
  readonly name: string;
  readonly feature?: ProtocolFeatureName;
  /** A virtio feature it belongs to. */
  readonly virtioFeature?: number;
  /** Should rather than must: nobody sends it. */
  readonly isOptional?: boolean;
  /** Sends the request, good as it is, and expects it to be accepted. */
  readonly tell: (guest: Guest, rig: Rig) => void;
}

const ADDED_SLOT = 3;

const ACKED: readonly Acked[] = [
  { name: 'SET_FEATURES', tell: ({ link }) => link.accepts(R.SET_FEATURES, link.features) },
  {
    name: 'SET_PROTOCOL_FEATURES',
    tell: ({ link }) => link.accepts(R.SET_PROTOCOL_FEATURES, link.protocolFeatures),
  },
  { name: 'SET_MEM_TABLE', tell: (guest) => guest.shareMemory('table') },
  {
    name: 'SET_VRING_NUM',
    tell: ({ link, queues }) => link.accepts(R.SET_VRING_NUM, { index: 0, num: queues[0]!.driver.num }),
  },
  { name: 'SET_VRING_BASE', tell: ({ link }) => link.accepts(R.SET_VRING_BASE, { index: 0, num: 0 }) },
  {
    name: 'SET_VRING_ADDR',
    tell: (guest) => {
      guest.shareMemory('table');
      guest.link.accepts(R.SET_VRING_NUM, { index: 0, num: guest.queues[0]!.driver.num });
      guest.setAddr(0);
    },
  },
  {
    name: 'SET_VRING_KICK',
    tell: (guest) => {
      guest.shareMemory('table');
      guest.startRing(0);
    },
  },
  {
    name: 'SET_VRING_CALL',
    tell: ({ link, queues }) => link.accepts(R.SET_VRING_CALL, 0n, { fds: [queues[0]!.callFd] }),
  },
  {
    name: 'SET_VRING_ERR',
    tell: ({ link, queues }) => link.accepts(R.SET_VRING_ERR, 0n, { fds: [queues[0]!.errorFd] }),
  },
  { name: 'SET_VRING_ENABLE', tell: (guest) => guest.enableRing(0) },
  { name: 'ADD_MEM_REG', feature: 'CONFIGURE_MEM_SLOTS', tell: (guest) => guest.addSlot(ADDED_SLOT) },
  {
    name: 'REM_MEM_REG',
    feature: 'CONFIGURE_MEM_SLOTS',
    tell: (guest) => {
      guest.addSlot(ADDED_SLOT);
      guest.removeSlot(ADDED_SLOT);
    },
  },
  {
    name: 'SET_BACKEND_REQ_FD',
    feature: 'BACKEND_REQ',
    tell: ({ link }, rig) => {
      const [ours, theirs] = socketPair();
      rig.own(ours);
      link.accepts(R.SET_BACKEND_REQ_FD, undefined, { fds: [rig.own(theirs).fd] });
    },
  },
  {
    name: 'RESET_DEVICE',
    feature: 'RESET_DEVICE',
    tell: ({ link }) => link.accepts(R.RESET_DEVICE, undefined),
  },
  {
    name: 'SET_LOG_FD',
    virtioFeature: VHOST_F_LOG_ALL,
    isOptional: true,
    tell: ({ link }, rig) => link.accepts(R.SET_LOG_FD, undefined, { fds: [rig.eventfd()] }),
  },
];

const ackedCase = ({ name, feature, virtioFeature, isOptional = false, tell }: Acked): ConformanceCase => ({
  id: `reply-ack.${name.toLowerCase().replaceAll('_', '-')}`,
  title: `${name} with need_reply gets one answer: 0`,
  level: isOptional ? 'should' : 'must',
  spec: {
    section: 'vhost-user § VHOST_USER_PROTOCOL_F_REPLY_ACK',
    says: 'need_reply can be set in any command; the back-end must answer, with zero for success',
  },
  expected: 'one answer, a u64 of 0, and nothing after it',
  needs: {
    protocolFeatures: ['REPLY_ACK', ...(feature === undefined ? [] : [feature])],
    features: virtioFeature === undefined ? [] : [virtioFeature],
  },
  run: (rig) => {
    const guest = rig.guest();
    guest.negotiate();
    tell(guest, rig);
    if (!guest.link.isAnswering()) hungUp(`after ${name} the connection was closed`);
  },
});

export const REPLY_ACK_CASES: readonly ConformanceCase[] = [
  ...ACKED.map(ackedCase),
  {
    id: 'reply-ack.explicit-replies',
    title: 'need_reply changes nothing for requests that have an answer of their own',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_PROTOCOL_F_REPLY_ACK',
      says: 'for messages that already solicit a reply, the flag brings no change of behaviour',
    },
    expected: 'each is answered once, with its own answer',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const features = link.ask(R.GET_FEATURES, undefined, { needReply: true });
      check(features === rig.facts.features, `GET_FEATURES answered ${features}`);
      const protocol = link.ask(R.GET_PROTOCOL_FEATURES, undefined, { needReply: true });
      check(protocol === rig.facts.protocolFeatures, `GET_PROTOCOL_FEATURES answered ${protocol}`);
      if (link.hasProtocolFeature(ProtocolFeature.MQ))
        link.ask(R.GET_QUEUE_NUM, undefined, { needReply: true });
      if (link.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS))
        link.ask(R.GET_MAX_MEM_SLOTS, undefined, { needReply: true });
      if (!link.isAnswering()) hungUp('the connection was closed');
    },
  },
  {
    id: 'reply-ack.not-asked',
    title: 'Requests that do not ask for an answer get none',
    level: 'must',
    spec: {
      section: 'vhost-user § Communication',
      says: 'most requests have no reply, and REPLY_ACK is asked for message by message',
    },
    expected: 'the first answer is the one to GET_FEATURES at the end',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const guest = rig.guest();
      guest.negotiate();
      const { link, ram, queues } = guest;
      const { driver, kickFd, callFd, errorFd } = queues[0]!;
      link.send(R.SET_MEM_TABLE, { padding: 0, regions: [ram.baseRegion] }, { fds: [ram.fd] });
      link.send(R.SET_VRING_NUM, { index: 0, num: driver.num });
      link.send(R.SET_VRING_BASE, { index: 0, num: 0 });
      link.send(R.SET_VRING_ADDR, {
        index: 0,
        flags: 0,
        descUserAddr: ram.userAddress(driver.descGpa),
        usedUserAddr: ram.userAddress(driver.usedGpa),
        availUserAddr: ram.userAddress(driver.availGpa),
        logGuestAddr: 0n,
      });
      link.send(R.SET_VRING_CALL, 0n, { fds: [callFd] });
      link.send(R.SET_VRING_ERR, 0n, { fds: [errorFd] });
      link.send(R.SET_VRING_KICK, 0n, { fds: [kickFd] });
      link.send(R.SET_VRING_ENABLE, { index: 0, num: 1 });
      if (!link.isAnswering()) failed('the connection was closed');
    },
  },
];
