/** Names in directories: making, removing, moving and listing them. */
import { bind, bindSyscall, errno, SYSCALL } from './libc.ts';

const makeDirectoryAt = bind('mkdirat', 'int', ['int', 'uintptr_t', 'uint32_t']);
const makeNodeAt = bind('mknodat', 'int', ['int', 'uintptr_t', 'uint32_t', 'uint64_t']);
const symlinkAt = bind('symlinkat', 'int', ['uintptr_t', 'int', 'uintptr_t']);
const linkAt = bind('linkat', 'int', ['int', 'uintptr_t', 'int', 'uintptr_t', 'int']);
const unlinkAt = bind('unlinkat', 'int', ['int', 'uintptr_t', 'int']);
const readlinkAt = bind('readlinkat', 'int64_t', ['int', 'uintptr_t', 'uintptr_t', 'uint64_t']);
const renameAt = bindSyscall(['int', 'uintptr_t', 'int', 'uintptr_t', 'uint32_t']);
const getDents = bindSyscall(['int', 'uintptr_t', 'uint32_t']);

/** Flags of renameat2(2). linux/fs.h. */
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

/** `struct linux_dirent64`: u64 d_ino, i64 d_off, u16 d_reclen, u8 d_type, then the name. */
export const DIRENT_OFFSET = 8;
export const DIRENT_RECORD_SIZE = 16;
export const DIRENT_TYPE = 18;
export const DIRENT_NAME = 19;

/** @returns 0 or −errno */
export function makeDirectory(dirfd: number, name: number, mode: number): number {
  const result = makeDirectoryAt(dirfd, name, mode);
  return result < 0 ? -errno() : 0;
}

/** @param device as dev_t, with kind and permissions in `mode`. @returns 0 or −errno */
export function makeNode(dirfd: number, name: number, mode: number, device: number): number {
  const result = makeNodeAt(dirfd, name, mode, device);
  return result < 0 ? -errno() : 0;
}

/** @returns 0 or −errno */
export function makeSymlink(target: number, dirfd: number, name: number): number {
  const result = symlinkAt(target, dirfd, name);
  return result < 0 ? -errno() : 0;
}

/** linkat(2). @returns 0 or −errno */
export function makeLink(
  fromDirfd: number,
  from: number,
  dirfd: number,
  name: number,
  flags: number,
): number {
  const result = linkAt(fromDirfd, from, dirfd, name, flags);
  return result < 0 ? -errno() : 0;
}

/** @param flags 0, or AT_REMOVEDIR for a directory. @returns 0 or −errno */
export function removeName(dirfd: number, name: number, flags: number): number {
  const result = unlinkAt(dirfd, name, flags);
  return result < 0 ? -errno() : 0;
}

/** renameat2(2). @returns 0 or −errno */
export function renameName(
  fromDirfd: number,
  from: number,
  toDirfd: number,
  to: number,
  flags: number,
): number {
  const result = renameAt(SYSCALL.renameat2, fromDirfd, from, toDirfd, to, flags);
  return result < 0 ? -errno() : 0;
}

/** With an empty path: the target of the symbolic link `dirfd` is open on. @returns octets without NUL, or −errno */
export function readLink(dirfd: number, path: number, into: number, size: number): number {
  const result = readlinkAt(dirfd, path, into, size);
  return result < 0 ? -errno() : result;
}

/** @returns octets of `linux_dirent64` records, 0 at the end, or −errno; EINVAL when not even one fits */
export function readDirectory(fd: number, into: number, size: number): number {
  const result = getDents(SYSCALL.getdents64, fd, into, size);
  return result < 0 ? -errno() : result;
}
