/** The block device. Source: linux/virtio_blk.h, virtio 1.2 § 5.2. */
import { pad, struct, u16, u32, u64, u8, type ValueOf } from './struct.ts';

/** `VIRTIO_BLK_F_*`: feature bits. */
export const VirtioBlkFeature = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
  LIFETIME: 15,
  SECURE_ERASE: 16,
  ZONED: 17,
} as const;

/** `VIRTIO_BLK_T_*`: what a request asks for. */
export const VirtioBlkRequestType = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8 } as const;

/** `VIRTIO_BLK_S_*`: the octet after everything else the device writes. */
export const VirtioBlkStatus = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

/** The unit of capacities and addresses, whatever the block size of the disk. */
export const VIRTIO_BLK_SECTOR = 512;

/** Octets of a serial number; shorter ones end with NUL. `VIRTIO_BLK_ID_BYTES`. */
export const VIRTIO_BLK_ID_BYTES = 20;

/** `struct virtio_blk_outhdr`: what every request begins with. */
export const VirtioBlkHeader = struct('virtio_blk_outhdr', 16, {
  type: u32, // VirtioBlkRequestType
  ioprio: u32,
  sector: u64, // of IN and OUT; 0 otherwise
});
export type VirtioBlkHeader = ValueOf<typeof VirtioBlkHeader>;

/** `struct virtio_blk_config` up to write zeroes; what a feature brings is 0 without it. */
export const VirtioBlkConfig = struct(
  'virtio_blk_config',
  60,
  {
    capacity: u64, // sectors
    sizeMax: u32,
    segMax: u32,
    cylinders: u16,
    heads: u8,
    sectors: u8,
    blkSize: u32, // bytes
    physicalBlockExp: u8,
    alignmentOffset: u8,
    minIoSize: u16,
    optIoSize: u32,
    wce: u8,
    unused: pad(1),
    numQueues: u16, // with MQ
    maxDiscardSectors: u32,
    maxDiscardSeg: u32,
    discardSectorAlignment: u32,
    maxWriteZeroesSectors: u32,
    maxWriteZeroesSeg: u32,
    writeZeroesMayUnmap: u8,
    unused1: pad(3),
  },
  { packed: true },
);
export type VirtioBlkConfig = ValueOf<typeof VirtioBlkConfig>;
