/** What is agreed on when a device front-end connects, before there is any ring. */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import type { VhostUserFrontend } from './frontend.ts';

/** Regions a table has without CONFIGURE_MEM_SLOTS. vhost-user spec § Memory regions description. */
const BASELINE_SLOTS = 8;
/** QEMU's arrays have no more, whatever a back-end says. */
const QEMU_SLOTS = 512;
/** `VHOST_USER_PROTOCOL_FEATURE_MASK` of QEMU 10, less CONFIG, which its file system device has no use for. */
const QEMU_PROTOCOL_FEATURES = 0xf_ffffn & ~maskOf(ProtocolFeature.CONFIG);

const STRICT_PROTOCOL_FEATURES = maskOf(
  ProtocolFeature.MQ,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
  ProtocolFeature.DEVICE_STATE,
);
const BACKEND_CHANNEL = maskOf(ProtocolFeature.BACKEND_REQ, ProtocolFeature.BACKEND_SEND_FD);

export interface NegotiationOptions {
  /** Queues the device has. */
  readonly queues: number;
  /** The back-end's end of a channel for its own requests; borrowed. Without it, none are negotiated. */
  readonly backendChannel?: number;
}

export interface Negotiated {
  /** Device features the back-end offers, the transport's included. */
  readonly features: bigint;
  /** Regions its memory table has room for. */
  readonly memslotLimit: number;
}

/**
 * The messages up to the second GET_FEATURES, in QEMU's order.
 *
 * @throws {ProtocolError} NOT_SUPPORTED if the back-end has too few queues; what the front-end throws
 */
export function negotiate(frontend: VhostUserFrontend, options: NegotiationOptions): Negotiated {
  const memslotLimit = negotiateProtocol(frontend, frontend.getFeatures(), options);
  frontend.setOwner();
  return { features: frontend.getFeatures(), memslotLimit };
}

/** @returns the limit of memslots */
function negotiateProtocol(
  frontend: VhostUserFrontend,
  offered: bigint,
  { queues, backendChannel }: NegotiationOptions,
): number {
  const isQemu = frontend.mode === 'qemu';
  if (!hasBit(offered, VHOST_USER_F_PROTOCOL_FEATURES)) return isQemu ? 0 : BASELINE_SLOTS;
  const known = isQemu ? QEMU_PROTOCOL_FEATURES : STRICT_PROTOCOL_FEATURES | BACKEND_CHANNEL;
  const wanted = backendChannel === undefined ? known & ~BACKEND_CHANNEL : known;
  frontend.setProtocolFeatures(frontend.getProtocolFeatures() & wanted);
  if (frontend.hasProtocolFeature(ProtocolFeature.MQ)) {
    const served = frontend.getQueueNum();
    if (!isQemu && served < queues)
      throw new ProtocolError('NOT_SUPPORTED', `the back-end has ${served} queues, wanted ${queues}`);
  }
  let limit = BASELINE_SLOTS;
  if (frontend.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS)) {
    const most = BigInt(isQemu ? QEMU_SLOTS : Number.MAX_SAFE_INTEGER);
    const announced = frontend.getMaxMemSlots();
    limit = Number(announced < most ? announced : most);
  }
  if (backendChannel !== undefined && frontend.hasProtocolFeature(ProtocolFeature.BACKEND_REQ))
    frontend.setBackendReqFd(backendChannel);
  return limit;
}
