/** Waits for a descriptor, or either of two, in the calling thread. */
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';

const poll = bind('poll', 'int', ['uintptr_t', 'uint64_t', 'int']);

const POLLIN = 0x1;
const EINTR = 4;

/** Two of `struct pollfd`: i32 fd, i16 events, i16 revents. */
const pollfd = NativeMemory.allocate(16);

/**
 * Waits until `fd`, or `other`, can be read without blocking, or has an error or its other end gone.
 *
 * @param timeoutMs −1 waits for ever
 * @returns how many can, 0 if the time is over or a signal interrupted, or −errno
 */
export function waitReadable(fd: number, timeoutMs: number, other?: number): number {
  pollfd.i32[0] = fd;
  pollfd.u32[1] = POLLIN;
  if (other !== undefined) {
    pollfd.i32[2] = other;
    pollfd.u32[3] = POLLIN;
  }
  const result = poll(pollfd.address, other === undefined ? 1 : 2, timeoutMs);
  if (result >= 0) return result;
  const error = errno();
  return error === EINTR ? 0 : -error;
}
