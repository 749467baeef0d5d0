/**
 * One row per vhost-user request: what it carries, what answers it, what must have been negotiated.
 *
 * `reply: 'ack'` is answered only if the header asks for it and REPLY_ACK was negotiated: a u64, zero for success.
 * Any other reply is always due, and NEED_REPLY changes nothing. vhost-user spec § Communication, § REPLY_ACK.
 */
import {
  BackendRequest,
  FrontendRequest,
  ProtocolFeature,
  SCM_MAX_FD,
  type BackendRequestName,
  type FrontendRequestName,
} from './vhost-user.ts';
import {
  ConfigAccess,
  DeviceState,
  Inflight,
  Iotlb,
  Log,
  MemoryTable,
  Mmap,
  NoPayload,
  Opaque,
  Shared,
  ShmemConfig,
  SingleRegion,
  U64,
  VringAddr,
  VringArea,
  VringState,
  type Payload,
} from './vhost-user-payloads.ts';

/** How many fds may come with the request. */
export interface FdCount {
  readonly min: number;
  readonly max: number;
}
const noFd: FdCount = { min: 0, max: 0 };
const oneFd: FdCount = { min: 1, max: 1 };
const maybeFd: FdCount = { min: 0, max: 1 };

export interface RequestRow<Name extends string, T, R> {
  readonly name: Name;
  readonly payload: Payload<T>;
  readonly fds: FdCount;
  readonly reply: Payload<R> | 'ack';
  /** The protocol feature that must have been negotiated, if any. */
  readonly feature?: ProtocolFeature;
}

const row = <T, R = bigint>(
  payload: Payload<T>,
  fds: FdCount,
  reply: Payload<R> | 'ack',
  feature?: ProtocolFeature,
): Omit<RequestRow<string, T, R>, 'name'> => ({
  payload,
  fds,
  reply,
  ...(feature === undefined ? {} : { feature }),
});

const F = ProtocolFeature;

/** Requests of the front-end, by name. */
export const FRONTEND_REQUESTS = named({
  GET_FEATURES: row(NoPayload, noFd, U64),
  SET_FEATURES: row(U64, noFd, 'ack'),
  SET_OWNER: row(NoPayload, noFd, 'ack'),
  RESET_OWNER: row(NoPayload, noFd, 'ack'),
  SET_MEM_TABLE: row(MemoryTable, { min: 0, max: SCM_MAX_FD }, 'ack'), // one fd per region, in order
  SET_LOG_BASE: row(Log, oneFd, Log, F.LOG_SHMFD), // QEMU takes any answer, rust-vmm echoes
  SET_LOG_FD: row(NoPayload, oneFd, 'ack'),
  SET_VRING_NUM: row(VringState, noFd, 'ack'),
  SET_VRING_ADDR: row(VringAddr, noFd, 'ack'),
  SET_VRING_BASE: row(VringState, noFd, 'ack'),
  GET_VRING_BASE: row(VringState, noFd, VringState),
  SET_VRING_KICK: row(U64, maybeFd, 'ack'), // no fd exactly if VHOST_USER_VRING_NOFD_MASK
  SET_VRING_CALL: row(U64, maybeFd, 'ack'),
  SET_VRING_ERR: row(U64, maybeFd, 'ack'),
  GET_PROTOCOL_FEATURES: row(NoPayload, noFd, U64),
  SET_PROTOCOL_FEATURES: row(U64, noFd, 'ack'),
  GET_QUEUE_NUM: row(NoPayload, noFd, U64), // legal once MQ was seen, negotiated or not
  SET_VRING_ENABLE: row(VringState, noFd, 'ack'), // needs VHOST_USER_F_PROTOCOL_FEATURES
  SEND_RARP: row(U64, noFd, 'ack', F.RARP),
  NET_SET_MTU: row(U64, noFd, 'ack', F.MTU),
  SET_BACKEND_REQ_FD: row(NoPayload, oneFd, 'ack', F.BACKEND_REQ),
  IOTLB_MSG: row(Iotlb, noFd, U64), // needs VIRTIO_F_ACCESS_PLATFORM
  SET_VRING_ENDIAN: row(VringState, noFd, 'ack', F.CROSS_ENDIAN),
  GET_CONFIG: row(ConfigAccess, noFd, ConfigAccess, F.CONFIG), // an empty reply is the error
  SET_CONFIG: row(ConfigAccess, noFd, 'ack', F.CONFIG),
  CREATE_CRYPTO_SESSION: row(Opaque, noFd, Opaque, F.CRYPTO_SESSION),
  CLOSE_CRYPTO_SESSION: row(U64, noFd, 'ack', F.CRYPTO_SESSION),
  POSTCOPY_ADVISE: row(NoPayload, noFd, NoPayload, F.PAGEFAULT), // the reply carries the userfault fd
  POSTCOPY_LISTEN: row(NoPayload, noFd, 'ack', F.PAGEFAULT),
  POSTCOPY_END: row(NoPayload, noFd, U64, F.PAGEFAULT),
  GET_INFLIGHT_FD: row(Inflight, noFd, Inflight, F.INFLIGHT_SHMFD), // the reply carries the fd
  SET_INFLIGHT_FD: row(Inflight, oneFd, 'ack', F.INFLIGHT_SHMFD),
  GPU_SET_SOCKET: row(NoPayload, oneFd, 'ack'),
  RESET_DEVICE: row(NoPayload, noFd, 'ack', F.RESET_DEVICE),
  VRING_KICK: row(VringState, noFd, 'ack', F.INBAND_NOTIFICATIONS),
  GET_MAX_MEM_SLOTS: row(NoPayload, noFd, U64, F.CONFIGURE_MEM_SLOTS),
  ADD_MEM_REG: row(SingleRegion, oneFd, 'ack', F.CONFIGURE_MEM_SLOTS),
  REM_MEM_REG: row(SingleRegion, maybeFd, 'ack', F.CONFIGURE_MEM_SLOTS), // a stray fd is closed
  SET_STATUS: row(U64, noFd, 'ack', F.STATUS),
  GET_STATUS: row(NoPayload, noFd, U64, F.STATUS),
  GET_SHARED_OBJECT: row(Shared, noFd, NoPayload, F.SHARED_OBJECT), // the reply carries the fd
  SET_DEVICE_STATE_FD: row(DeviceState, oneFd, U64, F.DEVICE_STATE),
  CHECK_DEVICE_STATE: row(NoPayload, noFd, U64, F.DEVICE_STATE),
  GET_SHMEM_CONFIG: row(NoPayload, noFd, ShmemConfig, F.SHMEM),
} satisfies Record<FrontendRequestName, unknown>);

/** Requests of the back-end, by name. */
export const BACKEND_REQUESTS = named({
  IOTLB_MSG: row(Iotlb, noFd, 'ack'),
  CONFIG_CHANGE_MSG: row(NoPayload, noFd, 'ack', F.CONFIG),
  VRING_HOST_NOTIFIER_MSG: row(VringArea, maybeFd, 'ack', F.HOST_NOTIFIER),
  VRING_CALL: row(VringState, noFd, 'ack', F.INBAND_NOTIFICATIONS),
  VRING_ERR: row(VringState, noFd, 'ack', F.INBAND_NOTIFICATIONS),
  SHARED_OBJECT_ADD: row(Shared, noFd, 'ack', F.SHARED_OBJECT),
  SHARED_OBJECT_REMOVE: row(Shared, noFd, 'ack', F.SHARED_OBJECT),
  SHARED_OBJECT_LOOKUP: row(Shared, noFd, U64, F.SHARED_OBJECT), // the reply carries the fd
  SHMEM_MAP: row(Mmap, oneFd, 'ack', F.SHMEM),
  SHMEM_UNMAP: row(Mmap, noFd, 'ack', F.SHMEM),
} satisfies Record<BackendRequestName, unknown>);

export type FrontendRow = (typeof FRONTEND_REQUESTS)[FrontendRequestName];
export type BackendRow = (typeof BACKEND_REQUESTS)[BackendRequestName];

/** The row of a front-end request number; undefined for a number the specification does not have. */
export const frontendRow = (request: number): FrontendRow | undefined => frontendByNumber[request];
/** The row of a back-end request number. */
export const backendRow = (request: number): BackendRow | undefined => backendByNumber[request];

const frontendByNumber: readonly (FrontendRow | undefined)[] = byNumber(FrontendRequest, FRONTEND_REQUESTS);
const backendByNumber: readonly (BackendRow | undefined)[] = byNumber(BackendRequest, BACKEND_REQUESTS);

function byNumber<Name extends string, Row>(
  numbers: { readonly [N in Name]: number },
  rows: { readonly [N in Name]: Row },
): readonly (Row | undefined)[] {
  const table: (Row | undefined)[] = [];
  for (const name of Object.keys(numbers) as Name[]) table[numbers[name]] = rows[name];
  return table;
}

function named<Rows extends Record<string, object>>(
  rows: Rows,
): { readonly [Name in keyof Rows]: Rows[Name] & { readonly name: Name & string } } {
  const entries = Object.entries(rows).map(([name, value]) => [name, { name, ...value }]);
  return Object.fromEntries(entries) as {
    readonly [Name in keyof Rows]: Rows[Name] & { readonly name: Name & string };
  };
}
