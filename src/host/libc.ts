/**
 * The C library, loaded once per thread, and how its functions are declared. Internal to `host`.
 *
 * A declared function is called directly: no wrapper, no allocation. The rule of this directory is that every call
 * answers ≥ 0 or −errno, written out at each call so that `errno()` is the very next native call:
 *
 *     const result = close(fd);
 *     return result < 0 ? -errno() : result;
 *
 * koffi truncates numbers silently (2^32+5 becomes 5, NaN becomes 0): callers check ranges before they call.
 */
import koffi from 'koffi';

/** What an argument may be in C, and what is given for it in JavaScript. */
interface ArgumentTypes {
  int: number;
  uint32_t: number;
  /** Sizes and offsets; also `ssize_t` and `off_t`. */
  int64_t: number;
  uint64_t: number;
  /** A file offset that may be beyond 2^53: such a one comes as a bigint. */
  int64: number | bigint;
  /** An address of this process as a number, mostly `NativeMemory.address`. */
  uintptr_t: number;
  /** Copied as NUL-terminated UTF-8 for the time of the call. */
  str: string;
}
type ArgumentType = keyof ArgumentTypes;
type Arguments<T extends readonly ArgumentType[]> = { -readonly [I in keyof T]: ArgumentTypes[T[I]] };
type ResultType = 'int' | 'int64_t' | 'uint32_t' | 'void';

const isArm64 = process.arch === 'arm64';
const libc = loadLibc();

/** Declares the C function `name`. Throws when the C library has no such function. */
export function bind<const T extends readonly ArgumentType[]>(
  name: string,
  result: ResultType,
  parameters: T,
): (...args: Arguments<T>) => number {
  return libc.func(name, result, [...parameters]);
}

/**
 * Declares `syscall(2)` with this list of parameters after the number, for what the C library has no function for or
 * applies to all threads of the process (credentials). The first argument of each call comes from `SYSCALL`.
 */
export function bindSyscall<const T extends readonly ArgumentType[]>(
  parameters: T,
): (number: number, ...args: Arguments<T>) => number {
  return libc.func('syscall', 'int64_t', ['int64_t', ...parameters]);
}

/** errno of this thread; only right as the very next native call after the one that failed. */
export const errno: () => number = koffi.errno;

/** An ArrayBuffer over memory of this process. Not a copy; at most 4 GiB, or the process aborts. */
export const viewAt: (address: number, size: number) => ArrayBuffer = koffi.view;

const X64 = {
  capget: 125,
  capset: 126,
  copy_file_range: 326,
  faccessat2: 439,
  fchmodat2: 452,
  fstat: 5,
  futex: 202,
  getdents64: 217,
  gettid: 186,
  io_uring_enter: 426,
  io_uring_register: 427,
  io_uring_setup: 425,
  memfd_create: 319,
  name_to_handle_at: 303,
  open_by_handle_at: 304,
  openat2: 437,
  preadv2: 327,
  pwritev2: 328,
  renameat2: 316,
  setfsgid: 123,
  setfsuid: 122,
  setgroups: 116,
  setresgid: 119,
  setresuid: 117,
  statx: 332,
  unshare: 272,
} as const;

const ARM64: { readonly [name in keyof typeof X64]: number } = {
  capget: 90,
  capset: 91,
  copy_file_range: 285,
  faccessat2: 439,
  fchmodat2: 452,
  fstat: 80,
  futex: 98,
  getdents64: 61,
  gettid: 178,
  io_uring_enter: 426,
  io_uring_register: 427,
  io_uring_setup: 425,
  memfd_create: 279,
  name_to_handle_at: 264,
  open_by_handle_at: 265,
  openat2: 437,
  preadv2: 286,
  pwritev2: 287,
  renameat2: 276,
  setfsgid: 152,
  setfsuid: 151,
  setgroups: 159,
  setresgid: 149,
  setresuid: 147,
  statx: 291,
  unshare: 97,
};

/** System call numbers of this processor. Linux arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h. */
export const SYSCALL: { readonly [name in keyof typeof X64]: number } = isArm64 ? ARM64 : X64;

function loadLibc(): ReturnType<typeof koffi.load> {
  const names = ['libc.so.6', isArm64 ? 'libc.musl-aarch64.so.1' : 'libc.musl-x86_64.so.1'];
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch {
      // Not this C library: the next name, at last whatever the program itself is linked with.
    }
  }
  return koffi.load(null);
}
