/**
 * What several FUSE replies are made of: attributes, entries, directory entries, locks, file system statistics.
 *
 * @see linux/fuse.h
 */
import { i32, i64, pad, struct, u16, u32, u64, type ValueOf } from './struct.ts';

export const Attr = struct('fuse_attr', 88, {
  ino: u64,
  size: u64,
  blocks: u64, // of 512 bytes
  atime: u64, // seconds since the epoch, two's complement before it
  mtime: u64,
  ctime: u64,
  atimensec: u32,
  mtimensec: u32,
  ctimensec: u32,
  mode: u32,
  nlink: u32,
  uid: u32,
  gid: u32,
  rdev: u32, // as the kernel packs it: minor & 0xff | major << 8 | (minor & ~0xff) << 12
  blksize: u32,
  flags: u32, // FuseAttrFlag
});
export type Attr = ValueOf<typeof Attr>;

/** As `struct statx_timestamp`. */
export const SxTime = struct('fuse_sx_time', 16, { tvSec: i64, tvNsec: u32, reserved: pad(4) });
export type SxTime = ValueOf<typeof SxTime>;

/** As `struct statx`, bit for bit. */
export const Statx = struct('fuse_statx', 256, {
  mask: u32,
  blksize: u32,
  attributes: u64,
  nlink: u32,
  uid: u32,
  gid: u32,
  mode: u16,
  spare0: pad(2),
  ino: u64,
  size: u64,
  blocks: u64,
  attributesMask: u64,
  atime: SxTime,
  btime: SxTime,
  ctime: SxTime,
  mtime: SxTime,
  rdevMajor: u32,
  rdevMinor: u32,
  devMajor: u32,
  devMinor: u32,
  spare2: pad(14 * 8),
});
export type Statx = ValueOf<typeof Statx>;

export const Kstatfs = struct('fuse_kstatfs', 80, {
  blocks: u64, // of frsize bytes, as bfree and bavail
  bfree: u64,
  bavail: u64,
  files: u64,
  ffree: u64,
  bsize: u32,
  namelen: u32,
  frsize: u32,
  padding: pad(4),
  spare: pad(6 * 4),
});
export type Kstatfs = ValueOf<typeof Kstatfs>;

/** A range of an fcntl lock. */
export const FileLock = struct('fuse_file_lock', 24, {
  start: u64,
  end: u64, // inclusive; OFFSET_MAX (2^63 − 1) means to the end of the file
  type: u32, // F_RDLCK 0, F_WRLCK 1, F_UNLCK 2
  pid: u32, // thread group id in the guest
});
export type FileLock = ValueOf<typeof FileLock>;

/** Answer of LOOKUP and of all that creates. The kernel then owes one FORGET for it, unless nodeid is 0. */
export const EntryOut = struct('fuse_entry_out', 128, {
  nodeid: u64, // 0: no such name, and that may be cached
  generation: u64, // nodeid and generation together are never reused
  entryValid: u64, // seconds the name may be cached
  attrValid: u64, // seconds the attributes may be cached
  entryValidNsec: u32,
  attrValidNsec: u32,
  attr: Attr,
});
export type EntryOut = ValueOf<typeof EntryOut>;

/** Head of a directory entry; `namelen` octets without NUL follow, and padding to 8 bytes (FUSE_REC_ALIGN). */
export const Dirent = struct('fuse_dirent', 24, {
  ino: u64,
  off: u64, // where the entry after this one is: what the next READDIR asks for
  namelen: u32,
  type: u32, // DT_…, the format bits of st_mode >> 12
});
export type Dirent = ValueOf<typeof Dirent>;

/** Head of an entry of READDIRPLUS. One with nodeid ≠ 0 counts as a LOOKUP, save "." and "..", which carry nodeid 0. */
export const Direntplus = struct('fuse_direntplus', 152, { entryOut: EntryOut, dirent: Dirent });
export type Direntplus = ValueOf<typeof Direntplus>;

/** FUSE_REC_ALIGN: variable length records are padded to 8 bytes. */
export const recordAlign = (size: number): number => Math.ceil(size / 8) * 8;

export const AttrOut = struct('fuse_attr_out', 104, {
  attrValid: u64,
  attrValidNsec: u32,
  dummy: pad(4),
  attr: Attr,
});
export type AttrOut = ValueOf<typeof AttrOut>;

export const StatxOut = struct('fuse_statx_out', 288, {
  attrValid: u64,
  attrValidNsec: u32,
  flags: u32,
  spare: pad(2 * 8),
  stat: Statx,
});
export type StatxOut = ValueOf<typeof StatxOut>;

export const OpenOut = struct('fuse_open_out', 16, {
  fh: u64,
  openFlags: u32, // Fopen
  backingId: i32, // with Fopen.PASSTHROUGH only
});
export type OpenOut = ValueOf<typeof OpenOut>;
