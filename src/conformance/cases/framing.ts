/** Octets on the socket: pieces, sizes, versions, flags. */
import { FrontendRequest, HeaderFlag, requestFlags } from '../../../protocol/vhost-user.ts';
import { SingleRegion, U64, VringState } from '../../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from '../case.ts';
import { type Link, octetsOf } from '../link.ts';
import type { Rig } from '../rig.ts';
import { check, failed, hungUp } from '../verdict.ts';

const STREAM = {
  section: 'vhost-user § Message Specification',
  says: 'a message is a header and a payload of the size the header says; it travels over a stream socket, which keeps no boundaries',
};
const HEADER = { section: 'vhost-user § Header', says: 'the size field is the size of the payload' };
const EXCEPTIONAL = {
  section: 'vhost-user § Communication',
  says: 'a back-end that detects an error may close the connection, in exceptional circumstances',
};

const HEADER_SIZE = 12;
/** Long enough for the back-end to take what is there. */
const GAP_MS = 1;
const RING_SIZE = 64;

const GET_FEATURES = octetsOf({ request: FrontendRequest.GET_FEATURES });
const setVringNum = (needReply: boolean): Buffer =>
  octetsOf({
    request: FrontendRequest.SET_VRING_NUM,
    flags: requestFlags(needReply),
    payload: VringState.encode({ index: 0, num: RING_SIZE }),
  });

/** Sends a message in two pieces. @param fds with the first piece */
function inTwo(rig: Rig, octets: Uint8Array, at: number, fds: readonly number[] = []): void {
  rig.trace.note(`  ${octets.length} octets, the first ${at} alone`);
  rig.link.write(octets.subarray(0, at), fds);
  rig.pause(GAP_MS);
  rig.link.write(octets.subarray(at));
}

function expectStatus(link: Link, request: FrontendRequest, what: string): void {
  const outcome = link.outcome(request);
  if (outcome === 'closed') hungUp(`${what}: the connection was closed`);
  check(outcome === 'accepted', `${what}: ${outcome}`);
}

export const FRAMING_CASES: readonly ConformanceCase[] = [
  {
    id: 'framing.split.header',
    title: 'A header may come in two pieces, cut anywhere',
    level: 'should',
    spec: STREAM,
    expected: 'GET_FEATURES is answered, wherever it is cut',
    run: (rig) => {
      for (let at = 1; at < HEADER_SIZE; at += 1) {
        inTwo(rig, GET_FEATURES, at);
        rig.link.expectReply('GET_FEATURES');
      }
    },
  },
  {
    id: 'framing.split.payload',
    title: 'Header and payload may come apart, cut anywhere',
    level: 'should',
    spec: STREAM,
    expected: 'SET_VRING_NUM is acknowledged, wherever it is cut',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const octets = setVringNum(true);
      for (let at = HEADER_SIZE; at < octets.length; at += 1) {
        inTwo(rig, octets, at);
        expectStatus(link, FrontendRequest.SET_VRING_NUM, `cut at ${at}`);
      }
    },
  },
  {
    id: 'framing.split.octets',
    title: 'A message may come octet by octet',
    level: 'should',
    spec: STREAM,
    expected: 'SET_VRING_NUM is acknowledged',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const octets = setVringNum(true);
      for (let at = 0; at < octets.length; at += 1) {
        link.write(octets.subarray(at, at + 1));
        rig.pause(GAP_MS);
      }
      expectStatus(link, FrontendRequest.SET_VRING_NUM, 'octet by octet');
    },
  },
  {
    id: 'framing.split.descriptors',
    title: 'Descriptors come with the first octet of a message, wherever it is cut',
    level: 'should',
    spec: {
      section: 'vhost-user § Communication',
      says: 'descriptors are sent with bytes that start with the first of the header; the back-end can expect them in the first recvmsg for a header',
    },
    expected: 'ADD_MEM_REG is acknowledged, wherever it is cut',
    needs: { protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'] },
    run: (rig) => {
      const link = rig.negotiate();
      const memory = rig.memory(0x10_0000);
      const payload = SingleRegion.encode({ padding: 0n, region: memory.region() });
      const octets = octetsOf({ request: FrontendRequest.ADD_MEM_REG, flags: requestFlags(true), payload });
      for (const at of [1, 4, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 1, octets.length - 1]) {
        inTwo(rig, octets, at, [memory.fd]);
        expectStatus(link, FrontendRequest.ADD_MEM_REG, `cut at ${at}`);
        link.accepts(R.REM_MEM_REG, { padding: 0n, region: memory.region() });
      }
    },
  },
  {
    id: 'framing.coalesced',
    title: 'Several messages may come at once',
    level: 'must',
    spec: {
      section: 'vhost-user § Communication',
      says: 'most requests have no reply, so a front-end sends the next without waiting',
    },
    expected: 'every GET_FEATURES among 16 messages sent in one piece is answered',
    run: (rig) => {
      const link = rig.negotiate();
      const messages = Array.from({ length: 16 }, (_, i) =>
        i % 4 === 3 ? GET_FEATURES : setVringNum(false),
      );
      rig.trace.note('  12 × SET_VRING_NUM and 4 × GET_FEATURES in one piece');
      link.write(Buffer.concat(messages));
      for (let i = 0; i < 4; i += 1) link.expectReply('GET_FEATURES');
    },
  },
  {
    id: 'framing.coalesced.descriptors',
    title: 'Descriptors stay with their messages when these come one right after the other',
    level: 'must',
    spec: {
      section: 'vhost-user § Communication',
      says: 'descriptors are associated with the message whose first byte they are sent with',
    },
    expected: 'the rings run with the descriptors of their own messages',
    needs: { device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = rig.guest();
      guest.negotiate();
      guest.shareMemory();
      guest.queues.forEach((_, index) => guest.placeRing(index));
      guest.queues.forEach(({ callFd, errorFd, kickFd }, index) => {
        guest.link.send(R.SET_VRING_CALL, BigInt(index), { fds: [callFd] });
        guest.link.send(R.SET_VRING_ERR, BigInt(index), { fds: [errorFd] });
        guest.link.send(R.SET_VRING_KICK, BigInt(index), { fds: [kickFd] });
      });
      guest.queues.forEach((_, index) => guest.enableRing(index));
      for (let i = 0; i < 4; i += 1) guest.request();
    },
  },
  {
    id: 'framing.size.short',
    title: 'A payload shorter than the request needs',
    level: 'robustness',
    spec: HEADER,
    expected: 'refused, or the connection is closed; whoever connects then is served',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const outcome = link.tellFrame({
        request: FrontendRequest.SET_VRING_NUM,
        flags: requestFlags(true),
        payload: new Uint8Array(4),
      });
      check(outcome !== 'accepted', 'SET_VRING_NUM with 4 octets was accepted');
    },
  },
  {
    id: 'framing.size.empty',
    title: 'A memory table without payload',
    level: 'robustness',
    spec: HEADER,
    expected: 'refused, or the connection is closed; whoever connects then is served',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    aftermath: 'new connection',
    run: (rig) => {
      const outcome = rig
        .negotiate()
        .tellFrame({ request: FrontendRequest.SET_MEM_TABLE, flags: requestFlags(true) });
      check(outcome !== 'accepted', 'SET_MEM_TABLE without payload was accepted');
    },
  },
  {
    id: 'framing.size.long',
    title: 'A payload longer than the request needs does not shift the next message',
    level: 'robustness',
    spec: HEADER,
    expected: 'refused or the surplus ignored, and GET_FEATURES answered; or the connection is closed',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const payload = Buffer.concat([VringState.encode({ index: 0, num: RING_SIZE }), GET_FEATURES]);
      const outcome = link.tellFrame({
        request: FrontendRequest.SET_VRING_NUM,
        flags: requestFlags(true),
        payload,
      });
      if (outcome === 'closed') return;
      link.isAnswering();
      rig.pause(5);
      check(link.receive(0).kind !== 'frame', 'octets of a payload were taken for a message');
    },
  },
  ...[0x7fff_ffff, 0xffff_ffff, 0x10_0000].map((size): ConformanceCase => ({
    id: `framing.size.0x${size.toString(16)}`,
    title: `A header that claims a payload of ${size} octets`,
    level: 'robustness',
    spec: EXCEPTIONAL,
    expected: 'refused, or the connection is closed; whoever connects then is served',
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      link.sendFrame({ request: FrontendRequest.SET_VRING_NUM, payload: new Uint8Array(64), size });
      // Nothing says how long it may wait for the rest.
      rig.pause(10);
      link.hasEnded();
    },
  })),
  {
    id: 'framing.half-message',
    title: 'A front-end that goes away within a message',
    level: 'robustness',
    spec: EXCEPTIONAL,
    expected: 'whoever connects then is served',
    needs: { reconnect: true },
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      link.write(setVringNum(true).subarray(0, 15), [rig.eventfd()]);
      link.close();
    },
  },
  ...[0, 2, 3].map((version): ConformanceCase => ({
    id: `framing.version.${version}`,
    title: `A request of version ${version}`,
    level: 'robustness',
    spec: { section: 'vhost-user § Header', says: 'the lower two bits of the flags are the version, 1' },
    expected: 'refused, or the connection is closed; whoever connects then is served',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    aftermath: 'new connection',
    run: (rig) => {
      const outcome = rig.negotiate().tellFrame({
        request: FrontendRequest.SET_VRING_NUM,
        flags: HeaderFlag.NEED_REPLY | version,
        payload: VringState.encode({ index: 0, num: RING_SIZE }),
      });
      check(outcome !== 'accepted', `version ${version} was accepted`);
    },
  })),
  {
    id: 'framing.reply-flag',
    title: 'A request that says it is a reply',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Header',
      says: 'bit 2 is the reply flag, which replies of the back-end have',
    },
    expected: 'ignored, refused or answered, or the connection is closed; whoever connects then is served',
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      link.sendFrame({
        request: FrontendRequest.SET_FEATURES,
        flags: requestFlags(false) | HeaderFlag.REPLY,
        payload: U64.encode(link.features),
      });
      link.isAnswering();
    },
  },
  ...[0, 99, 0xffff_ffff].map((request): ConformanceCase => ({
    id: `framing.unknown.${request}`,
    title: `Request ${request}, which nobody knows, asking for an answer`,
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_PROTOCOL_F_REPLY_ACK',
      says: 'need_reply can be set in any command; the answer is non-zero for failure',
    },
    expected: 'a non-zero ack, and the connection lives on',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const outcome = rig
        .negotiate()
        .tellFrame({ request, flags: requestFlags(true), payload: U64.encode(0n) });
      if (outcome === 'closed') hungUp(`request ${request}: the connection was closed`);
      check(outcome === 'refused', `request ${request}: ${outcome}`);
    },
  })),
  {
    id: 'framing.unknown.unasked',
    title: 'An unknown request that asks for no answer gets none',
    level: 'robustness',
    spec: { section: 'vhost-user § Communication', says: 'most requests have no reply' },
    expected: 'no answer, and the connection lives on',
    run: (rig) => {
      const link = rig.negotiate();
      link.sendFrame({ request: 99, payload: U64.encode(0n) });
      if (!link.isAnswering()) hungUp('request 99: the connection was closed');
    },
  },
  {
    id: 'framing.flags.reserved',
    title: 'Reserved flags of a header do no harm',
    level: 'robustness',
    spec: { section: 'vhost-user § Header', says: 'bits 0 to 3 of the flags have a meaning' },
    expected: 'GET_FEATURES is answered, or refused; the connection lives on or is closed',
    aftermath: 'new connection',
    run: ({ link }) => {
      link.sendFrame({ request: FrontendRequest.GET_FEATURES, flags: 0xffff_fff1 });
      const arrival = link.receive();
      if (arrival.kind === 'silence') failed('no answer, and the connection is open');
    },
  },
];
