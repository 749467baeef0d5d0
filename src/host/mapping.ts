/**
 * Maps and unmaps memory, and makes views of it. Addresses are plain numbers.
 *
 * A view outlives nothing: reading one after its memory is unmapped ends the process with SIGSEGV, and no view can be
 * revoked. So whoever unmaps must own every view, or map something else in its place (`mapFixedAnonymous`).
 */
import { bind, errno, viewAt } from './libc.ts';

// Declared as signed, so that MAP_FAILED is −1; addresses of user space have the top bit clear.
const mmap = bind('mmap', 'int64_t', ['uintptr_t', 'uint64_t', 'int', 'int', 'int', 'int64_t']);
const munmap = bind('munmap', 'int', ['uintptr_t', 'uint64_t']);
const madvise = bind('madvise', 'int', ['uintptr_t', 'uint64_t', 'int']);
const sysconf = bind('sysconf', 'int64_t', ['int']);

export const PROT_READ = 1;
export const PROT_WRITE = 2;

const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MADV_DONTDUMP = 16;
const SC_PAGESIZE = 30;

/** The longest view that does not abort the process (Node 20). */
const MAX_VIEW = 4 * 1024 ** 3;

/** Size in bytes of a page of ordinary memory: 4 KiB, or up to 64 KiB on arm64. */
export const PAGE_SIZE = sysconf(SC_PAGESIZE);

/** Maps `size` bytes of a file, shared, wherever the kernel likes. @returns address or −errno */
export function mapShared(
  fd: number,
  offset: number,
  size: number,
  prot: number = PROT_READ | PROT_WRITE,
): number {
  const result = mmap(0, size, prot, MAP_SHARED, fd, offset);
  return result < 0 ? -errno() : result;
}

/** Maps `size` zeroed bytes for this process alone. @returns address or −errno */
export function mapAnonymous(size: number): number {
  const result = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return result < 0 ? -errno() : result;
}

/**
 * Takes `size` bytes of address space that cost nothing until touched: zeros, kept out of core dumps.
 *
 * @param prot with 0 (PROT_NONE) the range only keeps others away
 * @returns address or −errno (ENOMEM: a limit on address space, or strict overcommit accounting)
 */
export function reserve(size: number, prot: number = PROT_READ | PROT_WRITE): number {
  const result = mmap(0, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (result < 0) return -errno();
  madvise(result, size, MADV_DONTDUMP);
  return result;
}

/**
 * Maps a file, shared, readable and writable, over what is at `address`, which the caller owns.
 *
 * @returns `address` or −errno; after a failure the range may hold nothing at all: map something over it
 */
export function mapFixedShared(address: number, fd: number, offset: number, size: number): number {
  const result = mmap(
    address,
    size,
    PROT_READ | PROT_WRITE,
    MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
    fd,
    offset,
  );
  if (result < 0) return -errno();
  madvise(address, size, MADV_DONTDUMP);
  return result;
}

/** Puts what `reserve` gives over `address`: releases what was mapped there, and views of it read zeros. @returns as above */
export function mapFixedAnonymous(
  address: number,
  size: number,
  prot: number = PROT_READ | PROT_WRITE,
): number {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  const result = mmap(address, size, prot, flags, -1, 0);
  if (result < 0) return -errno();
  // The same advice as the neighbours have, or the kernel cannot merge them into one mapping.
  madvise(address, size, MADV_DONTDUMP);
  return result;
}

/** @returns 0 or −errno */
export function unmap(address: number, size: number): number {
  const result = munmap(address, size);
  return result < 0 ? -errno() : result;
}

/**
 * The `size` bytes at `address`, not copied.
 *
 * @param size 1 byte to 4 GiB
 */
export function viewOf(address: number, size: number): ArrayBuffer {
  if (!Number.isSafeInteger(address) || address <= 0) throw new RangeError(`viewOf: no address: ${address}`);
  if (!Number.isInteger(size) || size <= 0 || size > MAX_VIEW)
    throw new RangeError(`viewOf: ${size} bytes, allowed 1 to 4 GiB`);
  return viewAt(address, size);
}
