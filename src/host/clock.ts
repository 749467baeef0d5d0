/** The monotonic clock, for loops that look at it all the time: `performance.now()` allocates a number each time. */
import { bind } from './libc.ts';
import { NativeMemory } from './native-memory.ts';

const clockGettime = bind('clock_gettime', 'int', ['int', 'uintptr_t']);

const CLOCK_MONOTONIC = 1;
const TIMESPEC_SIZE = 16;
const MS_PER_SECOND = 1000;
const NS_PER_MS = 1e6;

const timespec = NativeMemory.allocate(TIMESPEC_SIZE);
const words = timespec.u32;
const { address } = timespec;

/** @returns milliseconds since some moment before this thread began */
export function monotonicMs(): number {
  clockGettime(CLOCK_MONOTONIC, address);
  // Seconds since the machine started: the upper word of the 64 bits is 0 for 136 years.
  return words[0]! * MS_PER_SECOND + words[2]! / NS_PER_MS;
}
