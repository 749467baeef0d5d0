/**
 * FUSE, the kernel's file system protocol, which virtio-fs carries: version, opcodes, and the two headers.
 *
 * Protocol 7.45. Names and numbers are those of `linux/fuse.h`; the structs of each request are in `fuse-requests.ts`,
 * what several requests share in `fuse-attributes.ts`, every flag in `fuse-flags.ts`.
 *
 * @see linux/fuse.h
 */
import { i32, pad, struct, u16, u32, u64, type ValueOf } from './struct.ts';

export const FUSE_KERNEL_VERSION = 7;
export const FUSE_KERNEL_MINOR_VERSION = 45;

/** The nodeid of the shared directory itself. */
export const FUSE_ROOT_ID = 1;

/** `fuse_in_header.uid` and `.gid` of a request that creates nothing, once ALLOW_IDMAP was negotiated. */
export const FUSE_INVALID_UIDGID = 0xffff_ffff;

/** Smallest read buffer a server may have. */
export const FUSE_MIN_READ_BUFFER = 8192;

/** Set in `unique` of a request that the kernel sent before (FUSE_HAS_RESEND). The highest of the 64 bits. */
export const FUSE_UNIQUE_RESEND = 1n << 63n;

/** `enum fuse_opcode`. Numbers 7 and 19 are not used. CUSE is not here: it never travels over virtio-fs. */
export const FuseOpcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;
export type FuseOpcode = (typeof FuseOpcode)[keyof typeof FuseOpcode];

/** `enum fuse_notify_code`: what a server sends unasked, in `fuse_out_header.error` of a message whose unique is 0. */
export const FuseNotifyCode = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
  PRUNE: 9,
} as const;
export type FuseNotifyCode = (typeof FuseNotifyCode)[keyof typeof FuseNotifyCode];

/** Starts every request. */
export const InHeader = struct('fuse_in_header', 40, {
  len: u32, // bytes of the whole request: this header, arguments, names, data and extensions
  opcode: u32,
  unique: u64,
  nodeid: u64,
  uid: u32,
  gid: u32,
  pid: u32,
  totalExtlen: u16, // length of the extensions, in units of 8 bytes (7.38)
  padding: pad(2),
});
export type InHeader = ValueOf<typeof InHeader>;

/** Starts every reply. */
export const OutHeader = struct('fuse_out_header', 16, {
  len: u32, // bytes of the whole reply, this header included
  error: i32, // 0 or −errno; with an error nothing follows
  unique: u64,
});
export type OutHeader = ValueOf<typeof OutHeader>;
