/** What a received file descriptor is, before anything is done with it. */
import { readlinkSync } from 'node:fs';
import { bind, bindSyscall, errno, SYSCALL } from './libc.ts';
import { PAGE_SIZE } from './mapping.ts';
import { NativeMemory } from './native-memory.ts';

const statx = bindSyscall(['int', 'str', 'int', 'uint32_t', 'uintptr_t']);
const getsockopt = bind('getsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uintptr_t']);
const fstatfs = bind('fstatfs', 'int', ['int', 'uintptr_t']);

const AT_EMPTY_PATH = 0x1000;
const STATX_TYPE_MODE_SIZE = 0x1 | 0x2 | 0x200;
/** Offsets in `struct statx`, the same on every processor. */
const STX_MODE = 28;
const STX_SIZE = 40;

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const KINDS: { readonly [mode: number]: FdKind } = {
  [S_IFREG]: 'file',
  0o140000: 'socket',
  0o010000: 'fifo',
  0o020000: 'device',
  0o060000: 'device',
};

const SOL_SOCKET = 1;
const SO_ACCEPTCONN = 30;
const SO_PEERCRED = 17;
/** Bytes of `struct ucred`. */
const UCRED = 12;

const HUGETLBFS_MAGIC = 0x958458f6;
/** Offset of `f_bsize` in `struct statfs` of 64-bit Linux; `f_type` comes first. */
const F_BSIZE = 8;

/** `device` is a character or block device, such as /dev/dax0.0: it can be mapped, but its size is not known here. */
export type FdKind = 'file' | 'eventfd' | 'socket' | 'fifo' | 'device' | 'other';

const answer = NativeMemory.allocate(4096);

/** @returns size in bytes of a regular file (of anything else, mostly 0), or −errno */
export function fdSize(fd: number): number {
  const result = statx(SYSCALL.statx, fd, '', AT_EMPTY_PATH, STATX_TYPE_MODE_SIZE, answer.address);
  if (result < 0) return -errno();
  return Number(answer.view.getBigUint64(STX_SIZE, true));
}

/** @returns size in bytes of a regular file, Infinity of anything else (its size is not known), or −errno */
export function mappableSize(fd: number): number {
  const size = fdSize(fd);
  if (size < 0) return size;
  return (answer.view.getUint16(STX_MODE, true) & S_IFMT) === S_IFREG ? size : Infinity;
}

/** @returns what kind of thing `fd` is; `other` also when it cannot be told */
export function fdKind(fd: number): FdKind {
  // An eventfd has no file type of its own: only the name of its anonymous inode tells it.
  if (linkTarget(fd) === 'anon_inode:[eventfd]') return 'eventfd';
  const result = statx(SYSCALL.statx, fd, '', AT_EMPTY_PATH, STATX_TYPE_MODE_SIZE, answer.address);
  if (result < 0) return 'other';
  return KINDS[answer.view.getUint16(STX_MODE, true) & S_IFMT] ?? 'other';
}

/** @returns whether `fd` is a socket that waits for connections */
export function isListening(fd: number): boolean {
  answer.u32[0] = 0; // the option's value
  answer.u32[1] = 4; // its size
  const result = getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, answer.address, answer.address + 4);
  return result === 0 && answer.u32[0] === 1;
}

/** @returns the process that listened where this Unix socket is connected to, or −errno; 0 if it is in another PID namespace */
export function peerProcess(fd: number): number {
  answer.u32[UCRED / 4] = UCRED;
  const result = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, answer.address, answer.address + UCRED);
  return result < 0 ? -errno() : answer.u32[0]!;
}

/** @returns the size in bytes of the pages `fd` is mapped by: those of a hugetlbfs file are huge. Or −errno */
export function fdPageSize(fd: number): number {
  const result = fstatfs(fd, answer.address);
  if (result < 0) return -errno();
  const isHuge = answer.view.getUint32(0, true) === HUGETLBFS_MAGIC;
  return isHuge ? Number(answer.view.getBigUint64(F_BSIZE, true)) : PAGE_SIZE;
}

function linkTarget(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ''; // not open, or no /proc in the sandbox: the caller falls back to what stat says
  }
}
