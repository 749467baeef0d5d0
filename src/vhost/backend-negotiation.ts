/** Requests about the session and the device as a whole: features, ownership, configuration, status, reset. */
import { hasBit } from '../../protocol/bits.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import { hex } from '../units.ts';
import { acked, answered, type Handler } from './backend-handler.ts';

/** In SET_CONFIG's flags: the destination of a live migration is told the source's configuration. */
const CONFIG_FLAG_MIGRATION = 1;

export const NEGOTIATION_HANDLERS: readonly Handler[] = [
  answered(R.GET_FEATURES, (state) => state.offeredFeatures),
  acked(R.SET_FEATURES, (state, features) => {
    checkOffered('features', features, state.offeredFeatures);
    state.setFeatures(features);
    state.log.info({ features }, 'vhost_user_set_features');
  }),
  answered(R.GET_PROTOCOL_FEATURES, (state) => state.offeredProtocolFeatures),
  acked(R.SET_PROTOCOL_FEATURES, (state, protocolFeatures) => {
    state.acknowledges = hasBit(protocolFeatures, ProtocolFeature.REPLY_ACK);
    checkOffered('protocol features', protocolFeatures, state.offeredProtocolFeatures);
    state.setProtocolFeatures(protocolFeatures);
    state.log.info({ protocolFeatures }, 'vhost_user_set_protocol_features');
  }),
  // The connection is the ownership; a second SET_OWNER changes nothing.
  acked(R.SET_OWNER, () => undefined),
  // Deprecated. The specification recommends to ignore it: some back-ends took it for a reset, others did not.
  acked(R.RESET_OWNER, () => undefined),
  answered(R.GET_QUEUE_NUM, (state) => BigInt(state.device.queueCount)),
  acked(R.SET_BACKEND_REQ_FD, (state, _, fds) => {
    const fd = fds.shift();
    if (fd !== undefined) state.channel.open(fd);
  }),
  answered(R.GET_CONFIG, (state, { offset, flags, contents }) => ({
    offset,
    flags,
    contents: configRange(state.device.readConfig?.() ?? new Uint8Array(0), offset, contents.length),
  })),
  acked(R.SET_CONFIG, (state, { offset, flags, contents }) => {
    const ours = configRange(state.device.readConfig?.() ?? new Uint8Array(0), offset, contents.length);
    // Every field is read-only. What a migration brings must be what we are.
    if ((flags & CONFIG_FLAG_MIGRATION) === 0)
      throw new ProtocolError(
        'BAD_VALUE',
        `SET_CONFIG at ${offset}: read-only, allowed only for live migration`,
      );
    if (!Buffer.from(ours).equals(contents))
      throw new ProtocolError(
        'BAD_VALUE',
        `SET_CONFIG at ${offset}: migrated configuration is not this device's`,
      );
  }),
  acked(R.SET_STATUS, (state, value) => {
    if (value > 0xffn) throw new ProtocolError('BAD_VALUE', `SET_STATUS ${hex(value)}, allowed up to 0xff`);
    state.status = Number(value);
    // The front-end stops rings and resets devices by messages of their own: QEMU also sends 0 when it only pauses.
  }),
  answered(R.GET_STATUS, (state) => BigInt(state.status)),
  acked(R.RESET_DEVICE, (state) => {
    state.resetDevice();
    state.log.info({}, 'vhost_user_reset_device');
  }),
];

function checkOffered(what: string, asked: bigint, offered: bigint): void {
  const surplus = asked & ~offered;
  if (surplus !== 0n)
    throw new ProtocolError('BAD_VALUE', `${what} ${hex(surplus)} were not offered, allowed ${hex(offered)}`);
}

function configRange(config: Uint8Array, offset: number, size: number): Uint8Array {
  if (size === 0 || offset + size > config.length)
    throw new ProtocolError(
      'BAD_VALUE',
      `configuration ${offset}+${size}, allowed within ${config.length} bytes`,
    );
  return config.subarray(offset, offset + size);
}
