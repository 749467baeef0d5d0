/** What is agreed on when a device front-end connects, before there is any ring. */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import { hex } from '../units.ts';
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
  ProtocolFeature.INFLIGHT_SHMFD,
);
const BACKEND_CHANNEL = maskOf(ProtocolFeature.BACKEND_REQ, ProtocolFeature.BACKEND_SEND_FD);

export interface NegotiationOptions {
  /** Queues the device has. */
  readonly queues: number;
  /** The back-end's end of a channel for its own requests; borrowed. Without it, none are negotiated. */
  readonly backendChannel?: number;
  /** Protocol features that requests of the back-end need, which somebody serves. */
  readonly served?: readonly ProtocolFeature[];
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

/**
 * In the order of cloud-hypervisor, which never asks for a limit.
 *
 * @throws {ProtocolError} NOT_SUPPORTED if the back-end has too few queues; what the front-end throws
 */
export function negotiateUnlimited(frontend: VhostUserFrontend, options: NegotiationOptions): Negotiated {
  frontend.setOwner();
  const features = frontend.getFeatures();
  if (!hasBit(features, VHOST_USER_F_PROTOCOL_FEATURES)) return { features, memslotLimit: BASELINE_SLOTS };
  chooseProtocolFeatures(frontend, options);
  return { features, memslotLimit: Number.MAX_SAFE_INTEGER };
}

/**
 * A back-end that comes in the place of another has to offer what is in use.
 *
 * @param before the features in use, and the limit memory was plugged by
 * @throws {ProtocolError} NOT_SUPPORTED, SLOT_LIMIT
 */
export function assertNotLess(name: string, before: Negotiated, now: Negotiated): void {
  const lost = before.features & ~now.features;
  if (lost !== 0n)
    throw new ProtocolError(
      'NOT_SUPPORTED',
      `${name}: the back-end now offers features ${hex(now.features)}; missing, but in use: ${hex(lost)}`,
    );
  if (now.memslotLimit < before.memslotLimit)
    throw new ProtocolError(
      'SLOT_LIMIT',
      `${name}: the back-end now has ${now.memslotLimit} memory slots, before ${before.memslotLimit}: this limit should never decrease`,
    );
}

/** @returns the limit of memslots */
function negotiateProtocol(
  frontend: VhostUserFrontend,
  offered: bigint,
  options: NegotiationOptions,
): number {
  const isQemu = frontend.mode === 'qemu';
  const { backendChannel } = options;
  if (!hasBit(offered, VHOST_USER_F_PROTOCOL_FEATURES)) return isQemu ? 0 : BASELINE_SLOTS;
  chooseProtocolFeatures(frontend, options);
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

/** GET_PROTOCOL_FEATURES up to GET_QUEUE_NUM. */
function chooseProtocolFeatures(
  frontend: VhostUserFrontend,
  { queues, backendChannel, served = [] }: NegotiationOptions,
): void {
  const isQemu = frontend.mode === 'qemu';
  const known = isQemu
    ? QEMU_PROTOCOL_FEATURES
    : STRICT_PROTOCOL_FEATURES | BACKEND_CHANNEL | maskOf(...served);
  const wanted = backendChannel === undefined ? known & ~BACKEND_CHANNEL : known;
  frontend.setProtocolFeatures(frontend.getProtocolFeatures() & wanted);
  if (!frontend.hasProtocolFeature(ProtocolFeature.MQ)) return;
  const offered = frontend.getQueueNum();
  if (!isQemu && offered < queues)
    throw new ProtocolError('NOT_SUPPORTED', `the back-end has ${offered} queues, wanted ${queues}`);
}
