/** Extended attributes, by path. They follow links: a path is `fdPath(fd)`, which is the very inode, link or not. */
import { bind, errno } from './libc.ts';

const setXattr = bind('setxattr', 'int', ['uintptr_t', 'uintptr_t', 'uintptr_t', 'uint64_t', 'int']);
const getXattr = bind('getxattr', 'int64_t', ['uintptr_t', 'uintptr_t', 'uintptr_t', 'uint64_t']);
const listXattr = bind('listxattr', 'int64_t', ['uintptr_t', 'uintptr_t', 'uint64_t']);
const removeXattr = bind('removexattr', 'int', ['uintptr_t', 'uintptr_t']);

/** Longest value, and longest list of names. linux/limits.h. */
export const XATTR_SIZE_MAX = 65536;
export const XATTR_LIST_MAX = 65536;

/** @param flags 0, XATTR_CREATE (1) or XATTR_REPLACE (2). @returns 0 or −errno */
export function writeXattr(path: number, name: number, value: number, size: number, flags: number): number {
  const result = setXattr(path, name, value, size, flags);
  return result < 0 ? -errno() : 0;
}

/** @param size 0 asks how long the value is. @returns octets of the value, or −errno */
export function readXattr(path: number, name: number, into: number, size: number): number {
  const result = getXattr(path, name, into, size);
  return result < 0 ? -errno() : result;
}

/** @param size 0 asks how long the list is. @returns octets of NUL-terminated names, or −errno */
export function listXattrs(path: number, into: number, size: number): number {
  const result = listXattr(path, into, size);
  return result < 0 ? -errno() : result;
}

/** @returns 0 or −errno */
export function deleteXattr(path: number, name: number): number {
  const result = removeXattr(path, name);
  return result < 0 ? -errno() : 0;
}
