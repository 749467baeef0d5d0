/**
 * Asks a back-end what it offers, and tries what a memory table needs: the messages of a front-end up to its first
 * region, no ring and no I/O. Harmless questions come first; each has a deadline, and after one that is not answered
 * the rest is not asked.
 */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import {
  ProtocolFeature,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_MAX_CONFIG_SIZE,
} from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import { VirtioBlkConfig } from '../../protocol/virtio-blk.ts';
import { VirtioFsConfig, VirtioFsNotifyConfig } from '../../protocol/virtio-fs.ts';
import { ProtocolError } from '../errors.ts';
import { createMemfd } from '../host/memfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { FrontendChannel, type FrontendOptions } from './frontend-channel.ts';

/** What is negotiated for the questions below: nothing that changes how messages or memory are read. */
const ASKED_FEATURES = maskOf(
  ProtocolFeature.MQ,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.CONFIG,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
);
/** Back-ends answer for the size of their device's space, some for that only. */
const CONFIG_SIZES = [
  VHOST_USER_MAX_CONFIG_SIZE,
  VirtioBlkConfig.size,
  VirtioFsNotifyConfig.size,
  VirtioFsConfig.size,
  24,
  12,
  8,
];
const REGION_SIZE = 2 * 1024 * 1024;
/** Also its user address: nobody looks at that memory. */
const REGION_AT = 1n << 32n;

/** How a request went that asked to be acknowledged. */
export type Outcome = 'acknowledged' | 'refused' | 'not answered' | 'not asked';

/** What was found out; undefined where the back-end does not offer it, or was not asked any more. */
export interface Offer {
  features?: bigint;
  protocolFeatures?: bigint;
  queues?: bigint;
  memslots?: bigint;
  status?: bigint;
  /** Device configuration space, as much as it gives. */
  config?: Uint8Array;
  /** SET_OWNER that asks for an acknowledgement. */
  owner: Outcome;
  addRegion: Outcome;
  removeRegion: Outcome;
  /** What ended the questions before the last of them. */
  failure?: ProtocolError;
}

/** @param socket connected to a back-end; owned from here on */
export function probe(socket: OwnedFd, options: FrontendOptions): Offer {
  using channel = new FrontendChannel(socket, options);
  const offer: Offer = { owner: 'not asked', addRegion: 'not asked', removeRegion: 'not asked' };
  try {
    askOffers(channel, offer);
    tryMemory(channel, offer);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    offer.failure = error;
  }
  return offer;
}

function askOffers(channel: FrontendChannel, offer: Offer): void {
  offer.features = channel.ask(R.GET_FEATURES, undefined);
  if (!hasBit(offer.features, VHOST_USER_F_PROTOCOL_FEATURES)) {
    channel.send(R.SET_OWNER, undefined, []);
    return;
  }
  offer.protocolFeatures = channel.ask(R.GET_PROTOCOL_FEATURES, undefined);
  const agreed = offer.protocolFeatures & ASKED_FEATURES;
  channel.send(R.SET_PROTOCOL_FEATURES, agreed, []);
  if (hasBit(agreed, ProtocolFeature.MQ)) offer.queues = channel.ask(R.GET_QUEUE_NUM, undefined);
  if (hasBit(agreed, ProtocolFeature.CONFIGURE_MEM_SLOTS))
    offer.memslots = channel.ask(R.GET_MAX_MEM_SLOTS, undefined);
  if (hasBit(agreed, ProtocolFeature.REPLY_ACK)) {
    offer.owner = 'not answered';
    offer.owner = tell(() => channel.tell(R.SET_OWNER, undefined, []));
  } else channel.send(R.SET_OWNER, undefined, []);
  channel.send(
    R.SET_FEATURES,
    offer.features & maskOf(VirtioFeature.VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES),
    [],
  );
  if (hasBit(agreed, ProtocolFeature.STATUS)) offer.status = channel.ask(R.GET_STATUS, undefined);
  if (hasBit(agreed, ProtocolFeature.CONFIG)) askConfig(channel, offer);
}

function askConfig(channel: FrontendChannel, offer: Offer): void {
  for (const size of CONFIG_SIZES) {
    try {
      const { contents } = channel.ask(R.GET_CONFIG, { offset: 0, flags: 0, contents: new Uint8Array(size) });
      if (contents.length === 0) continue;
      offer.config = contents;
      return;
    } catch (error) {
      // An answer that is not such a payload is how a back-end refuses a size.
      if (!(error instanceof ProtocolError) || channel.failure !== undefined) throw error;
    }
  }
}

/** One region added and removed: whether the acknowledgement that a front-end relies on comes. */
function tryMemory(channel: FrontendChannel, offer: Offer): void {
  const { protocolFeatures = 0n } = offer;
  if (
    !hasBit(protocolFeatures, ProtocolFeature.REPLY_ACK) ||
    !hasBit(protocolFeatures, ProtocolFeature.CONFIGURE_MEM_SLOTS)
  )
    return;
  using memory = new OwnedFd(createMemfd('probe', REGION_SIZE));
  const region = {
    guestPhysAddr: REGION_AT,
    memorySize: BigInt(REGION_SIZE),
    userspaceAddr: REGION_AT,
    mmapOffset: 0n,
  };
  offer.addRegion = 'not answered';
  offer.addRegion = tell(() => channel.tell(R.ADD_MEM_REG, { padding: 0n, region }, [memory.fd]));
  if (offer.addRegion !== 'acknowledged') return;
  offer.removeRegion = 'not answered';
  offer.removeRegion = tell(() => channel.tell(R.REM_MEM_REG, { padding: 0n, region }, []));
}

function tell(request: () => void): Outcome {
  try {
    request();
    return 'acknowledged';
  } catch (error) {
    if (error instanceof ProtocolError && error.code === 'REFUSED') return 'refused';
    throw error;
  }
}
