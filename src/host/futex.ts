/** Sleeping until a word of memory changes: futex(2), among the threads of this process. */
import { bindSyscall, SYSCALL } from './libc.ts';
import { NativeMemory, setU64 } from './native-memory.ts';

const futex = bindSyscall(['uintptr_t', 'int', 'uint32_t', 'uintptr_t', 'uintptr_t', 'uint32_t']);

const FUTEX_WAIT_PRIVATE = 128;
const FUTEX_WAKE_PRIVATE = 129;
const EVERYBODY = 0x7fff_ffff;

/** `struct timespec`, 64 bits each. */
const timeout = NativeMemory.allocate(16);

/**
 * Sleeps while the word at `address` is `value`. Returns early, too, without reason: look at the word again.
 *
 * @param timeoutMs whole milliseconds after which it returns; −1 for never
 */
export function futexWait(address: number, value: number, timeoutMs = -1): void {
  if (timeoutMs >= 0) {
    setU64(timeout.u32, 0, Math.floor(timeoutMs / 1000));
    setU64(timeout.u32, 2, (timeoutMs % 1000) * 1_000_000);
  }
  futex(SYSCALL.futex, address, FUTEX_WAIT_PRIVATE, value, timeoutMs < 0 ? 0 : timeout.address, 0, 0);
}

/** Wakes one sleeper. */
export function futexWakeOne(address: number): void {
  futex(SYSCALL.futex, address, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

export function futexWakeAll(address: number): void {
  futex(SYSCALL.futex, address, FUTEX_WAKE_PRIVATE, EVERYBODY, 0, 0, 0);
}
