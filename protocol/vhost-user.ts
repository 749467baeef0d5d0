/**
 * The vhost-user protocol: message numbers, feature bits and the header.
 *
 * Source: QEMU docs/interop/vhost-user.rst as of 11.1 (44 front-end messages, 10 back-end messages, feature bits 0–22).
 * Everything is named, also what we refuse: a refusal should say the name. Little-endian only.
 *
 *   +---------+-------+------+---------+
 *   | request | flags | size | payload |
 *   +---------+-------+------+---------+
 */
import { struct, u32, type ValueOf } from './struct.ts';

/** `VHOST_USER_*`: messages of the front-end. */
export const FrontendRequest = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  NET_SET_MTU: 20,
  SET_BACKEND_REQ_FD: 21,
  IOTLB_MSG: 22,
  SET_VRING_ENDIAN: 23,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  CREATE_CRYPTO_SESSION: 26,
  CLOSE_CRYPTO_SESSION: 27,
  POSTCOPY_ADVISE: 28,
  POSTCOPY_LISTEN: 29,
  POSTCOPY_END: 30,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  GPU_SET_SOCKET: 33,
  RESET_DEVICE: 34,
  VRING_KICK: 35,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
  GET_SHARED_OBJECT: 41,
  SET_DEVICE_STATE_FD: 42,
  CHECK_DEVICE_STATE: 43,
  GET_SHMEM_CONFIG: 44,
} as const;
export type FrontendRequestName = keyof typeof FrontendRequest;
export type FrontendRequest = (typeof FrontendRequest)[FrontendRequestName];

/** `VHOST_USER_BACKEND_*`: messages of the back-end, on the socket of SET_BACKEND_REQ_FD. */
export const BackendRequest = {
  IOTLB_MSG: 1,
  CONFIG_CHANGE_MSG: 2,
  VRING_HOST_NOTIFIER_MSG: 3,
  VRING_CALL: 4,
  VRING_ERR: 5,
  SHARED_OBJECT_ADD: 6,
  SHARED_OBJECT_REMOVE: 7,
  SHARED_OBJECT_LOOKUP: 8,
  SHMEM_MAP: 9,
  SHMEM_UNMAP: 10,
} as const;
export type BackendRequestName = keyof typeof BackendRequest;
export type BackendRequest = (typeof BackendRequest)[BackendRequestName];

/** `VHOST_USER_PROTOCOL_F_*`: bit numbers. */
export const ProtocolFeature = {
  MQ: 0,
  LOG_SHMFD: 1,
  RARP: 2,
  REPLY_ACK: 3,
  MTU: 4,
  BACKEND_REQ: 5,
  CROSS_ENDIAN: 6,
  CRYPTO_SESSION: 7,
  PAGEFAULT: 8,
  CONFIG: 9,
  BACKEND_SEND_FD: 10,
  HOST_NOTIFIER: 11,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  INBAND_NOTIFICATIONS: 14,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
  XEN_MMAP: 17,
  SHARED_OBJECT: 18,
  DEVICE_STATE: 19,
  GET_VRING_BASE_INFLIGHT: 20,
  GPA_ADDRESSES: 21,
  SHMEM: 22, // rust-vmm up to 0.16 has it at bit 21
} as const;
export type ProtocolFeatureName = keyof typeof ProtocolFeature;
export type ProtocolFeature = (typeof ProtocolFeature)[ProtocolFeatureName];

/** Virtio feature bit: writes to guest memory are logged (`VHOST_F_LOG_ALL`). */
export const VHOST_F_LOG_ALL = 26;
/** Virtio feature bit: protocol features can be negotiated (`VHOST_USER_F_PROTOCOL_FEATURES`). */
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;

/** In SET_VRING_ADDR's flags: writes to the used ring are logged. */
export const VHOST_VRING_F_LOG = 1;
/** Bytes of guest memory behind one bit of the dirty log. */
export const VHOST_LOG_PAGE = 0x1000;

/** In the u64 of SET_VRING_KICK, CALL and ERR: the ring index. */
export const VHOST_USER_VRING_IDX_MASK = 0xff;
/** In the same u64: no fd comes with the message. */
export const VHOST_USER_VRING_NOFD_MASK = 0x100;
/** In the u64 that answers SET_DEVICE_STATE_FD: no fd comes with the answer. */
export const VHOST_USER_STATE_NOFD_MASK = 0x100;

/** Bytes of device configuration space a GET_CONFIG or SET_CONFIG may carry (`VHOST_USER_MAX_CONFIG_SIZE`). */
export const VHOST_USER_MAX_CONFIG_SIZE = 256;
/** Most fds Linux passes in one message (`SCM_MAX_FD`). */
export const SCM_MAX_FD = 253;

/** The version all messages have in the lower two bits of `flags`. */
export const VHOST_USER_VERSION = 1;
/** Fields of the header's `flags`. */
export const HeaderFlag = { VERSION_MASK: 3, REPLY: 4, NEED_REPLY: 8 } as const;

/** Header of every message. */
export const VhostUserHeader = struct('VhostUserHeader', 12, {
  request: u32,
  flags: u32, // HeaderFlag
  size: u32, // bytes of payload
});
export type VhostUserHeader = ValueOf<typeof VhostUserHeader>;

/** `flags` of a request. */
export const requestFlags = (needReply: boolean): number =>
  VHOST_USER_VERSION | (needReply ? HeaderFlag.NEED_REPLY : 0);
/** `flags` of every reply. QEMU demands exactly these. */
export const REPLY_FLAGS = VHOST_USER_VERSION | HeaderFlag.REPLY;

export const hasVersion = (flags: number): boolean =>
  (flags & HeaderFlag.VERSION_MASK) === VHOST_USER_VERSION;
export const isReply = (flags: number): boolean => (flags & HeaderFlag.REPLY) !== 0;
export const needsReply = (flags: number): boolean => (flags & HeaderFlag.NEED_REPLY) !== 0;
