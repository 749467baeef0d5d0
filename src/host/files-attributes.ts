/** Attributes of files: reading and changing them, by descriptor or by name. */
import { bind, bindSyscall, errno, SYSCALL } from './libc.ts';

const statExtended = bindStatx();
const statFd = bindSyscall(['int', 'uintptr_t']);
const statFileSystem = bind('fstatfs', 'int', ['int', 'uintptr_t']);
const changeModeFd = bind('fchmod', 'int', ['int', 'uint32_t']);
const changeModeAt = bind('fchmodat', 'int', ['int', 'uintptr_t', 'uint32_t', 'int']);
const changeOwnerAt = bind('fchownat', 'int', ['int', 'uintptr_t', 'uint32_t', 'uint32_t', 'int']);
const setTimesFd = bind('futimens', 'int', ['int', 'uintptr_t']);
const setTimesAt = bind('utimensat', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']);

/** Bits of `stx_mask`. linux/stat.h. */
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;
export const STATX_MNT_ID = 0x1000;

/** `struct statx`: word (4 octets) offsets of its fields, the same on every processor. linux/stat.h. */
export const STATX_WORDS = 64;
export const StatxWord = {
  mask: 0,
  blksize: 1,
  attributes: 2,
  nlink: 4,
  uid: 5,
  gid: 6,
  /** u16 in the lower half. */
  mode: 7,
  ino: 8,
  size: 10,
  blocks: 12,
  attributesMask: 14,
  /** Each time: i64 seconds, u32 nanoseconds, 4 octets of padding. */
  atime: 16,
  btime: 20,
  ctime: 24,
  mtime: 28,
  rdevMajor: 32,
  rdevMinor: 33,
  devMajor: 34,
  devMinor: 35,
  mntId: 36,
} as const;

const isArm64 = process.arch === 'arm64';

/** `struct stat` of this processor: word offsets of its fields. arch/x86/include/uapi/asm/stat.h, asm-generic/stat.h. */
export const StatWord = {
  ino: 2,
  mode: isArm64 ? 4 : 6,
  /** Of 64 bits on x86-64; no file has as many links as 32 bits count. */
  nlink: isArm64 ? 5 : 4,
  uid: isArm64 ? 6 : 7,
  gid: isArm64 ? 7 : 8,
  /** The low word is as FUSE packs a device number. */
  rdev: isArm64 ? 8 : 10,
  size: 12,
  blksize: 14,
  blocks: 16,
  /** Each time: i64 seconds, u64 nanoseconds. */
  atime: 18,
  mtime: 22,
  ctime: 26,
} as const;

/** `struct statfs` of 64-bit Linux: word offsets; 64-bit fields unless said. */
export const StatfsWord = {
  type: 0,
  bsize: 2,
  blocks: 4,
  bfree: 6,
  bavail: 8,
  files: 10,
  ffree: 12,
  namelen: 16,
  frsize: 18,
} as const;

/** In the nanoseconds of a time to set: now, and not at all. linux/stat.h. */
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

/** Leaves an owner or group as it is, in `changeOwner`. */
export const KEEP_ID = 0xffff_ffff;

/** statx(2) into the `struct statx` at `result`. @returns 0 or −errno */
export function readAttributes(
  dirfd: number,
  path: number,
  flags: number,
  mask: number,
  into: number,
): number {
  const result = statExtended(dirfd, path, flags, mask, into);
  return result < 0 ? -errno() : 0;
}

/** fstat(2) into the `struct stat` at `into`: less than statx tells, for less time. O_PATH will do. @returns 0 or −errno */
export function readFdAttributes(fd: number, into: number): number {
  const result = statFd(SYSCALL.fstat, fd, into);
  return result < 0 ? -errno() : 0;
}

/** fstatfs(2) into the `struct statfs` at `into`; an O_PATH descriptor will do. @returns 0 or −errno */
export function readFileSystem(fd: number, into: number): number {
  const result = statFileSystem(fd, into);
  return result < 0 ? -errno() : 0;
}

/** @param fd open for real, not O_PATH. @returns 0 or −errno */
export function changeMode(fd: number, mode: number): number {
  const result = changeModeFd(fd, mode);
  return result < 0 ? -errno() : 0;
}

/** Follows links. @returns 0 or −errno */
export function changeModeOfPath(dirfd: number, path: number, mode: number): number {
  const result = changeModeAt(dirfd, path, mode, 0);
  return result < 0 ? -errno() : 0;
}

/** fchownat(2); `KEEP_ID` leaves one alone. @returns 0 or −errno */
export function changeOwner(dirfd: number, path: number, uid: number, gid: number, flags: number): number {
  const result = changeOwnerAt(dirfd, path, uid, gid, flags);
  return result < 0 ? -errno() : 0;
}

/** @param times address of two `struct timespec`: access, modification. @returns 0 or −errno */
export function changeTimes(fd: number, times: number): number {
  const result = setTimesFd(fd, times);
  return result < 0 ? -errno() : 0;
}

/** Follows links. @returns 0 or −errno */
export function changeTimesOfPath(dirfd: number, path: number, times: number): number {
  const result = setTimesAt(dirfd, path, times, 0);
  return result < 0 ? -errno() : 0;
}

/** The C library's function costs less than syscall(2), with its one argument more; older ones do not have it. */
function bindStatx(): (dirfd: number, path: number, flags: number, mask: number, into: number) => number {
  const parameters = ['int', 'uintptr_t', 'int', 'uint32_t', 'uintptr_t'] as const;
  try {
    return bind('statx', 'int', parameters);
  } catch {
    const call = bindSyscall(parameters);
    return (dirfd, path, flags, mask, into) => call(SYSCALL.statx, dirfd, path, flags, mask, into);
  }
}
