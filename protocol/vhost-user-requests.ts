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

interface Row<T> {
  readonly name: string;
  readonly payload: Payload<T>;
  readonly fds: FdCount;
  /** The protocol feature that must have been negotiated, if any. */
  readonly feature?: ProtocolFeature;
}
/** A request that is answered only if it asks for it. */
export interface AckedRow<T> extends Row<T> {
  readonly reply: 'ack';
}
/** A request that is always answered. */
export interface AnsweredRow<T, R> extends Row<T> {
  readonly reply: Payload<R>;
}

/** Either of them. */
export type RequestRow<Name extends string, T, R> = (AckedRow<T> | AnsweredRow<T, R>) & {
  readonly name: Name;
};

type Unnamed<R> = Omit<R, 'name'>;

const acked = <T>(payload: Payload<T>, fds: FdCount, feature?: ProtocolFeature): Unnamed<AckedRow<T>> => ({
  payload,
  fds,
  reply: 'ack',
  ...(feature === undefined ? {} : { feature }),
});

const answered = <T, R>(
  payload: Payload<T>,
  fds: FdCount,
  reply: Payload<R>,
  feature?: ProtocolFeature,
): Unnamed<AnsweredRow<T, R>> => ({ payload, fds, reply, ...(feature === undefined ? {} : { feature }) });

const F = ProtocolFeature;

/** Requests of the front-end, by name. */
export const FRONTEND_REQUESTS = named({
  GET_FEATURES: answered(NoPayload, noFd, U64),
  SET_FEATURES: acked(U64, noFd),
  SET_OWNER: acked(NoPayload, noFd),
  RESET_OWNER: acked(NoPayload, noFd),
  SET_MEM_TABLE: acked(MemoryTable, { min: 0, max: SCM_MAX_FD }), // one fd per region, in order
  SET_LOG_BASE: answered(Log, oneFd, Log, F.LOG_SHMFD), // QEMU takes any answer, rust-vmm echoes
  SET_LOG_FD: acked(NoPayload, oneFd),
  SET_VRING_NUM: acked(VringState, noFd),
  SET_VRING_ADDR: acked(VringAddr, noFd),
  SET_VRING_BASE: acked(VringState, noFd),
  GET_VRING_BASE: answered(VringState, noFd, VringState),
  SET_VRING_KICK: acked(U64, maybeFd), // no fd exactly if VHOST_USER_VRING_NOFD_MASK
  SET_VRING_CALL: acked(U64, maybeFd),
  SET_VRING_ERR: acked(U64, maybeFd),
  GET_PROTOCOL_FEATURES: answered(NoPayload, noFd, U64),
  SET_PROTOCOL_FEATURES: acked(U64, noFd),
  GET_QUEUE_NUM: answered(NoPayload, noFd, U64), // legal once MQ was seen, negotiated or not
  SET_VRING_ENABLE: acked(VringState, noFd), // needs VHOST_USER_F_PROTOCOL_FEATURES
  SEND_RARP: acked(U64, noFd, F.RARP),
  NET_SET_MTU: acked(U64, noFd, F.MTU),
  SET_BACKEND_REQ_FD: acked(NoPayload, oneFd, F.BACKEND_REQ),
  IOTLB_MSG: answered(Iotlb, noFd, U64), // needs VIRTIO_F_ACCESS_PLATFORM
  SET_VRING_ENDIAN: acked(VringState, noFd, F.CROSS_ENDIAN),
  GET_CONFIG: answered(ConfigAccess, noFd, ConfigAccess, F.CONFIG), // an empty reply is the error
  SET_CONFIG: acked(ConfigAccess, noFd, F.CONFIG),
  CREATE_CRYPTO_SESSION: answered(Opaque, noFd, Opaque, F.CRYPTO_SESSION),
  CLOSE_CRYPTO_SESSION: acked(U64, noFd, F.CRYPTO_SESSION),
  POSTCOPY_ADVISE: answered(NoPayload, noFd, NoPayload, F.PAGEFAULT), // the reply carries the userfault fd
  POSTCOPY_LISTEN: acked(NoPayload, noFd, F.PAGEFAULT),
  POSTCOPY_END: answered(NoPayload, noFd, U64, F.PAGEFAULT),
  GET_INFLIGHT_FD: answered(Inflight, noFd, Inflight, F.INFLIGHT_SHMFD), // the reply carries the fd
  SET_INFLIGHT_FD: acked(Inflight, oneFd, F.INFLIGHT_SHMFD),
  GPU_SET_SOCKET: acked(NoPayload, oneFd),
  RESET_DEVICE: acked(NoPayload, noFd, F.RESET_DEVICE),
  VRING_KICK: acked(VringState, noFd, F.INBAND_NOTIFICATIONS),
  GET_MAX_MEM_SLOTS: answered(NoPayload, noFd, U64, F.CONFIGURE_MEM_SLOTS),
  ADD_MEM_REG: acked(SingleRegion, oneFd, F.CONFIGURE_MEM_SLOTS),
  REM_MEM_REG: acked(SingleRegion, maybeFd, F.CONFIGURE_MEM_SLOTS), // a stray fd is closed
  SET_STATUS: acked(U64, noFd, F.STATUS),
  GET_STATUS: answered(NoPayload, noFd, U64, F.STATUS),
  GET_SHARED_OBJECT: answered(Shared, noFd, NoPayload, F.SHARED_OBJECT), // the reply carries the fd
  SET_DEVICE_STATE_FD: answered(DeviceState, oneFd, U64, F.DEVICE_STATE),
  CHECK_DEVICE_STATE: answered(NoPayload, noFd, U64, F.DEVICE_STATE),
  GET_SHMEM_CONFIG: answered(NoPayload, noFd, ShmemConfig, F.SHMEM),
} satisfies Record<FrontendRequestName, unknown>);

/** Requests of the back-end, by name. */
export const BACKEND_REQUESTS = named({
  IOTLB_MSG: acked(Iotlb, noFd),
  CONFIG_CHANGE_MSG: acked(NoPayload, noFd, F.CONFIG),
  VRING_HOST_NOTIFIER_MSG: acked(VringArea, maybeFd, F.HOST_NOTIFIER),
  VRING_CALL: acked(VringState, noFd, F.INBAND_NOTIFICATIONS),
  VRING_ERR: acked(VringState, noFd, F.INBAND_NOTIFICATIONS),
  SHARED_OBJECT_ADD: acked(Shared, noFd, F.SHARED_OBJECT),
  SHARED_OBJECT_REMOVE: acked(Shared, noFd, F.SHARED_OBJECT),
  SHARED_OBJECT_LOOKUP: answered(Shared, noFd, U64, F.SHARED_OBJECT), // the reply carries the fd
  SHMEM_MAP: acked(Mmap, oneFd, F.SHMEM),
  SHMEM_UNMAP: acked(Mmap, noFd, F.SHMEM),
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
