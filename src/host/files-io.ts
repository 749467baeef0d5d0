/** Data of open files: reading, writing, allocating, copying, flushing. Offsets ≥ 2^53 are given as bigint. */
import { bind, bindSyscall, errno, SYSCALL } from './libc.ts';

const readVector = bind('preadv', 'int64_t', ['int', 'uintptr_t', 'int', 'int64']);
const readVectorFlags = bindPreadv2();
const readBuffer = bind('pread', 'int64_t', ['int', 'uintptr_t', 'uint64_t', 'int64']);
const writeBuffer = bind('pwrite', 'int64_t', ['int', 'uintptr_t', 'uint64_t', 'int64']);
const writeVector = bind('pwritev', 'int64_t', ['int', 'uintptr_t', 'int', 'int64']);
const writeVectorFlags = bindSyscall(['int', 'uintptr_t', 'int64_t', 'int64', 'int64_t', 'int']);
const allocate = bind('fallocate', 'int', ['int', 'int', 'int64', 'int64']);
const seek = bind('lseek', 'int64_t', ['int', 'int64', 'int']);
const truncateFd = bind('ftruncate', 'int', ['int', 'int64']);
const truncatePath = bind('truncate', 'int', ['uintptr_t', 'int64']);
const copyRange = bindSyscall(['int', 'uintptr_t', 'int', 'uintptr_t', 'uint64_t', 'uint32_t']);
const sync = bind('fsync', 'int', ['int']);
const syncData = bind('fdatasync', 'int', ['int']);
const syncFileSystem = bind('syncfs', 'int', ['int']);
const control = bind('ioctl', 'int', ['int', 'uint64_t', 'uintptr_t']);

/** Answers what it would have to wait for with EAGAIN; appends whatever the offset says. linux/fs.h. */
const RWF_NOWAIT = 0x8;
export const RWF_APPEND = 0x10;

/**
 * Fills the `count` iovecs at `iovecs` from the file.
 *
 * @returns octets read, 0 at the end of the file, or −errno
 */
export function readAt(fd: number, iovecs: number, count: number, offset: number | bigint): number {
  const result = readVector(fd, iovecs, count, offset);
  return result < 0 ? -errno() : result;
}

/**
 * `readAt` of what is in the page cache.
 *
 * @returns as `readAt`, and fewer octets where the cached ones end; EAGAIN if not one is cached, EOPNOTSUPP where the file
 *   system cannot tell (tmpfs, which never waits)
 */
export function readNow(fd: number, iovecs: number, count: number, offset: number | bigint): number {
  const result = readVectorFlags(fd, iovecs, count, offset, RWF_NOWAIT);
  return result < 0 ? -errno() : result;
}

/** `readAt` into one buffer: less work for the kernel. */
export function readInto(fd: number, address: number, size: number, offset: number | bigint): number {
  const result = readBuffer(fd, address, size, offset);
  return result < 0 ? -errno() : result;
}

/** `writeAt` of one buffer. */
export function writeFrom(fd: number, address: number, size: number, offset: number | bigint): number {
  const result = writeBuffer(fd, address, size, offset);
  return result < 0 ? -errno() : result;
}

/** @returns octets written, or −errno */
export function writeAt(fd: number, iovecs: number, count: number, offset: number | bigint): number {
  const result = writeVector(fd, iovecs, count, offset);
  return result < 0 ? -errno() : result;
}

/** Writes at the end of the file, in one step with finding the end. @returns octets written, or −errno */
export function append(fd: number, iovecs: number, count: number): number {
  const result = writeVectorFlags(SYSCALL.pwritev2, fd, iovecs, count, 0, 0, RWF_APPEND);
  return result < 0 ? -errno() : result;
}

/** fallocate(2), any mode. @returns 0 or −errno */
export function allocateRange(
  fd: number,
  mode: number,
  offset: number | bigint,
  length: number | bigint,
): number {
  const result = allocate(fd, mode, offset, length);
  return result < 0 ? -errno() : 0;
}

/**
 * lseek(2).
 *
 * @returns the offset (a bigint above 2^53), or −errno
 */
export function seekTo(fd: number, offset: number | bigint, whence: number): number | bigint {
  const result: number | bigint = seek(fd, offset, whence);
  return result < 0 ? -errno() : result;
}

/** @returns 0 or −errno */
export function truncateFile(fd: number, size: number | bigint): number {
  const result = truncateFd(fd, size);
  return result < 0 ? -errno() : 0;
}

/** Follows links, as truncate(2) does. @returns 0 or −errno */
export function truncateAtPath(path: number, size: number | bigint): number {
  const result = truncatePath(path, size);
  return result < 0 ? -errno() : 0;
}

/**
 * copy_file_range(2).
 *
 * @param offsetIn  address of the 64-bit offset to read from; it is advanced
 * @param offsetOut address of the 64-bit offset to write to; it is advanced
 * @param size      less than 2^53
 * @returns octets copied, or −errno
 */
export function copyFileRange(
  fdIn: number,
  offsetIn: number,
  fdOut: number,
  offsetOut: number,
  size: number,
): number {
  const result = copyRange(SYSCALL.copy_file_range, fdIn, offsetIn, fdOut, offsetOut, size, 0);
  return result < 0 ? -errno() : result;
}

/** @param isDataOnly leaves out metadata that reading the data back does not need. @returns 0 or −errno */
export function syncFile(fd: number, isDataOnly: boolean): number {
  const result = isDataOnly ? syncData(fd) : sync(fd);
  return result < 0 ? -errno() : 0;
}

/** Writes back the whole file system that holds `fd`, which must not be O_PATH. @returns 0 or −errno */
export function syncAll(fd: number): number {
  const result = syncFileSystem(fd);
  return result < 0 ? -errno() : 0;
}

/** ioctl(2) with the address of its argument. @returns ≥ 0 or −errno */
export function controlFile(fd: number, command: number, argument: number): number {
  const result = control(fd, command, argument);
  return result < 0 ? -errno() : result;
}

/** preadv2(2), through syscall(2) where the C library is too old to have it. */
function bindPreadv2(): (
  fd: number,
  iovecs: number,
  count: number,
  offset: number | bigint,
  flags: number,
) => number {
  try {
    return bind('preadv2', 'int64_t', ['int', 'uintptr_t', 'int', 'int64', 'int']);
  } catch {
    const call = bindSyscall(['int', 'uintptr_t', 'int64_t', 'int64', 'int64_t', 'int']);
    return (fd, iovecs, count, offset, flags) => call(SYSCALL.preadv2, fd, iovecs, count, offset, 0, flags);
  }
}
