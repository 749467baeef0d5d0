/** The device as a whole: configuration space, reset, status. */
import { FrontendRequest, ProtocolFeature, requestFlags } from '../../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { VirtioStatus } from '../../../protocol/virtio.ts';
import type { CaseNeeds, ConformanceCase, DeviceName } from '../case.ts';
import type { Guest } from '../guest.ts';
import type { Link } from '../link.ts';
import type { Rig } from '../rig.ts';
import { check, failed, hungUp } from '../verdict.ts';

const CONFIG: CaseNeeds = { protocolFeatures: ['CONFIG'], device: ['fs', 'blk'] };
const GET_CONFIG = {
  section: 'vhost-user § VHOST_USER_GET_CONFIG',
  says: "the payload of the answer must have the size of the request's; an answer of zero length indicates an error",
};
const RESET: CaseNeeds = { protocolFeatures: ['REPLY_ACK', 'RESET_DEVICE'] };
const RESET_DEVICE = {
  section: 'vhost-user § VHOST_USER_RESET_DEVICE',
  says: 'asks the back-end to disable all rings and to reset all internal device state to the initial state, ready to be reinitialised',
};

/** Bytes every device of the kind has. virtio 1.2 § 5.11.4, § 5.2.4. */
const CONFIG_SIZE: { readonly [device in DeviceName]: number } = { fs: 40, blk: 8, any: 0 };
const QUIET_MS = 20;

const readConfig = (link: Link, offset: number, size: number): Uint8Array =>
  link.ask(R.GET_CONFIG, { offset, flags: 0, contents: new Uint8Array(size) }).contents;

export const CONFIG_CASES: readonly ConformanceCase[] = [
  {
    id: 'config.get',
    title: 'GET_CONFIG answers as many octets as were asked for',
    level: 'must',
    spec: GET_CONFIG,
    expected: 'the configuration space of the device, in a payload of the size asked for',
    needs: CONFIG,
    run: (rig) => {
      const size = CONFIG_SIZE[rig.device.name];
      const contents = readConfig(rig.negotiate(), 0, size);
      check(contents.length === size, `${contents.length} octets, asked for ${size}`);
      check(
        contents.some((octet) => octet !== 0),
        'the configuration space is all zeros',
      );
    },
  },
  {
    id: 'config.get.part',
    title: 'Parts of the configuration space agree with the whole',
    level: 'must',
    spec: GET_CONFIG,
    expected: 'each octet read alone is the one of the whole',
    needs: CONFIG,
    run: (rig) => {
      const link = rig.negotiate();
      const size = CONFIG_SIZE[rig.device.name];
      const whole = readConfig(link, 0, size);
      for (const [offset, length] of [
        [0, 4],
        [4, 4],
        [size - 4, 4],
      ] as const) {
        const part = readConfig(link, offset, length);
        check(
          Buffer.from(part).equals(whole.subarray(offset, offset + length)),
          `${length} octets at ${offset} differ from the whole`,
        );
      }
    },
  },
  {
    id: 'config.get.beyond',
    title: 'GET_CONFIG behind the end of the configuration space is answered',
    level: 'robustness',
    spec: GET_CONFIG,
    expected: 'an answer of zero length, or of the size asked for; the connection lives on',
    needs: CONFIG,
    run: (rig) => {
      const link = rig.negotiate();
      for (const [offset, size] of [
        [0x200, 16],
        [0xffff_fff0, 16],
        [0, 256],
      ] as const) {
        link.send(R.GET_CONFIG, { offset, flags: 0, contents: new Uint8Array(size) });
        const payload = link.expectReply('GET_CONFIG');
        check(
          payload.length === 0 || payload.length === 12 + size,
          `an answer of ${payload.length} octets to ${size} at ${offset}; allowed 0 and ${12 + size}`,
        );
      }
    },
  },
  {
    id: 'config.get.size-lies',
    title: 'GET_CONFIG whose size field is not the size of its payload',
    level: 'robustness',
    spec: GET_CONFIG,
    expected: 'an answer, or the connection is closed; whoever connects then is served',
    needs: CONFIG,
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const payload = Buffer.alloc(16);
      payload.writeUInt32LE(0xffff_ffff, 4);
      link.sendFrame({ request: FrontendRequest.GET_CONFIG, flags: requestFlags(false), payload });
      if (link.receive().kind === 'silence') failed('no answer, and the connection is open');
    },
  },
  {
    id: 'config.set.read-only',
    title: 'SET_CONFIG of a read-only field is not accepted',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_CONFIG',
      says: 'back-ends must not accept it for read-only fields unless the live migration bit is set',
    },
    expected: 'not accepted; the configuration space is what it was',
    needs: { ...CONFIG, protocolFeatures: ['CONFIG', 'REPLY_ACK'] },
    aftermath: 'new connection',
    run: (rig) => {
      const link = rig.negotiate();
      const before = readConfig(link, 0, 8);
      const contents = before.map((octet) => octet ^ 0xff);
      const outcome = link.tell(R.SET_CONFIG, { offset: 0, flags: 0, contents });
      // Some acknowledge everything, and then give the connection up over what they could not do.
      const livesOn = link.isAnswering();
      check(!livesOn || outcome !== 'accepted', 'SET_CONFIG of a read-only field was accepted');
      if (!livesOn) rig.reconnect();
      const now = readConfig(livesOn ? link : rig.negotiate(), 0, 8);
      check(Buffer.from(now).equals(before), 'the read-only field has changed');
    },
  },
  {
    id: 'config.set.read-only.refused',
    title: 'SET_CONFIG of a read-only field is refused, and the connection lives on',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_PROTOCOL_F_REPLY_ACK',
      says: 'a request that asks for it is answered, non-zero for failure',
    },
    expected: 'a non-zero ack, and the connection lives on',
    needs: { ...CONFIG, protocolFeatures: ['CONFIG', 'REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const contents = readConfig(link, 0, 8).map((octet) => octet ^ 0xff);
      link.refuses(R.SET_CONFIG, { offset: 0, flags: 0, contents });
    },
  },
];

/** A guest whose device has worked and was reset. */
function resetGuest(rig: Rig, from: 'stopped' | 'running'): Guest {
  const guest = rig.startGuest();
  guest.request();
  if (from === 'stopped') guest.stopRings();
  guest.link.accepts(R.RESET_DEVICE, undefined);
  guest.link.startedRings.clear();
  guest.forgetSession();
  guest.resetRings();
  guest.link.accepts(R.SET_FEATURES, guest.link.features);
  return guest;
}

export const RESET_CASES: readonly ConformanceCase[] = [
  {
    id: 'reset.device.again',
    title: 'After RESET_DEVICE the device can be set up again',
    level: 'must',
    spec: RESET_DEVICE,
    expected: 'features, memory and rings told again, a good request is answered',
    needs: { ...RESET, device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = resetGuest(rig, 'stopped');
      guest.shareMemory('table');
      guest.startRings();
      guest.request();
    },
  },
  {
    id: 'reset.device.running',
    title: 'RESET_DEVICE may come while rings run',
    level: 'should',
    spec: RESET_DEVICE,
    expected: 'everything told again, a good request is answered, and the rings can be stopped',
    needs: { ...RESET, device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = resetGuest(rig, 'running');
      guest.shareMemory('table');
      guest.startRings();
      guest.request();
      guest.stopRings();
    },
  },
  {
    id: 'reset.device.keeps-memory',
    title: 'RESET_DEVICE keeps the memory table',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_RESET_DEVICE',
      says: 'internal device state is reset; guest memory is not state of the device, and QEMU does not tell it again',
    },
    expected: 'features and rings told again, a good request is answered',
    needs: { ...RESET, device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = resetGuest(rig, 'stopped');
      guest.startRings();
      guest.request();
    },
  },
  {
    id: 'reset.device.disables',
    title: 'RESET_DEVICE disables all rings',
    level: 'should',
    spec: RESET_DEVICE,
    expected: 'rings set up again and not enabled serve nothing; enabled and kicked, they do',
    needs: { ...RESET, device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = resetGuest(rig, 'stopped');
      guest.shareMemory('table');
      guest.queues.forEach((_, index) => guest.startRing(index));
      const pending = guest.submit();
      check(!guest.isAnswered(pending, QUIET_MS), 'a request was served in a ring that is not enabled');
      guest.queues.forEach((_, index) => guest.enableRing(index));
      guest.kick(pending.queue);
      guest.finish(pending);
    },
  },
  {
    id: 'reset.device.keeps-protocol',
    title: 'RESET_DEVICE keeps what was negotiated of the protocol',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_RESET_DEVICE',
      says: 'internal device state is reset, and the back-end retains ownership of the device',
    },
    expected: 'need_reply is honoured afterwards',
    needs: RESET,
    run: (rig) => {
      const link = rig.negotiate();
      link.accepts(R.RESET_DEVICE, undefined);
      link.accepts(R.SET_VRING_NUM, { index: 0, num: 64 });
    },
  },
  {
    id: 'reset.owner.keeps-session',
    title: 'RESET_OWNER does not discard the session',
    level: 'should',
    spec: {
      section: 'vhost-user § VHOST_USER_RESET_OWNER',
      says: 'deprecated; it is recommended to ignore it, or to use it to disable all rings',
    },
    expected: 'with the rings enabled again, a good request is answered',
    needs: { device: ['fs', 'blk'] },
    run: (rig) => {
      const guest = rig.startGuest();
      guest.request();
      guest.link.survives(R.RESET_OWNER, undefined);
      guest.queues.forEach((_, index) => guest.enableRing(index));
      guest.request();
    },
  },
];

export const STATUS_CASES: readonly ConformanceCase[] = [
  {
    id: 'status.kept',
    title: 'GET_STATUS answers what SET_STATUS has set',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_STATUS',
      says: 'queries the device status as the virtio specification defines it',
    },
    expected: 'ACKNOWLEDGE and DRIVER are set after they were set',
    needs: { protocolFeatures: ['STATUS'] },
    run: (rig) => {
      const link = withStatus(
        rig.negotiate({ protocolFeatures: rig.facts.protocolFeatures & STATUS_FEATURES }),
      );
      const status = VirtioStatus.ACKNOWLEDGE | VirtioStatus.DRIVER;
      link.survives(R.SET_STATUS, BigInt(status));
      const seen = Number(link.ask(R.GET_STATUS, undefined));
      check((seen & status) === status, `status ${seen}, set ${status}`);
    },
  },
  {
    id: 'status.reset',
    title: 'SET_STATUS 0 resets the status',
    level: 'should',
    spec: { section: 'virtio 1.2 § 2.1', says: 'writing 0 into the status resets the device' },
    expected: 'GET_STATUS answers 0 after SET_STATUS 0',
    needs: { protocolFeatures: ['STATUS'] },
    run: (rig) => {
      const link = withStatus(
        rig.negotiate({ protocolFeatures: rig.facts.protocolFeatures & STATUS_FEATURES }),
      );
      link.survives(R.SET_STATUS, BigInt(VirtioStatus.ACKNOWLEDGE));
      link.survives(R.SET_STATUS, 0n);
      const seen = link.ask(R.GET_STATUS, undefined);
      check(seen === 0n, `status ${seen}`);
    },
  },
  {
    id: 'status.wide',
    title: 'SET_STATUS of more than 8 bits does no harm',
    level: 'robustness',
    spec: { section: 'virtio 1.2 § 2.1', says: 'the status has bits up to 7' },
    expected: 'accepted or refused, and the connection lives on',
    needs: { protocolFeatures: ['STATUS'] },
    run: (rig) => {
      const link = withStatus(
        rig.negotiate({ protocolFeatures: rig.facts.protocolFeatures & STATUS_FEATURES }),
      );
      link.survives(R.SET_STATUS, 0xffff_ffff_ffff_ffffn);
    },
  },
];

const STATUS_FEATURES =
  (1n << BigInt(ProtocolFeature.STATUS)) |
  (1n << BigInt(ProtocolFeature.REPLY_ACK)) |
  (1n << BigInt(ProtocolFeature.MQ)) |
  (1n << BigInt(ProtocolFeature.CONFIGURE_MEM_SLOTS));

function withStatus(link: Link): Link {
  if (!link.hasProtocolFeature(ProtocolFeature.STATUS)) hungUp('STATUS was not negotiated');
  return link;
}
