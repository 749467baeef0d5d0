/** Event file descriptors: how kicks and calls travel. */
import { bind, bindSyscall, errno, SYSCALL } from './libc.ts';
import { NativeMemory, setU64 } from './native-memory.ts';

const eventfd = bind('eventfd', 'int', ['uint32_t', 'int']);
const read = bind('read', 'int64_t', ['int', 'uintptr_t', 'uint64_t']);
const preadv2 = bindSyscall(['int', 'uintptr_t', 'uint64_t', 'int64_t', 'int64_t', 'int']);
const write = bind('write', 'int64_t', ['int', 'uintptr_t', 'uint64_t']);
const fcntl = bind('fcntl', 'int', ['int', 'int', 'int64_t']);

export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

const EOPNOTSUPP = 95;
const RWF_NOWAIT = 8;
/** preadv2's offset that means the file position, which eventfds and pipes have instead of offsets. */
const NO_OFFSET = -1;

const COUNTER_SIZE = 8;
const counters = NativeMemory.allocate(4 * COUNTER_SIZE);
const ONE = counters.address;
const DRAINED = counters.address + COUNTER_SIZE;
/** `struct iovec` of `DRAINED`. */
const DRAINED_IOVEC = counters.address + 2 * COUNTER_SIZE;
counters.u32[0] = 1;
setU64(counters.u32, 4, DRAINED);
setU64(counters.u32, 6, COUNTER_SIZE);

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

/**
 * Sets the counter to 0. Never blocks, whatever the peer has made of the description it shares with us.
 *
 * @returns ≥ 0 or −errno; −EAGAIN means it was 0
 */
export function drainEventfd(fd: number): number {
  let result = preadv2(SYSCALL.preadv2, fd, DRAINED_IOVEC, 1, NO_OFFSET, NO_OFFSET, RWF_NOWAIT);
  if (result >= 0) return 0;
  const error = errno();
  if (error !== EOPNOTSUPP) return -error;
  // A pipe under an older kernel: `setNonBlocking` has to do.
  result = read(fd, DRAINED, COUNTER_SIZE);
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
