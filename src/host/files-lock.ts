/** File locks: of a whole open file (flock), and of ranges owned by the open file description (OFD locks). */
import { bind, errno } from './libc.ts';

const flock = bind('flock', 'int', ['int', 'int']);
const control = bind('fcntl', 'int', ['int', 'int', 'uintptr_t']);

/** Operations of flock(2). */
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

/** Kinds of range lock, in `struct flock`. */
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;

/** `struct flock` of 64-bit Linux: i16 l_type, i16 l_whence, pad, i64 l_start, i64 l_len (0: to the end), i32 l_pid. */
export const FLOCK_SIZE = 32;
export const FLOCK_START = 8;
export const FLOCK_LENGTH = 16;

/** flock(2); with LOCK_NB it answers −EAGAIN where it would wait. @returns 0 or −errno */
export function lockFile(fd: number, operation: number): number {
  const result = flock(fd, operation);
  return result < 0 ? -errno() : 0;
}

/**
 * Sets or clears the range lock described at `lock`, without waiting. It belongs to the open file description of
 * `fd` and ends when that is closed.
 *
 * @returns 0 or −errno; EAGAIN when another holds a conflicting lock
 */
export function setRangeLock(fd: number, lock: number): number {
  const result = control(fd, F_OFD_SETLK, lock);
  return result < 0 ? -errno() : 0;
}

/** Replaces the lock described at `lock` by one it conflicts with, or its type by F_UNLCK. @returns 0 or −errno */
export function findRangeLock(fd: number, lock: number): number {
  const result = control(fd, F_OFD_GETLK, lock);
  return result < 0 ? -errno() : 0;
}
