/** Waits for one descriptor in the calling thread. */
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';

const poll = bind('poll', 'int', ['uintptr_t', 'uint64_t', 'int']);

const POLLIN = 0x1;
const EINTR = 4;

const pollfd = NativeMemory.allocate(8);

/**
 * Waits until `fd` can be read without blocking, or has an error or its other end gone.
 *
 * @param timeoutMs −1 waits for ever
 * @returns 1 if so, 0 if the time is over or a signal interrupted, or −errno
 */
export function waitReadable(fd: number, timeoutMs: number): number {
  pollfd.i32[0] = fd;
  pollfd.u32[1] = POLLIN; // struct pollfd: i32 fd, i16 events, i16 revents
  const result = poll(pollfd.address, 1, timeoutMs);
  if (result >= 0) return result;
  const error = errno();
  return error === EINTR ? 0 : -error;
}
