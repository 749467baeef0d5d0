/**
 * Every flag of FUSE 7.45, as bit masks with the names of `linux/fuse.h` less their prefix.
 *
 * @see linux/fuse.h
 */

/**
 * INIT flags, `FUSE_…`. Bits 32…63 travel in `flags2`, and only when INIT_EXT is set.
 * What the kernel offers it can do; what the server answers with is what both will do.
 */
export const FuseInitFlag = {
  ASYNC_READ: 1n << 0n, // asynchronous read requests
  POSIX_LOCKS: 1n << 1n, // fcntl locks come to the server
  FILE_OPS: 1n << 2n, // file handle in fstat; never used
  ATOMIC_O_TRUNC: 1n << 3n, // O_TRUNC is left to OPEN
  EXPORT_SUPPORT: 1n << 4n, // the server looks up "." and ".."
  BIG_WRITES: 1n << 5n, // more than 4 KiB a write
  DONT_MASK: 1n << 6n, // the server applies the umask
  SPLICE_WRITE: 1n << 7n,
  SPLICE_MOVE: 1n << 8n,
  SPLICE_READ: 1n << 9n,
  FLOCK_LOCKS: 1n << 10n, // flock locks come to the server
  HAS_IOCTL_DIR: 1n << 11n, // ioctl on directories
  AUTO_INVAL_DATA: 1n << 12n, // cached pages are dropped when size or mtime changed
  DO_READDIRPLUS: 1n << 13n,
  READDIRPLUS_AUTO: 1n << 14n, // READDIRPLUS only when its entries are likely used
  ASYNC_DIO: 1n << 15n, // direct I/O may be asynchronous
  WRITEBACK_CACHE: 1n << 16n, // the kernel's page cache writes back later, and owns mtime and size
  NO_OPEN_SUPPORT: 1n << 17n, // OPEN may be answered ENOSYS
  PARALLEL_DIROPS: 1n << 18n, // LOOKUP and READDIR of one directory at once
  HANDLE_KILLPRIV: 1n << 19n, // the server clears setuid, setgid and capabilities on write, chown, truncate
  POSIX_ACL: 1n << 20n, // needs the default permission checks; the kernel caches the ACL xattrs
  ABORT_ERROR: 1n << 21n,
  MAX_PAGES: 1n << 22n, // `max_pages` of the reply holds
  CACHE_SYMLINKS: 1n << 23n, // READLINK answers are cached
  NO_OPENDIR_SUPPORT: 1n << 24n, // OPENDIR may be answered ENOSYS
  EXPLICIT_INVAL_DATA: 1n << 25n, // cached pages are dropped only when the server says so
  MAP_ALIGNMENT: 1n << 26n, // `map_alignment` of the reply holds (DAX)
  SUBMOUNTS: 1n << 27n, // FUSE_ATTR_SUBMOUNT becomes a mount of its own
  HANDLE_KILLPRIV_V2: 1n << 28n, // as HANDLE_KILLPRIV, with the rules of Linux' VFS
  SETXATTR_EXT: 1n << 29n, // the 16-byte fuse_setxattr_in
  INIT_EXT: 1n << 30n, // `flags2` holds, and fuse_init_in is 64 bytes
  INIT_RESERVED: 1n << 31n,
  SECURITY_CTX: 1n << 32n, // security context follows creating requests
  HAS_INODE_DAX: 1n << 33n,
  CREATE_SUPP_GROUP: 1n << 34n, // the parent's group follows creating requests if the caller is in it
  HAS_EXPIRE_ONLY: 1n << 35n, // INVAL_ENTRY may expire only
  DIRECT_IO_ALLOW_MMAP: 1n << 36n, // shared mmap of a FOPEN_DIRECT_IO file
  PASSTHROUGH: 1n << 37n, // needs /dev/fuse
  NO_EXPORT_SUPPORT: 1n << 38n, // file handles are not even tried
  HAS_RESEND: 1n << 39n, // NOTIFY_RESEND
  ALLOW_IDMAP: 1n << 40n, // id-mapped mounts; requests that create nothing then carry FUSE_INVALID_UIDGID
  OVER_IO_URING: 1n << 41n, // needs /dev/fuse
  REQUEST_TIMEOUT: 1n << 42n, // `request_timeout` of the reply holds
} as const;

/** `FATTR_…`: which fields of fuse_setattr_in hold. */
export const Fattr = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

/** `FOPEN_…`: answers of OPEN, OPENDIR and CREATE in fuse_open_out.open_flags. */
export const Fopen = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
  PASSTHROUGH: 1 << 7,
} as const;

/** fuse_open_in.open_flags and fuse_create_in.open_flags: clear setuid and setgid when opening with O_TRUNC. */
export const FUSE_OPEN_KILL_SUIDGID = 1 << 0;

/** fuse_release_in.release_flags. */
export const FuseRelease = { FLUSH: 1 << 0, FLOCK_UNLOCK: 1 << 1 } as const;

/** fuse_getattr_in.getattr_flags and fuse_statx_in.getattr_flags: `fh` holds. */
export const FUSE_GETATTR_FH = 1 << 0;

/** fuse_lk_in.lk_flags: a flock lock, not an fcntl one. */
export const FUSE_LK_FLOCK = 1 << 0;

/** fuse_write_in.write_flags. */
export const FuseWrite = { CACHE: 1 << 0, LOCKOWNER: 1 << 1, KILL_SUIDGID: 1 << 2 } as const;

/** fuse_read_in.read_flags: `lock_owner` holds. */
export const FUSE_READ_LOCKOWNER = 1 << 1;

/** fuse_ioctl_in.flags and fuse_ioctl_out.flags. */
export const FuseIoctl = {
  COMPAT: 1 << 0,
  UNRESTRICTED: 1 << 1,
  RETRY: 1 << 2,
  BITS32: 1 << 3, // FUSE_IOCTL_32BIT
  DIR: 1 << 4,
  COMPAT_X32: 1 << 5,
} as const;

/** Most entries of in and out iovecs of an unrestricted ioctl. */
export const FUSE_IOCTL_MAX_IOV = 256;

/** fuse_poll_in.flags. */
export const FUSE_POLL_SCHEDULE_NOTIFY = 1 << 0;

/** fuse_fsync_in.fsync_flags: the data, not the attributes. */
export const FUSE_FSYNC_FDATASYNC = 1 << 0;

/** fuse_attr.flags. */
export const FuseAttrFlag = { SUBMOUNT: 1 << 0, DAX: 1 << 1 } as const;

/** fuse_setxattr_in.setxattr_flags: clear setgid as setting system.posix_acl_access does. */
export const FUSE_SETXATTR_ACL_KILL_SGID = 1 << 0;

/** fuse_notify_inval_entry_out.flags. */
export const FUSE_EXPIRE_ONLY = 1 << 0;

/** fuse_setupmapping_in.flags. */
export const FuseSetupmapping = { WRITE: 1n << 0n, READ: 1n << 1n } as const;

/** `enum fuse_ext_type`. Types 0…31 are a fuse_secctx_header, whose count stands where the type does. */
export const FuseExtType = { MAX_NR_SECCTX: 31, GROUPS: 32 } as const;
