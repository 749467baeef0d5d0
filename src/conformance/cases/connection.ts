/** The connection as a whole: the back-end's own channel, and what comes after a connection has ended. */
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { ProtocolFeature } from '../../../protocol/vhost-user.ts';
import { OwnedFd } from '../../host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../host/unix-socket.ts';
import { GiB } from '../../units.ts';
import type { CaseNeeds, ConformanceCase } from '../case.ts';
import type { Rig } from '../rig.ts';
import { check } from '../verdict.ts';

const CHANNEL: CaseNeeds = { protocolFeatures: ['REPLY_ACK', 'BACKEND_REQ'] };
const REQ_FD = {
  section: 'vhost-user § VHOST_USER_SET_BACKEND_REQ_FD',
  says: 'sets the socket for requests of the back-end; with REPLY_ACK the back-end must respond with zero for success',
};
const RECONNECTION = {
  section: 'vhost-user § Communication',
  says: 'an optional reconnection mechanism can be implemented',
};
const QUIET_MS = 20;
const EAGAIN = 11;

/** Gives the back-end a channel. @returns our end */
function openChannel(rig: Rig): MessageSocket {
  const [ours, theirs] = socketPair();
  using given = new OwnedFd(theirs.release());
  rig.link.accepts(R.SET_BACKEND_REQ_FD, undefined, { fds: [given.fd] });
  return rig.own(new MessageSocket(ours));
}

const receiveOnce = (socket: MessageSocket): number => {
  const fds: OwnedFd[] = [];
  const received = socket.receive(new Uint8Array(64), fds);
  for (const fd of fds) fd.close();
  return received;
};

export const CHANNEL_CASES: readonly ConformanceCase[] = [
  {
    id: 'channel.quiet',
    title: 'Nothing is sent on the channel while all rings are stopped',
    level: 'must',
    spec: {
      section: 'vhost-user § Suspended device state',
      says: 'while all vrings are stopped the device must not send any messages to the front-end',
    },
    expected: 'no octet on the channel',
    needs: CHANNEL,
    run: (rig) => {
      rig.negotiate();
      const channel = openChannel(rig);
      rig.pause(QUIET_MS);
      const received = receiveOnce(channel);
      check(received === -EAGAIN, received === 0 ? 'the channel was closed' : `${received} octets came`);
    },
  },
  {
    id: 'channel.replaced',
    title: 'A second channel replaces the first',
    level: 'should',
    spec: REQ_FD,
    expected: 'accepted, and the first is closed',
    needs: CHANNEL,
    run: (rig) => {
      rig.negotiate();
      const first = openChannel(rig);
      openChannel(rig);
      check(
        rig.becomes(() => receiveOnce(first) === 0),
        'the first channel is still open',
      );
    },
  },
  {
    id: 'channel.gone',
    title: 'A front-end that closes its end of the channel does no harm',
    level: 'robustness',
    spec: REQ_FD,
    expected: 'the connection lives on',
    needs: CHANNEL,
    run: (rig) => {
      rig.negotiate();
      openChannel(rig).close();
      rig.pause(2);
    },
  },
  {
    id: 'channel.no-descriptor',
    title: 'SET_BACKEND_REQ_FD without descriptor is refused',
    level: 'robustness',
    spec: REQ_FD,
    expected: 'a non-zero ack, and the connection lives on',
    needs: CHANNEL,
    run: (rig) => rig.negotiate().refuses(R.SET_BACKEND_REQ_FD, undefined),
  },
  {
    id: 'channel.no-socket',
    title: 'A channel that is no socket does no harm',
    level: 'robustness',
    spec: REQ_FD,
    expected: 'accepted or refused, and the connection lives on',
    needs: CHANNEL,
    run: (rig) => {
      const link = rig.negotiate();
      link.survives(R.SET_BACKEND_REQ_FD, undefined, { fds: [rig.eventfd()] });
    },
  },
];

export const RECONNECT_CASES: readonly ConformanceCase[] = [
  {
    id: 'reconnect.running',
    title: 'After a connection whose rings ran, another is served',
    level: 'robustness',
    spec: RECONNECTION,
    expected: 'features are as before, and a good request is answered',
    needs: { reconnect: true, device: ['fs', 'blk'] },
    run: (rig) => {
      rig.startGuest().request();
      const link = rig.reconnect();
      const features = link.ask(R.GET_FEATURES, undefined);
      check(features === rig.facts.features, `features ${features}`);
      rig.startGuest().request();
    },
  },
  {
    id: 'reconnect.half-way',
    title: 'After a connection that ended during its set-up, another is served',
    level: 'robustness',
    spec: RECONNECTION,
    expected: 'a good request is answered',
    needs: { reconnect: true, device: ['fs', 'blk'] },
    run: (rig) => {
      const first = rig.guest();
      first.negotiate();
      first.shareMemory();
      first.placeRing(0);
      rig.reconnect();
      rig.startGuest().request();
    },
  },
  {
    id: 'reconnect.memory-forgotten',
    title: 'A new connection begins with no memory',
    level: 'robustness',
    spec: RECONNECTION,
    expected: 'a region at the same guest address is accepted, the old one is not mapped',
    needs: { reconnect: true, protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'] },
    run: (rig) => {
      const [old, fresh] = [rig.memory(0x1_0000, rig.label('held')), rig.memory(0x1_0000)];
      const add = (memory: typeof old): void =>
        rig
          .negotiate()
          .accepts(
            R.ADD_MEM_REG,
            { padding: 0n, region: memory.region({ gpa: 4 * GiB }) },
            { fds: [memory.fd] },
          );
      add(old);
      rig.reconnect();
      add(fresh);
      if (rig.pid === undefined) return;
      check(
        rig.becomes(() => rig.backendMapped(rig.label('held')) === 0),
        `${rig.backendMapped(rig.label('held'))} bytes are mapped`,
      );
    },
  },
  {
    id: 'reconnect.released',
    title: 'What a connection gave is let go of when it ends',
    level: 'robustness',
    spec: RECONNECTION,
    expected: 'no descriptor and no mapping of its memory is left in the back-end',
    needs: { reconnect: true, process: true },
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(0x1_0000, rig.label('held'));
      const regions = [memory.region({ gpa: 4 * GiB })];
      link.survives(R.SET_MEM_TABLE, { padding: 0, regions }, { fds: [memory.fd] });
      if (link.hasProtocolFeature(ProtocolFeature.BACKEND_REQ)) openChannel(rig);
      rig.reconnect().isAnswering();
      const isGone = rig.becomes(
        () => rig.backendMapped(rig.label('held')) === 0 && rig.backendHolds(rig.label('held')) === 0,
      );
      check(
        isGone,
        `${rig.backendHolds(rig.label('held'))} descriptors and ${rig.backendMapped(rig.label('held'))} mapped bytes are left`,
      );
    },
  },
  {
    id: 'reconnect.many',
    title: 'Twenty connections, one after the other, leak no descriptor',
    level: 'robustness',
    spec: RECONNECTION,
    expected: 'as many descriptors are open in the end as in the beginning',
    needs: { reconnect: true, process: true },
    run: (rig) => {
      rig.negotiate().isAnswering();
      const before = rig.backendFds().length;
      for (let i = 0; i < 20; i += 1) {
        rig.reconnect();
        const link = rig.negotiate();
        link.send(R.SET_VRING_CALL, 0n, { fds: [rig.eventfd()] });
        link.isAnswering();
      }
      rig.reconnect();
      rig.negotiate().isAnswering();
      const isSame = rig.becomes(() => rig.backendFds().length <= before);
      check(isSame, `${before} descriptors, then ${rig.backendFds().length}`);
    },
  },
];
