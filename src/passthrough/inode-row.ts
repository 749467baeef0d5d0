/**
 * The words of an inode's row. What lookups read and write is one line of the processor's cache; what is rarer is in a
 * tail of its own.
 */

export const INODE_WORDS = 16;
export const TAIL_WORDS = 8;

export const RowWord = {
  /** What makes a nodeid of the slot; 0 unless live. */
  SERIAL: 0,
  /** How often the row was used, now included. */
  USED: 1,
  /** References the guest holds, exactly: 64 bits. */
  LOOKUPS: 2,
  PINS: 4,
  MOUNT: 5,
  /** Two words. */
  INO: 6,
  BIRTH_SECOND: 8,
  BIRTH_NANO: 9,
  /** st_mode's format in the lower half, then a byte each: length of the name noted, whether the descriptor is recent. */
  FORMAT: 10,
  FLAGS: 11,
  FD: 12,
  /** Place in the ring of descriptors; of a cold row, its place among the cold. */
  RING_AT: 13,
  PARENT: 14,
  /** Next in its bucket; of a free row, the next free one. */
  NEXT: 15,
} as const;

/** Bytes within the row. */
export const RowByte = { NAME_LENGTH: RowWord.FORMAT * 4 + 2, RECENT: RowWord.FORMAT * 4 + 3 } as const;

export const TailWord = {
  /** `struct file_handle`: octets, type, then up to 16 octets, or where in the pool all of it is. */
  HANDLE: 0,
  NAME_AT: 6,
} as const;

/** Row flags. */
export const InodeFlag = {
  /** The file handle was once opened and is of this very inode. */
  VERIFIED: 1,
  /** The descriptor must stay open: the inode cannot be found again without it. */
  KEEP_FD: 2,
  /** Not to be found by host identity. */
  UNINDEXED: 4,
  COLD: 8,
  /** No nodeid, but another thread uses the row: it waits to be settled. */
  LEFT: 16,
  /** Descriptor, mount and name are given up already. */
  BARE: 32,
  HAS_HANDLE: 64,
  /** Just created: the descriptor is the one it was created with. See `fresh-inodes.ts`. */
  FRESH: 128,
  /** The guest still has it open, by that very descriptor. */
  LENT: 256,
} as const;
