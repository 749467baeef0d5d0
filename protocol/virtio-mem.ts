/** The memory device. Source: linux/virtio_mem.h, virtio 1.2 § 5.15. */
import { pad, struct, u16, u64, type ValueOf } from './struct.ts';

/** `VIRTIO_MEM_F_*`: feature bits. */
export const VirtioMemFeature = {
  ACPI_PXM: 0, // node_id is valid
  UNPLUGGED_INACCESSIBLE: 1, // the driver must not touch unplugged memory
  PERSISTENT_SUSPEND: 2, // memory stays plugged over suspend and resume
} as const;

/** `VIRTIO_MEM_REQ_*`: what the driver asks for. */
export const VirtioMemRequestType = { PLUG: 0, UNPLUG: 1, UNPLUG_ALL: 2, STATE: 3 } as const;

/** `VIRTIO_MEM_RESP_*`: what the device answers. */
export const VirtioMemResponseType = {
  ACK: 0,
  NACK: 1, // right request, but not now: beyond the requested size
  BUSY: 2, // try again
  ERROR: 3, // the request breaks a rule
} as const;

/** `VIRTIO_MEM_STATE_*`: of a range of blocks. */
export const VirtioMemState = { PLUGGED: 0, UNPLUGGED: 1, MIXED: 2 } as const;

/** `struct virtio_mem_req`. Its union has one shape; UNPLUG_ALL uses neither field. */
export const VirtioMemReq = struct('virtio_mem_req', 24, {
  type: u16, // VIRTIO_MEM_REQ_*
  padding: pad(6),
  addr: u64, // guest physical, aligned to the block size
  nbBlocks: u16,
  padding2: pad(6),
});
export type VirtioMemReq = ValueOf<typeof VirtioMemReq>;

/** `struct virtio_mem_resp`: 8 bytes of header and a union of one u16. */
export const VirtioMemResp = struct('virtio_mem_resp', 10, {
  type: u16, // VIRTIO_MEM_RESP_*
  padding: pad(6),
  state: u16, // VIRTIO_MEM_STATE_*, answer to VIRTIO_MEM_REQ_STATE
});

/** `struct virtio_mem_config`. All sizes in bytes. */
export const VirtioMemConfig = struct('virtio_mem_config', 56, {
  blockSize: u64,
  nodeId: u16,
  padding: pad(6),
  addr: u64, // guest physical start of the region
  regionSize: u64,
  usableRegionSize: u64,
  pluggedSize: u64,
  requestedSize: u64,
});
export type VirtioMemConfig = ValueOf<typeof VirtioMemConfig>;
