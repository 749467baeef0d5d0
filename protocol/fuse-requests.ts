/**
 * The fixed part of each FUSE request, and of the replies that are one request's own.
 *
 * Requests without an entry have no fixed part: names follow the header at once, or nothing does.
 *
 * @see linux/fuse.h
 */
import { i32, pad, struct, u16, u32, u64, type ValueOf } from './struct.ts';
import { FileLock, Kstatfs } from './fuse-attributes.ts';

/** FORGET has no reply. */
export const ForgetIn = struct('fuse_forget_in', 8, { nlookup: u64 });
export type ForgetIn = ValueOf<typeof ForgetIn>;

export const ForgetOne = struct('fuse_forget_one', 16, { nodeid: u64, nlookup: u64 });
export type ForgetOne = ValueOf<typeof ForgetOne>;

/** `count` ForgetOne follow. No reply. */
export const BatchForgetIn = struct('fuse_batch_forget_in', 8, { count: u32, dummy: pad(4) });
export type BatchForgetIn = ValueOf<typeof BatchForgetIn>;

export const GetattrIn = struct('fuse_getattr_in', 16, { getattrFlags: u32, dummy: pad(4), fh: u64 });
export type GetattrIn = ValueOf<typeof GetattrIn>;

export const StatxIn = struct('fuse_statx_in', 24, {
  getattrFlags: u32,
  reserved: pad(4),
  fh: u64,
  sxFlags: u32, // AT_STATX_…
  sxMask: u32, // STATX_…
});
export type StatxIn = ValueOf<typeof StatxIn>;

/** The name follows. */
export const MknodIn = struct('fuse_mknod_in', 16, { mode: u32, rdev: u32, umask: u32, padding: pad(4) });
export type MknodIn = ValueOf<typeof MknodIn>;

/** The name follows. */
export const MkdirIn = struct('fuse_mkdir_in', 8, { mode: u32, umask: u32 });
export type MkdirIn = ValueOf<typeof MkdirIn>;

/** The old and the new name follow. */
export const RenameIn = struct('fuse_rename_in', 8, { newdir: u64 });
export type RenameIn = ValueOf<typeof RenameIn>;

/** The old and the new name follow. */
export const Rename2In = struct('fuse_rename2_in', 16, {
  newdir: u64,
  flags: u32, // RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4
  padding: pad(4),
});
export type Rename2In = ValueOf<typeof Rename2In>;

/** The new name, in the directory the header names, follows. */
export const LinkIn = struct('fuse_link_in', 8, { oldnodeid: u64 });
export type LinkIn = ValueOf<typeof LinkIn>;

export const SetattrIn = struct('fuse_setattr_in', 88, {
  valid: u32, // Fattr
  padding: pad(4),
  fh: u64,
  size: u64,
  lockOwner: u64,
  atime: u64,
  mtime: u64,
  ctime: u64,
  atimensec: u32,
  mtimensec: u32,
  ctimensec: u32,
  mode: u32,
  unused4: pad(4),
  uid: u32,
  gid: u32,
  unused5: pad(4),
});
export type SetattrIn = ValueOf<typeof SetattrIn>;

/** Of OPEN and OPENDIR. */
export const OpenIn = struct('fuse_open_in', 8, {
  flags: u32, // O_…, without O_CREAT, O_EXCL, O_NOCTTY
  openFlags: u32, // FUSE_OPEN_KILL_SUIDGID
});
export type OpenIn = ValueOf<typeof OpenIn>;

/** Of CREATE and TMPFILE; the name follows. The reply is an EntryOut and an OpenOut. */
export const CreateIn = struct('fuse_create_in', 16, { flags: u32, mode: u32, umask: u32, openFlags: u32 });
export type CreateIn = ValueOf<typeof CreateIn>;

/** Of RELEASE and RELEASEDIR. */
export const ReleaseIn = struct('fuse_release_in', 24, {
  fh: u64,
  flags: u32, // O_…, those of OPEN
  releaseFlags: u32, // FuseRelease
  lockOwner: u64,
});
export type ReleaseIn = ValueOf<typeof ReleaseIn>;

export const FlushIn = struct('fuse_flush_in', 24, {
  fh: u64,
  unused: pad(4),
  padding: pad(4),
  lockOwner: u64,
});
export type FlushIn = ValueOf<typeof FlushIn>;

/** Of READ, READDIR and READDIRPLUS; for the latter two `offset` is a Dirent's `off`. */
export const ReadIn = struct('fuse_read_in', 40, {
  fh: u64,
  offset: u64,
  size: u32,
  readFlags: u32, // FUSE_READ_LOCKOWNER
  lockOwner: u64,
  flags: u32, // O_… of the open file
  padding: pad(4),
});
export type ReadIn = ValueOf<typeof ReadIn>;

/** `size` octets follow. */
export const WriteIn = struct('fuse_write_in', 40, {
  fh: u64,
  offset: u64,
  size: u32,
  writeFlags: u32, // FuseWrite
  lockOwner: u64,
  flags: u32, // O_… of the open file
  padding: pad(4),
});
export type WriteIn = ValueOf<typeof WriteIn>;

/** Of WRITE and COPY_FILE_RANGE. */
export const WriteOut = struct('fuse_write_out', 8, { size: u32, padding: pad(4) });
export type WriteOut = ValueOf<typeof WriteOut>;

export const StatfsOut = struct('fuse_statfs_out', 80, { st: Kstatfs });
export type StatfsOut = ValueOf<typeof StatfsOut>;

/** Of FSYNC and FSYNCDIR. */
export const FsyncIn = struct('fuse_fsync_in', 16, { fh: u64, fsyncFlags: u32, padding: pad(4) });
export type FsyncIn = ValueOf<typeof FsyncIn>;

/** Without SETXATTR_EXT. The name and `size` octets follow. */
export const SetxattrInCompat = struct('fuse_setxattr_in (FUSE_COMPAT_SETXATTR_IN_SIZE)', 8, {
  size: u32,
  flags: u32,
});
export type SetxattrInCompat = ValueOf<typeof SetxattrInCompat>;

/** With SETXATTR_EXT. The name and `size` octets follow. */
export const SetxattrIn = struct('fuse_setxattr_in', 16, {
  size: u32,
  flags: u32, // XATTR_CREATE 1, XATTR_REPLACE 2
  setxattrFlags: u32, // FUSE_SETXATTR_ACL_KILL_SGID
  padding: pad(4),
});
export type SetxattrIn = ValueOf<typeof SetxattrIn>;

/** Of GETXATTR, after which the name follows, and LISTXATTR. `size` 0 asks for the size alone: a GetxattrOut. */
export const GetxattrIn = struct('fuse_getxattr_in', 8, { size: u32, padding: pad(4) });
export type GetxattrIn = ValueOf<typeof GetxattrIn>;

export const GetxattrOut = struct('fuse_getxattr_out', 8, { size: u32, padding: pad(4) });
export type GetxattrOut = ValueOf<typeof GetxattrOut>;

/** Of GETLK, SETLK and SETLKW. */
export const LkIn = struct('fuse_lk_in', 48, {
  fh: u64,
  owner: u64,
  lk: FileLock,
  lkFlags: u32, // FUSE_LK_FLOCK
  padding: pad(4),
});
export type LkIn = ValueOf<typeof LkIn>;

/** Of GETLK. */
export const LkOut = struct('fuse_lk_out', 24, { lk: FileLock });
export type LkOut = ValueOf<typeof LkOut>;

export const AccessIn = struct('fuse_access_in', 8, { mask: u32, padding: pad(4) });
export type AccessIn = ValueOf<typeof AccessIn>;

/** Before 7.36 the kernel sent the first 16 bytes only. */
export const InitIn = struct('fuse_init_in', 64, {
  major: u32,
  minor: u32,
  maxReadahead: u32,
  flags: u32,
  flags2: u32, // with INIT_EXT
  unused: pad(11 * 4),
});
export type InitIn = ValueOf<typeof InitIn>;
/** Bytes of fuse_init_in before 7.36. */
export const INIT_IN_COMPAT_SIZE = 16;

export const InitOut = struct('fuse_init_out', 64, {
  major: u32,
  minor: u32,
  maxReadahead: u32,
  flags: u32,
  maxBackground: u16,
  congestionThreshold: u16,
  maxWrite: u32,
  timeGran: u32, // nanoseconds
  maxPages: u16, // with MAX_PAGES
  mapAlignment: u16, // log2, with MAP_ALIGNMENT
  flags2: u32, // with INIT_EXT
  maxStackDepth: u32, // with PASSTHROUGH
  requestTimeout: u16, // seconds, with REQUEST_TIMEOUT
  unused: pad(11 * 2),
});
export type InitOut = ValueOf<typeof InitOut>;

export const InterruptIn = struct('fuse_interrupt_in', 8, { unique: u64 });
export type InterruptIn = ValueOf<typeof InterruptIn>;

export const BmapIn = struct('fuse_bmap_in', 16, { block: u64, blocksize: u32, padding: pad(4) });
export type BmapIn = ValueOf<typeof BmapIn>;

export const BmapOut = struct('fuse_bmap_out', 8, { block: u64 });
export type BmapOut = ValueOf<typeof BmapOut>;

/** `inSize` octets follow; the reply has an IoctlOut and up to `outSize` octets. */
export const IoctlIn = struct('fuse_ioctl_in', 32, {
  fh: u64,
  flags: u32, // FuseIoctl
  cmd: u32,
  arg: u64, // as the caller gave it, an address in the guest process
  inSize: u32,
  outSize: u32,
});
export type IoctlIn = ValueOf<typeof IoctlIn>;

export const IoctlIovec = struct('fuse_ioctl_iovec', 16, { base: u64, len: u64 });
export type IoctlIovec = ValueOf<typeof IoctlIovec>;

export const IoctlOut = struct('fuse_ioctl_out', 16, { result: i32, flags: u32, inIovs: u32, outIovs: u32 });
export type IoctlOut = ValueOf<typeof IoctlOut>;

export const PollIn = struct('fuse_poll_in', 24, { fh: u64, kh: u64, flags: u32, events: u32 });
export type PollIn = ValueOf<typeof PollIn>;

export const PollOut = struct('fuse_poll_out', 8, { revents: u32, padding: pad(4) });
export type PollOut = ValueOf<typeof PollOut>;

export const FallocateIn = struct('fuse_fallocate_in', 32, {
  fh: u64,
  offset: u64,
  length: u64,
  mode: u32, // FALLOC_FL_…
  padding: pad(4),
});
export type FallocateIn = ValueOf<typeof FallocateIn>;

export const LseekIn = struct('fuse_lseek_in', 24, {
  fh: u64,
  offset: u64,
  whence: u32, // SEEK_DATA 3, SEEK_HOLE 4
  padding: pad(4),
});
export type LseekIn = ValueOf<typeof LseekIn>;

export const LseekOut = struct('fuse_lseek_out', 8, { offset: u64 });
export type LseekOut = ValueOf<typeof LseekOut>;

/** Of COPY_FILE_RANGE, answered by a WriteOut, and COPY_FILE_RANGE_64, answered by a CopyFileRangeOut. */
export const CopyFileRangeIn = struct('fuse_copy_file_range_in', 56, {
  fhIn: u64,
  offIn: u64,
  nodeidOut: u64,
  fhOut: u64,
  offOut: u64,
  len: u64,
  flags: u64,
});
export type CopyFileRangeIn = ValueOf<typeof CopyFileRangeIn>;

export const CopyFileRangeOut = struct('fuse_copy_file_range_out', 8, { bytesCopied: u64 });
export type CopyFileRangeOut = ValueOf<typeof CopyFileRangeOut>;

/** DAX: map a piece of a file into the device's shared memory window. */
export const SetupmappingIn = struct('fuse_setupmapping_in', 40, {
  fh: u64,
  foffset: u64,
  len: u64,
  flags: u64, // FuseSetupmapping
  moffset: u64,
});
export type SetupmappingIn = ValueOf<typeof SetupmappingIn>;

/** `count` RemovemappingOne follow. */
export const RemovemappingIn = struct('fuse_removemapping_in', 4, { count: u32 });
export type RemovemappingIn = ValueOf<typeof RemovemappingIn>;

export const RemovemappingOne = struct('fuse_removemapping_one', 16, { moffset: u64, len: u64 });
export type RemovemappingOne = ValueOf<typeof RemovemappingOne>;

export const SyncfsIn = struct('fuse_syncfs_in', 8, { padding: pad(8) });
