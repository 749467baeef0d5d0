/** The dirty log of a case: memory shared with the back-end, a bit for each page of the guest. */
import { maskOf } from '../../protocol/bits.ts';
import { VHOST_F_LOG_ALL, VHOST_LOG_PAGE, VHOST_VRING_F_LOG } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import type { Guest } from './guest.ts';
import type { Rig } from './rig.ts';
import type { SharedMemory } from './shared-memory.ts';

/** Covers guest addresses up to 8 GiB. */
export const LOG_SIZE = 0x4_0000;

export class DirtyLog {
  readonly #memory: SharedMemory;
  readonly #offset: number;

  /** @param offset of the log in its memory, whole pages */
  constructor(rig: Rig, offset = 0) {
    this.#memory = rig.memory(LOG_SIZE + offset);
    this.#offset = offset;
  }

  /** SET_LOG_BASE: the back-end uses this log from now on. Whatever it answers. */
  use(guest: Guest): void {
    const log = { mmapSize: BigInt(LOG_SIZE), mmapOffset: BigInt(this.#offset) };
    guest.link.send(R.SET_LOG_BASE, log, { fds: [this.#memory.fd] });
    guest.link.expectReply('SET_LOG_BASE');
  }

  isDirty(gpa: number): boolean {
    const page = Math.floor(gpa / VHOST_LOG_PAGE);
    const octet = this.#memory.bytes[this.#offset + Math.floor(page / 8)]!;
    return (octet & (1 << (page % 8))) !== 0;
  }

  /** How many pages are marked; also by bits in front of the log. */
  count(): number {
    let count = 0;
    for (const octet of this.#memory.bytes) for (let rest = octet; rest !== 0; rest &= rest - 1) count += 1;
    return count;
  }

  clear(): void {
    this.#memory.bytes.fill(0);
  }
}

/** Logging on: log, LOG_ALL, the flag of every ring. In the order of QEMU. */
export function startLogging(guest: Guest, log: DirtyLog): void {
  log.use(guest);
  guest.link.accepts(R.SET_FEATURES, guest.link.features | maskOf(VHOST_F_LOG_ALL));
  guest.queues.forEach((_, index) => guest.setAddr(index, VHOST_VRING_F_LOG));
}

/** Logging off: LOG_ALL, then the rings. */
export function stopLogging(guest: Guest): void {
  guest.link.accepts(R.SET_FEATURES, guest.link.features & ~maskOf(VHOST_F_LOG_ALL));
  guest.queues.forEach((_, index) => guest.setAddr(index, 0));
}
