/** Event file descriptors: how kicks and calls travel. */
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';

const eventfd = bind('eventfd', 'int', ['uint32_t', 'int']);
const read = bind('read', 'int64_t', ['int', 'uintptr_t', 'uint64_t']);
const write = bind('write', 'int64_t', ['int', 'uintptr_t', 'uint64_t']);
const fcntl = bind('fcntl', 'int', ['int', 'int', 'int64_t']);

export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

const COUNTER_SIZE = 8;
const counters = NativeMemory.allocate(2 * COUNTER_SIZE);
const ONE = counters.address;
const DRAINED = counters.address + COUNTER_SIZE;
counters.u32[0] = 1;

/** @returns a descriptor the caller owns, counter 0, or −errno */
export function createEventfd(flags: number = EFD_CLOEXEC | EFD_NONBLOCK): number {
  const result = eventfd(0, flags);
  return result < 0 ? -errno() : result;
}

/**
 * Adds 1 to the counter. A blocking descriptor from a peer may block here: see `setNonBlocking`.
 *
 * @returns ≥ 0 or −errno; −EAGAIN means the counter is full, so the other side has not looked yet and will
 */
export function signalEventfd(fd: number): number {
  const result = write(fd, ONE, COUNTER_SIZE);
  return result < 0 ? -errno() : 0;
}

/** Sets the counter to 0. @returns ≥ 0 or −errno; −EAGAIN means it was 0 */
export function drainEventfd(fd: number): number {
  const result = read(fd, DRAINED, COUNTER_SIZE);
  return result < 0 ? -errno() : 0;
}

/**
 * Makes reads and writes of this descriptor answer −EAGAIN instead of blocking. Call it on every eventfd a peer sends:
 * otherwise it could stop a whole thread with one that is full. The peer's copy becomes non-blocking too.
 *
 * @returns 0 or −errno
 */
export function setNonBlocking(fd: number): number {
  const flags = fcntl(fd, F_GETFL, 0);
  if (flags < 0) return -errno();
  const result = fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  return result < 0 ? -errno() : 0;
}
