/** The beginning of every conversation: features, protocol features, ownership. In the order of QEMU. */
import { maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../protocol/virtio-ring.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import type { BackendFacts } from './backend.ts';
import type { Link } from './link.ts';

export interface NegotiateOptions {
  /** What to ask for; cut to what is offered. PROTOCOL_FEATURES only takes part if it is in it. */
  readonly features?: bigint;
  /** What to ask for; cut to what is offered. */
  readonly protocolFeatures?: bigint;
}

/** What rings are used with unless a case says otherwise. */
export const RING_FEATURES = maskOf(
  VirtioFeature.VERSION_1,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  VHOST_USER_F_PROTOCOL_FEATURES,
);

/** What changes nothing unless its messages are sent. */
export const PROTOCOL_FEATURES = maskOf(
  ProtocolFeature.MQ,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.CONFIG,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.INFLIGHT_SHMFD,
  ProtocolFeature.DEVICE_STATE,
);

/** @throws {CaseEnd} if the back-end does not take part */
export function negotiate(link: Link, facts: BackendFacts, options: NegotiateOptions = {}): void {
  const features = facts.features & (options.features ?? RING_FEATURES);
  const protocolFeatures = facts.protocolFeatures & (options.protocolFeatures ?? PROTOCOL_FEATURES);
  link.ask(R.GET_FEATURES, undefined);
  if (facts.protocolFeatures !== 0n) {
    link.ask(R.GET_PROTOCOL_FEATURES, undefined);
    link.send(R.SET_PROTOCOL_FEATURES, protocolFeatures);
  }
  // A second SET_OWNER is an error for some.
  if (!link.hasOwner) link.send(R.SET_OWNER, undefined);
  link.send(R.SET_FEATURES, features);
}
