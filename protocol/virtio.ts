/** Numbers every virtio device shares. Source: linux/virtio_ids.h, linux/virtio_config.h, virtio 1.2 § 2 and § 6. */

/** `VIRTIO_ID_*`: the devices this project knows. */
export const VirtioDeviceId = { BLOCK: 2, MEM: 24, FS: 26 } as const;

/** `VIRTIO_CONFIG_S_*`: bits of the device status byte. */
export const VirtioStatus = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 0x40,
  FAILED: 0x80,
} as const;

/** `VIRTIO_F_*`: feature bits that belong to no device. Ring features are in virtio-ring.ts. */
export const VirtioFeature = {
  NOTIFY_ON_EMPTY: 24,
  ANY_LAYOUT: 27,
  VERSION_1: 32,
  ACCESS_PLATFORM: 33,
  RING_PACKED: 34,
  IN_ORDER: 35,
  ORDER_PLATFORM: 36,
  SR_IOV: 37,
  NOTIFICATION_DATA: 38,
  NOTIF_CONFIG_DATA: 39,
  RING_RESET: 40,
  ADMIN_VQ: 41,
} as const;
