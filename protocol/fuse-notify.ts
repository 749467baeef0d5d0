/**
 * FUSE notifications: what a server tells the guest unasked, over the notification queue.
 *
 * @see linux/fuse.h
 */
import { i64, pad, struct, u32, u64, type ValueOf } from './struct.ts';

export const NotifyPollWakeupOut = struct('fuse_notify_poll_wakeup_out', 8, { kh: u64 });
export type NotifyPollWakeupOut = ValueOf<typeof NotifyPollWakeupOut>;

export const NotifyInvalInodeOut = struct('fuse_notify_inval_inode_out', 24, {
  ino: u64, // a nodeid
  off: i64, // negative: the attributes only
  len: i64, // ≤ 0: to the end of the file
});
export type NotifyInvalInodeOut = ValueOf<typeof NotifyInvalInodeOut>;

/** The name and a NUL, which `namelen` does not count, follow. */
export const NotifyInvalEntryOut = struct('fuse_notify_inval_entry_out', 16, {
  parent: u64,
  namelen: u32,
  flags: u32, // FUSE_EXPIRE_ONLY
});
export type NotifyInvalEntryOut = ValueOf<typeof NotifyInvalEntryOut>;

/** The name and a NUL, which `namelen` does not count, follow. */
export const NotifyDeleteOut = struct('fuse_notify_delete_out', 24, {
  parent: u64,
  child: u64,
  namelen: u32,
  padding: pad(4),
});
export type NotifyDeleteOut = ValueOf<typeof NotifyDeleteOut>;

/** `size` octets follow. */
export const NotifyStoreOut = struct('fuse_notify_store_out', 24, {
  nodeid: u64,
  offset: u64,
  size: u32,
  padding: pad(4),
});
export type NotifyStoreOut = ValueOf<typeof NotifyStoreOut>;

export const NotifyRetrieveOut = struct('fuse_notify_retrieve_out', 32, {
  notifyUnique: u64,
  nodeid: u64,
  offset: u64,
  size: u32,
  padding: pad(4),
});
export type NotifyRetrieveOut = ValueOf<typeof NotifyRetrieveOut>;

/** What NOTIFY_REPLY carries, as long as fuse_write_in; `size` octets follow. */
export const NotifyRetrieveIn = struct('fuse_notify_retrieve_in', 40, {
  dummy1: pad(8),
  offset: u64,
  size: u32,
  dummy2: pad(4),
  dummy3: pad(8),
  dummy4: pad(8),
});
export type NotifyRetrieveIn = ValueOf<typeof NotifyRetrieveIn>;

/** `count` nodeids of 64 bits follow: drop the inodes nobody uses. */
export const NotifyPruneOut = struct('fuse_notify_prune_out', 16, {
  count: u32,
  padding: pad(4),
  spare: pad(8),
});
export type NotifyPruneOut = ValueOf<typeof NotifyPruneOut>;
