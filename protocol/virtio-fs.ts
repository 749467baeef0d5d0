/** The file system device. Source: linux/virtio_fs.h, virtio 1.2 § 5.11. */
import { bytes, struct, u32, type ValueOf } from './struct.ts';

/** Feature bit: the device has a notification queue (queue 1; request queues follow it). */
export const VIRTIO_FS_F_NOTIFICATION = 0;

/** Queue of FORGET and INTERRUPT requests, which must not wait behind data. */
export const VIRTIO_FS_HIPRIO_QUEUE = 0;

/** Shared memory region of the DAX window. */
export const VIRTIO_FS_SHMCAP_ID_CACHE = 0;

/** Bytes of the tag: UTF-8, padded with NUL, not necessarily terminated. */
export const VIRTIO_FS_TAG_SIZE = 36;

/** `struct virtio_fs_config`. */
export const VirtioFsConfig = struct('virtio_fs_config', 40, {
  tag: bytes(VIRTIO_FS_TAG_SIZE),
  numRequestQueues: u32, // without hiprio and notification queue
});
export type VirtioFsConfig = ValueOf<typeof VirtioFsConfig>;

/** `struct virtio_fs_config` of a device with VIRTIO_FS_F_NOTIFICATION. */
export const VirtioFsNotifyConfig = struct('virtio_fs_config', 44, {
  tag: bytes(VIRTIO_FS_TAG_SIZE),
  numRequestQueues: u32,
  notifyBufSize: u32, // bytes a notification buffer must have
});
