/**
 * The split ring as typed arrays laid over its three areas: which element holds what. Sizes, flags and the event rule
 * are in protocol/virtio-ring.ts. Indices run freely over 16 bits and wrap at 65536, whatever the ring size.
 */
import {
  VringAvail,
  VringDesc,
  VringUsed,
  VringUsedElem,
  vringAvailEventOffset,
  vringUsedEventOffset,
} from '../../protocol/virtio-ring.ts';

/** 32-bit words of one descriptor: address low, address high, length, flags with next in the upper half. */
export const DESC_WORDS = VringDesc.size / 4;

/** 16-bit elements of the avail and used areas, which both start with flags, then the index. */
export const RING_FLAGS = VringAvail.offset.flags / 2;
export const RING_INDEX = VringAvail.offset.idx / 2;
/** 16-bit element of `avail.ring[0]`. */
export const AVAIL_RING = VringAvail.size / 2;
/** 32-bit word of `used.ring[0]`, and words of each element: id, then length. */
export const USED_RING = VringUsed.size / 4;
export const USED_WORDS = VringUsedElem.size / 4;

/** 16-bit element of `used_event`, in the avail area. */
export const usedEventElement = (num: number): number => vringUsedEventOffset(num) / 2;
/** 16-bit element of `avail_event`, in the used area. */
export const availEventElement = (num: number): number => vringAvailEventOffset(num) / 2;
