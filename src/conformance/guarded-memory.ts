/** Guest memory handed out with guards around each buffer, which tell when something else than the buffer was written. */
import type { GuestBuffer } from '../machine/guest-ram.ts';

const GUARD = 0xc5;
const GUARD_BYTES = 16;

export class GuardedMemory {
  readonly #memory: GuestBuffer;
  #next = 0;

  constructor(memory: GuestBuffer) {
    this.#memory = memory;
  }

  /** Forgets all buffers. */
  reset(): void {
    this.#next = 0;
  }

  /** @throws {RangeError} if there is no room left */
  take(size: number): GuestBuffer {
    const start = this.#next + GUARD_BYTES;
    const end = start + size;
    const { gpa, bytes } = this.#memory;
    if (end + GUARD_BYTES > bytes.length) throw new RangeError(`no ${size} bytes left of ${bytes.length}`);
    bytes.fill(GUARD, start - GUARD_BYTES, start);
    bytes.fill(GUARD, end, end + GUARD_BYTES);
    this.#next = end;
    return { gpa: gpa + start, bytes: bytes.subarray(start, end) };
  }

  /** All of it, as it is now. */
  copy(): Buffer {
    return Buffer.from(this.#memory.bytes);
  }

  /** Whether what lies around a buffer is as `take` left it; a buffer from elsewhere has no guards. */
  isIntactAround({ gpa, bytes }: GuestBuffer): boolean {
    const memory = this.#memory;
    const start = gpa - memory.gpa;
    const end = start + bytes.length;
    if (start < GUARD_BYTES || end + GUARD_BYTES > memory.bytes.length) return true;
    return (
      memory.bytes.subarray(start - GUARD_BYTES, start).every(isGuard) &&
      memory.bytes.subarray(end, end + GUARD_BYTES).every(isGuard)
    );
  }
}

const isGuard = (octet: number): boolean => octet === GUARD;
