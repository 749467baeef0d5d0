/**
 * Payloads as named fields, for people and for JSON: 64-bit values are hexadecimal text. A payload that does not fit its
 * request is described as far as it can be, never refused.
 */
import { CodecError } from '../../protocol/struct.ts';
import {
  FrontendRequest,
  isReply,
  VHOST_USER_VRING_IDX_MASK,
  VHOST_USER_VRING_NOFD_MASK,
} from '../../protocol/vhost-user.ts';
import * as payloads from '../../protocol/vhost-user-payloads.ts';
import type { MemoryRegionDescription, Payload } from '../../protocol/vhost-user-payloads.ts';
import { backendRow, frontendRow } from '../../protocol/vhost-user-requests.ts';
import { hex } from '../units.ts';
import { protocolFeatureNames, virtioFeatureNames } from './conversation-names.ts';

type FieldValue = string | number | boolean | readonly string[] | PayloadFields | readonly PayloadFields[];
export interface PayloadFields {
  readonly [name: string]: FieldValue;
}

/** What a request or its reply carries; undefined for a request the specification does not have. */
export function payloadOf(
  chan: 'main' | 'backend',
  request: number,
  isAnswer: boolean,
): Payload<unknown> | undefined {
  const row = chan === 'main' ? frontendRow(request) : backendRow(request);
  if (row === undefined) return undefined;
  const payload = isAnswer ? (row.reply === 'ack' ? payloads.U64 : row.reply) : row.payload;
  return payload as Payload<unknown>;
}

/** @returns undefined if the octets are not such a payload */
export function decoded<T>(payload: Payload<T>, octets: Uint8Array): T | undefined {
  try {
    return payload.decode(octets);
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

export function payloadFields(
  chan: 'main' | 'backend',
  request: number,
  flags: number,
  octets: Uint8Array,
): PayloadFields {
  if (octets.length === 0) return {};
  const payload = payloadOf(chan, request, isReply(flags));
  const value = payload === undefined ? undefined : decoded(payload, octets);
  const describe = payload === undefined ? undefined : DESCRIBE[payload.name];
  if (value !== undefined && describe !== undefined) return describe(value, chan === 'main' ? request : 0);
  const number = decoded(payloads.U64, octets);
  return number === undefined ? { bytes: octets.length } : describeU64(number, 0);
}

const describing = <T>(
  payload: Payload<T>,
  describe: (value: T, request: number) => PayloadFields,
): Readonly<Record<string, (value: unknown, request: number) => PayloadFields>> => ({
  [payload.name]: (value, request) => describe(value as T, request),
});

const DESCRIBE: { readonly [payloadName: string]: (value: unknown, request: number) => PayloadFields } = {
  ...describing(payloads.U64, describeU64),
  ...describing(payloads.VringState, ({ index, num }) => ({ index, num })),
  ...describing(payloads.VringAddr, (addr) => ({
    index: addr.index,
    flags: addr.flags,
    desc_user_addr: hex(addr.descUserAddr),
    used_user_addr: hex(addr.usedUserAddr),
    avail_user_addr: hex(addr.availUserAddr),
    log_guest_addr: hex(addr.logGuestAddr),
  })),
  ...describing(payloads.MemoryTable, ({ padding, regions }) => ({
    nregions: regions.length,
    padding,
    regions: regions.map(regionFields),
  })),
  ...describing(payloads.SingleRegion, ({ padding, region }) => ({
    padding: hex(padding),
    region: regionFields(region),
  })),
  ...describing(payloads.Log, ({ mmapSize, mmapOffset }) => ({
    mmap_size: hex(mmapSize),
    mmap_offset: hex(mmapOffset),
  })),
  ...describing(payloads.ConfigAccess, ({ offset, flags, contents }) => ({
    offset,
    size: contents.length,
    flags,
    data: Buffer.from(contents).toString('hex'),
  })),
  ...describing(payloads.Inflight, (inflight) => ({
    mmap_size: hex(inflight.mmapSize),
    mmap_offset: hex(inflight.mmapOffset),
    num_queues: inflight.numQueues,
    queue_size: inflight.queueSize,
  })),
  ...describing(payloads.DeviceState, ({ direction, phase }) => ({ direction, phase })),
  ...describing(payloads.Iotlb, ({ iova, size, uaddr, perm, type }) => ({
    iova: hex(iova),
    size: hex(size),
    uaddr: hex(uaddr),
    perm,
    type,
  })),
  ...describing(payloads.VringArea, ({ value, size, offset }) => ({
    u64: hex(value),
    size: hex(size),
    offset: hex(offset),
  })),
  ...describing(payloads.Shared, ({ uuid }) => ({ uuid: Buffer.from(uuid).toString('hex') })),
  ...describing(payloads.Mmap, (mmap) => ({
    shmid: mmap.shmid,
    fd_offset: hex(mmap.fdOffset),
    shm_offset: hex(mmap.shmOffset),
    len: hex(mmap.len),
    flags: hex(mmap.flags),
  })),
};

/** One number means different things; only requests of the front-end have such meanings (0 is none of them). */
function describeU64(value: bigint, request: number): PayloadFields {
  const number = { u64: hex(value) };
  const F = FrontendRequest;
  if (request === F.GET_FEATURES || request === F.SET_FEATURES)
    return { ...number, bits: virtioFeatureNames(value) };
  if (request === F.GET_PROTOCOL_FEATURES || request === F.SET_PROTOCOL_FEATURES)
    return { ...number, bits: protocolFeatureNames(value) };
  if (request === F.SET_VRING_KICK || request === F.SET_VRING_CALL || request === F.SET_VRING_ERR)
    return { ...number, ...vringFd(value) };
  return number;
}

/** The ring of SET_VRING_KICK, CALL and ERR, and whether the message says that it has no descriptor. */
export const vringFd = (value: bigint): { readonly index: number; readonly nofd: boolean } => ({
  index: Number(value & BigInt(VHOST_USER_VRING_IDX_MASK)),
  nofd: (value & BigInt(VHOST_USER_VRING_NOFD_MASK)) !== 0n,
});

const regionFields = (region: MemoryRegionDescription): PayloadFields => ({
  guest_phys_addr: hex(region.guestPhysAddr),
  memory_size: hex(region.memorySize),
  userspace_addr: hex(region.userspaceAddr),
  mmap_offset: hex(region.mmapOffset),
});
