/**
 * The split virtqueue in memory. Source: linux/virtio_ring.h, virtio 1.2 § 2.7.
 *
 * Three areas, each contiguous, at addresses the driver chooses:
 *
 *   descriptor table   num × { addr, len, flags, next }
 *   available ring     flags  idx  ring[num]  used_event
 *   used ring          flags  idx  ring[num] × { id, len }  avail_event
 *
 * `used_event` and `avail_event` are there whether or not VIRTIO_RING_F_EVENT_IDX was negotiated.
 */
import { struct, u16, u32, u64, type ValueOf } from './struct.ts';

/** This buffer continues in `next`. */
export const VRING_DESC_F_NEXT = 1;
/** The device writes this buffer; otherwise it reads it. */
export const VRING_DESC_F_WRITE = 2;
/** This buffer holds a table of descriptors. */
export const VRING_DESC_F_INDIRECT = 4;

/** In the used ring's flags: the device needs no kick. */
export const VRING_USED_F_NO_NOTIFY = 1;
/** In the available ring's flags: the driver needs no call. */
export const VRING_AVAIL_F_NO_INTERRUPT = 1;

/** Feature bit: descriptors may point at tables of descriptors. */
export const VIRTIO_RING_F_INDIRECT_DESC = 28;
/** Feature bit: each side says at which index it wants to be notified. */
export const VIRTIO_RING_F_EVENT_IDX = 29;

/** A split ring has at most this many entries. virtio 1.2 § 2.7. */
export const VRING_MAX_NUM = 32768;

export const VRING_DESC_ALIGN_SIZE = 16;
export const VRING_AVAIL_ALIGN_SIZE = 2;
export const VRING_USED_ALIGN_SIZE = 4;

/** `struct vring_desc`. */
export const VringDesc = struct('vring_desc', 16, {
  addr: u64, // guest physical
  len: u32,
  flags: u16, // VRING_DESC_F_*
  next: u16, // index of the next descriptor, if VRING_DESC_F_NEXT
});
export type VringDesc = ValueOf<typeof VringDesc>;

/** `struct vring_avail` up to its `ring[]`, whose elements are u16 head indices. */
export const VringAvail = struct('vring_avail', 4, {
  flags: u16, // VRING_AVAIL_F_*
  idx: u16, // where the driver puts the next entry, modulo 2^16
});

/** `struct vring_used` up to its `ring[]`, whose elements are `vring_used_elem`. */
export const VringUsed = struct('vring_used', 4, {
  flags: u16, // VRING_USED_F_*
  idx: u16, // where the device puts the next entry, modulo 2^16
});

/** `struct vring_used_elem`. */
export const VringUsedElem = struct('vring_used_elem', 8, {
  id: u32, // head of the chain that was used
  len: u32, // bytes the device wrote into it
});

/** Bytes of the descriptor table of a ring of `num` entries. */
export const vringDescSize = (num: number): number => VringDesc.size * num;
/** Bytes of the available ring, with `used_event`. */
export const vringAvailSize = (num: number): number => VringAvail.size + 2 * num + 2;
/** Bytes of the used ring, with `avail_event`. */
export const vringUsedSize = (num: number): number => VringUsed.size + VringUsedElem.size * num + 2;

/** Offset of `used_event`, the last field of the available ring. */
export const vringUsedEventOffset = (num: number): number => VringAvail.size + 2 * num;
/** Offset of `avail_event`, the last field of the used ring. */
export const vringAvailEventOffset = (num: number): number => VringUsed.size + VringUsedElem.size * num;

/** True if moving an index from `old` to `now` passed `event`: the other side wants a notification. All modulo 2^16. */
export const vringNeedEvent = (event: number, now: number, old: number): boolean =>
  ((now - event - 1) & 0xffff) < ((now - old) & 0xffff);
