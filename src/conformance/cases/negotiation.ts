/** Features, protocol features, ownership: the beginning of a conversation. */
import { bitsOf, hasBit, maskOf } from '../../../protocol/bits.ts';
import {
  FrontendRequest,
  ProtocolFeature,
  requestFlags,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from '../../../protocol/vhost-user.ts';
import { U64 } from '../../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { VirtioFeature } from '../../../protocol/virtio.ts';
import { hex } from '../../units.ts';
import type { ConformanceCase } from '../case.ts';
import { PROTOCOL_FEATURES } from '../negotiate.ts';
import { check, failed, hungUp, skipped } from '../verdict.ts';

const ALL_BITS = Array.from({ length: 64 }, (_, bit) => bit);

export const NEGOTIATION_CASES: readonly ConformanceCase[] = [
  {
    id: 'negotiation.features.first',
    title: 'GET_FEATURES is answered before anything else was sent',
    level: 'must',
    spec: {
      section: 'vhost-user § Communication',
      says: 'GET_FEATURES always has a reply; nothing has to come before it',
    },
    expected: 'a mask of features',
    run: (rig) => void rig.link.ask(R.GET_FEATURES, undefined),
  },
  {
    id: 'negotiation.features.stable',
    title: 'GET_FEATURES answers the same each time, before and after SET_OWNER and SET_FEATURES',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_FEATURES',
      says: 'the answer is the mask of features of the back-end, not of what was negotiated',
    },
    expected: 'equal answers',
    run: (rig) => {
      const first = rig.link.ask(R.GET_FEATURES, undefined);
      rig.link.send(R.SET_OWNER, undefined);
      const second = rig.link.ask(R.GET_FEATURES, undefined);
      rig.negotiate();
      const third = rig.link.ask(R.GET_FEATURES, undefined);
      check(first === second && first === third, `${hex(first)}, then ${hex(second)}, then ${hex(third)}`);
    },
  },
  {
    id: 'negotiation.features.version-1',
    title: 'VIRTIO_F_VERSION_1 is offered',
    level: 'should',
    spec: { section: 'virtio 1.2 § 6.2', says: 'a device offers VIRTIO_F_VERSION_1' },
    expected: 'bit 32 in the answer to GET_FEATURES',
    run: (rig) =>
      check(hasBit(rig.facts.features, VirtioFeature.VERSION_1), `features ${hex(rig.facts.features)}`),
  },
  {
    id: 'negotiation.features.minimal',
    title: 'A driver that accepts VERSION_1 and no ring feature is served',
    level: 'should',
    spec: {
      section: 'virtio 1.2 § 2.2.2',
      says: 'a device should accept any valid subset of the features it offers',
    },
    expected: 'a good request is answered',
    needs: { device: ['fs', 'blk'], features: [VirtioFeature.VERSION_1] },
    run: (rig) =>
      rig.startGuest({ features: maskOf(VirtioFeature.VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES) }).request(),
  },
  {
    id: 'negotiation.features.unoffered',
    title: 'SET_FEATURES with a bit that was not offered is refused',
    level: 'robustness',
    spec: {
      section: 'virtio 1.2 § 2.2.1',
      says: 'a driver must not accept a feature that was not offered; a device cannot do what it does not have',
    },
    expected: 'a non-zero ack, and the connection lives on',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const bit = ALL_BITS.find((each) => !hasBit(rig.facts.features, each)) ?? 63;
      link.refuses(R.SET_FEATURES, link.features | maskOf(bit), { because: `bit ${bit}` });
    },
  },
  {
    id: 'negotiation.features.none',
    title: 'SET_FEATURES 0 does no harm',
    level: 'robustness',
    spec: {
      section: 'virtio 1.2 § 2.2.2',
      says: 'a device should accept any valid subset of the features it offers',
    },
    expected: 'accepted or refused, and the connection lives on',
    run: (rig) => {
      const link = rig.negotiate();
      link.survives(R.SET_FEATURES, 0n);
    },
  },
  {
    id: 'negotiation.protocol.offered',
    title: 'Protocol features can be negotiated',
    level: 'should',
    spec: {
      section: 'vhost-user § Communication',
      says: 'every extension is behind a protocol feature, and bit 30 says that these can be negotiated',
    },
    expected: 'VHOST_USER_F_PROTOCOL_FEATURES is offered',
    run: (rig) =>
      check(
        hasBit(rig.facts.features, VHOST_USER_F_PROTOCOL_FEATURES),
        `features ${hex(rig.facts.features)}`,
      ),
  },
  {
    id: 'negotiation.protocol.mq',
    title: 'MQ is offered',
    level: 'should',
    spec: {
      section: 'vhost-user § Multiple queue support',
      says: 'back-ends should always implement MQ, also for a fixed number of rings',
    },
    expected: 'VHOST_USER_PROTOCOL_F_MQ is offered',
    run: (rig) =>
      check(
        hasBit(rig.facts.protocolFeatures, ProtocolFeature.MQ),
        `protocol features ${hex(rig.facts.protocolFeatures)}`,
      ),
  },
  {
    id: 'negotiation.protocol.before-set-features',
    title: 'GET_ and SET_PROTOCOL_FEATURES work before SET_FEATURES',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_PROTOCOL_FEATURES',
      says: 'a back-end that reports PROTOCOL_FEATURES must support both before SET_FEATURES was called',
    },
    expected: 'both are taken, and REPLY_ACK holds from then on',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: ({ link, facts }) => {
      link.ask(R.GET_FEATURES, undefined);
      const offered = link.ask(R.GET_PROTOCOL_FEATURES, undefined);
      link.send(R.SET_PROTOCOL_FEATURES, offered & PROTOCOL_FEATURES);
      link.send(R.SET_OWNER, undefined);
      link.accepts(
        R.SET_FEATURES,
        facts.features & maskOf(VirtioFeature.VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES),
      );
    },
  },
  {
    id: 'negotiation.protocol.stable',
    title: 'GET_PROTOCOL_FEATURES answers the same before and after SET_PROTOCOL_FEATURES',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_PROTOCOL_FEATURES',
      says: 'the answer is what the back-end supports, not what was negotiated',
    },
    expected: 'equal answers',
    run: (rig) => {
      if (rig.facts.protocolFeatures === 0n) skipped('the back-end has no protocol features');
      const link = rig.negotiate({ protocolFeatures: maskOf(ProtocolFeature.MQ) });
      const after = link.ask(R.GET_PROTOCOL_FEATURES, undefined);
      check(after === rig.facts.protocolFeatures, `${hex(rig.facts.protocolFeatures)}, then ${hex(after)}`);
    },
  },
  {
    id: 'negotiation.protocol.unoffered',
    title: 'SET_PROTOCOL_FEATURES with a bit that was not offered does no harm',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_PROTOCOL_FEATURES',
      says: 'enables protocol features of the back-end; what was not offered cannot be enabled',
    },
    expected: 'ignored or refused, and the connection lives on',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const bit = ALL_BITS.findLast((each) => !hasBit(rig.facts.protocolFeatures, each)) ?? 63;
      const kept = link.protocolFeatures;
      link.survives(R.SET_PROTOCOL_FEATURES, kept | maskOf(bit), { because: `bit ${bit}` });
      link.accepts(R.SET_PROTOCOL_FEATURES, kept);
    },
  },
  {
    id: 'negotiation.protocol.unnegotiated',
    title: 'A request whose protocol feature was not negotiated is refused',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_ADD_MEM_REG',
      says: 'the message is sent when CONFIGURE_MEM_SLOTS has been successfully negotiated',
    },
    expected: 'a non-zero ack, and the connection lives on',
    needs: { protocolFeatures: ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'] },
    run: (rig) => {
      const link = rig.negotiate({
        protocolFeatures: PROTOCOL_FEATURES & ~maskOf(ProtocolFeature.CONFIGURE_MEM_SLOTS),
      });
      const memory = rig.memory(0x10_0000);
      link.refuses(R.ADD_MEM_REG, { padding: 0n, region: memory.region() }, { fds: [memory.fd] });
    },
  },
  {
    id: 'negotiation.protocol.none',
    title: 'Without PROTOCOL_FEATURES, rings are enabled by SET_FEATURES',
    level: 'must',
    spec: {
      section: 'vhost-user § Ring states',
      says: 'on SET_FEATURES without bit 30 the back-end must enable all rings immediately',
    },
    expected: 'a good request is answered without SET_VRING_ENABLE, with memory told by SET_MEM_TABLE',
    needs: { device: ['fs', 'blk'], features: [VirtioFeature.VERSION_1] },
    run: (rig) => {
      const features = maskOf(VirtioFeature.VERSION_1);
      rig.link.ask(R.GET_FEATURES, undefined);
      rig.link.send(R.SET_OWNER, undefined);
      rig.link.send(R.SET_FEATURES, features);
      const guest = rig.guest({ features });
      guest.shareMemory('table');
      guest.queues.forEach((_, index) => guest.startRing(index));
      guest.request();
    },
  },
  {
    id: 'negotiation.protocol.in-band-alone',
    title: 'INBAND_NOTIFICATIONS without BACKEND_REQ and REPLY_ACK ends the connection',
    level: 'should',
    spec: {
      section: 'vhost-user § In-band notifications',
      says: 'the back-end should close the connection when the feature is set without the other two',
    },
    expected: 'the connection is closed',
    needs: { protocolFeatures: ['INBAND_NOTIFICATIONS'] },
    aftermath: 'new connection',
    run: ({ link }) => {
      link.send(R.SET_PROTOCOL_FEATURES, maskOf(ProtocolFeature.INBAND_NOTIFICATIONS));
      check(!link.isAnswering(), 'the connection lives on');
    },
  },
  {
    id: 'negotiation.owner.twice',
    title: 'A second SET_OWNER does no harm',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_OWNER',
      says: 'marks the sender as the front-end that owns the session; a back-end can use it as a start flag',
    },
    expected: 'accepted, ignored or refused, and the connection lives on',
    run: (rig) => void rig.negotiate().survives(R.SET_OWNER, undefined),
  },
  {
    id: 'negotiation.queue-num',
    title: 'GET_QUEUE_NUM says how many rings there are',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_QUEUE_NUM',
      says: 'says how many queues the back-end supports; sent when MQ is in the queried protocol features',
    },
    expected: 'at least as many rings as the device has, also before MQ was negotiated',
    needs: { protocolFeatures: ['MQ'] },
    run: ({ link, device, facts }) => {
      link.ask(R.GET_FEATURES, undefined);
      link.ask(R.GET_PROTOCOL_FEATURES, undefined);
      link.send(R.SET_PROTOCOL_FEATURES, facts.protocolFeatures & PROTOCOL_FEATURES);
      const count = link.ask(R.GET_QUEUE_NUM, undefined);
      const least = Math.max(1, device.queues);
      check(count >= least && count <= 0x100n * 0x100n, `${count} rings, the device has at least ${least}`);
    },
  },
  {
    id: 'negotiation.reply-ack.not-negotiated',
    title: 'Without REPLY_ACK, the need_reply flag asks for nothing',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_PROTOCOL_F_REPLY_ACK',
      says: 'the flag asks for an answer once this extension was negotiated',
    },
    expected: 'no answer to SET_FEATURES; GET_FEATURES behind it is answered',
    run: ({ link, facts }) => {
      link.send(R.SET_OWNER, undefined);
      const features = facts.features & maskOf(VirtioFeature.VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES);
      link.sendFrame({
        request: FrontendRequest.SET_FEATURES,
        flags: requestFlags(true),
        payload: U64.encode(features),
      });
      link.send(R.GET_FEATURES, undefined);
      const arrival = link.receive();
      if (arrival.kind === 'closed') hungUp('the connection was closed');
      if (arrival.kind === 'frame' && arrival.request === FrontendRequest.SET_FEATURES)
        failed('SET_FEATURES was answered');
    },
  },
  {
    id: 'negotiation.bits.known',
    title: 'Only protocol features of the specification are offered',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Protocol features',
      says: 'bits 0 to 23 are assigned; a bit that later gets another meaning breaks both sides',
    },
    expected: 'no bit above 23',
    run: ({ facts }) => {
      const unknown = bitsOf(facts.protocolFeatures).filter((bit) => bit > LAST_PROTOCOL_FEATURE);
      check(unknown.length === 0, `bits ${unknown.join(', ')} are offered`);
    },
  },
];

/** GET_VRING_BASE_SKIP_DRAIN. */
const LAST_PROTOCOL_FEATURE = 23;
