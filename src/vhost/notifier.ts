/** A descriptor we signal: call or err of a ring, the eventfd of the dirty log. */
import { setNonBlocking, signalEventfd } from '../host/eventfd.ts';
import type { OwnedFd } from '../host/owned-fd.ts';

export class Notifier {
  #fd: OwnedFd | undefined;

  /** @param fd owned from here on; undefined for none: the other side looks by itself */
  replace(fd: OwnedFd | undefined): void {
    this.#fd?.close();
    this.#fd = fd;
    // A peer could stop our thread with an eventfd that is full. One that cannot be changed cannot be written either.
    if (fd !== undefined) setNonBlocking(fd.fd);
  }

  /** A full counter needs no signal, and a broken one is the peer's loss: the answer is not looked at. */
  signal(): void {
    if (this.#fd !== undefined) signalEventfd(this.#fd.fd);
  }

  /** The descriptor, lent; −1 for none. */
  get fd(): number {
    return this.#fd?.fd ?? -1;
  }

  /** Lets go of the descriptor. @returns it, the caller's from here on */
  release(): OwnedFd | undefined {
    const fd = this.#fd;
    this.#fd = undefined;
    return fd;
  }

  /** Idempotent. */
  close(): void {
    this.replace(undefined);
  }
}
