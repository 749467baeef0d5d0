/**
 * Opening files: by name, by descriptor through /proc, by file handle.
 *
 * In all `files-*` modules a `path` or `name` is the address of NUL-terminated bytes in native memory, so that names
 * which are not UTF-8 pass unchanged and nothing is copied; calls answer ≥ 0 or −errno.
 */
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';

const openAt = bind('openat', 'int', ['int', 'uintptr_t', 'int', 'uint32_t']);
const closeFd = bind('close', 'int', ['int']);
const duplicateOnto = bind('dup3', 'int', ['int', 'int', 'int']);
const control = bind('fcntl', 'int', ['int', 'int', 'int64_t']);
const nameToHandle = bind('name_to_handle_at', 'int', ['int', 'uintptr_t', 'uintptr_t', 'uintptr_t', 'int']);
const openByHandle = bind('open_by_handle_at', 'int', ['int', 'uintptr_t', 'int']);

const isArm64 = process.arch === 'arm64';

/** Flags of open(2) for this processor. Linux asm-generic/fcntl.h, arch/arm64/include/uapi/asm/fcntl.h. */
export const O_ACCMODE = 0o3;
export const O_RDONLY = 0o0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_DIRECT = isArm64 ? 0o200000 : 0o40000;
export const O_DIRECTORY = isArm64 ? 0o40000 : 0o200000;
export const O_NOFOLLOW = isArm64 ? 0o100000 : 0o400000;
export const O_CLOEXEC = 0o2000000;
export const O_SYNC = 0o4010000;
export const O_PATH = 0o10000000;
export const O_TMPFILE = 0o20000000 | O_DIRECTORY;

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;

/** `struct file_handle`: u32 handle_bytes, i32 handle_type, then the bytes. linux/fcntl.h, `MAX_HANDLE_SZ`. */
export const FILE_HANDLE_HEADER = 8;
export const MAX_HANDLE_BYTES = 128;

const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;

/** Digits of a descriptor, for paths relative to /proc/self/fd. The address of the empty string is its last octet. */
const text = NativeMemory.allocate(4096);
const DIGITS_END = 24;
const PROC_PATH_AT = 64;
/** Address of an empty path, for calls with AT_EMPTY_PATH. */
export const EMPTY_PATH = text.address + 128;
/** Address of the path ".". */
export const DOT_PATH = text.address + 136;
text.u8[136] = 0x2e;
text.u8.set(Buffer.from('/proc/self/fd/'), PROC_PATH_AT);

/** @returns a descriptor the caller owns (always close-on-exec), or −errno */
export function openFile(dirfd: number, path: number, flags: number, mode: number): number {
  const result = openAt(dirfd, path, flags | O_CLOEXEC, mode);
  return result < 0 ? -errno() : result;
}

/** Closes without looking at the answer: Linux lets go of the descriptor whatever it says. */
export function closeFile(fd: number): void {
  closeFd(fd);
}

/** @returns a second descriptor of the same open file, owned by the caller, or −errno */
export function duplicateFd(fd: number): number {
  const result = control(fd, F_DUPFD_CLOEXEC, 0);
  return result < 0 ? -errno() : result;
}

/** Makes `target` a descriptor of what `source` is open on; what it was open on before is closed. @returns 0 or −errno */
export function replaceFd(target: number, source: number): number {
  const result = duplicateOnto(source, target, O_CLOEXEC);
  return result < 0 ? -errno() : 0;
}

/** Sets or clears O_DIRECT of an open file. @returns 0 or −errno; EINVAL where its file system has no direct I/O */
export function setDirect(fd: number, isDirect: boolean): number {
  const flags = control(fd, F_GETFL, 0);
  const result = flags < 0 ? flags : control(fd, F_SETFL, isDirect ? flags | O_DIRECT : flags & ~O_DIRECT);
  return result < 0 ? -errno() : 0;
}

/** @returns address of the decimal digits of `fd`: its name in /proc/self/fd. Valid until the next call. */
export function fdName(fd: number): number {
  const { u8 } = text;
  let at = DIGITS_END;
  u8[at] = 0;
  let rest = fd;
  do {
    at -= 1;
    u8[at] = 0x30 + (rest % 10);
    rest = (rest / 10) | 0;
  } while (rest > 0);
  return text.address + at;
}

/** @returns address of the path `/proc/self/fd/<fd>`, a link straight to what `fd` is open on. Valid until the next call. */
export function fdPath(fd: number): number {
  const { u8 } = text;
  const start = fdName(fd) - text.address;
  let to = PROC_PATH_AT + 14;
  for (let from = start; from <= DIGITS_END; from += 1) {
    u8[to] = u8[from]!;
    to += 1;
  }
  return text.address + PROC_PATH_AT;
}

/**
 * Writes the file handle of `path` to `handle`, whose first word says how many octets there is room for.
 *
 * @param mountId address of an int that takes the mount's id
 * @returns 0 or −errno: EOPNOTSUPP where the file system has no handles, EOVERFLOW when it needs more room
 */
export function fileHandleOf(
  dirfd: number,
  path: number,
  handle: number,
  mountId: number,
  flags: number,
): number {
  const result = nameToHandle(dirfd, path, handle, mountId, flags);
  return result < 0 ? -errno() : result;
}

/**
 * @param mountFd any descriptor, not O_PATH, on the file system the handle is of
 * @returns a descriptor the caller owns, or −errno: ESTALE when the file is gone, EPERM without CAP_DAC_READ_SEARCH
 */
export function openHandle(mountFd: number, handle: number, flags: number): number {
  const result = openByHandle(mountFd, handle, flags | O_CLOEXEC);
  return result < 0 ? -errno() : result;
}
