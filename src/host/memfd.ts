/** Anonymous memory with a file descriptor: what a front-end's guest memory is made of. */
import { bind, bindSyscall, errno, SYSCALL } from './libc.ts';
import { OwnedFd } from './owned-fd.ts';

const memfdCreate = bindSyscall(['str', 'uint32_t']);
const ftruncate = bind('ftruncate', 'int', ['int', 'int64_t']);

export const MFD_CLOEXEC = 1;
export const MFD_ALLOW_SEALING = 2;
export const MFD_HUGETLB = 4;

/**
 * A sparse file of `size` zeroed bytes that has no path.
 *
 * @param name shown in /proc/PID/maps
 * @returns a descriptor the caller owns, or −errno
 */
export function createMemfd(name: string, size: number, flags: number = MFD_CLOEXEC): number {
  const result = memfdCreate(SYSCALL.memfd_create, name, flags);
  if (result < 0) return -errno();
  using fd = new OwnedFd(result);
  const resized = ftruncate(fd.fd, size);
  if (resized < 0) return -errno();
  return fd.release();
}
