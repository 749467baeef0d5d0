/**
 * The descriptor a driver kicks a ring with, watched.
 *
 * An eventfd is watched by edges and not read: each write is an edge, and that saves a system call per kick. It is
 * emptied when it is let go, so that the next one to watch it does not take an old kick for a new one. A pipe, which the
 * specification allows too, must be read or it would fill up.
 */
import { errnoName } from '../../protocol/errno.ts';
import { ProtocolError } from '../errors.ts';
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN } from '../host/epoll.ts';
import { drainEventfd, setNonBlocking } from '../host/eventfd.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { fdKind, type FdKind } from '../host/stat.ts';

/** What the session needs of an event loop; `EventLoop` has it. Answers are ≥ 0 or −errno. */
export interface Loop {
  add(fd: number, events: number, callback: (events: number) => void): number;
  remove(fd: number): number;
}

const EINVAL = 22;
/** What can be waited for in vain, or tells its end as data for ever. */
const REFUSED: ReadonlySet<FdKind> = new Set(['file', 'socket', 'device']);
/** Reads of one kick of a pipe: what is left after them is another kick. */
const MAX_READS = 64;

export class KickWatch {
  readonly #loop: Loop;
  readonly #onKick: () => void;
  #fd: OwnedFd | undefined;
  #isRead = false;
  #isWatched = false;

  constructor(loop: Loop, onKick: () => void) {
    this.#loop = loop;
    this.#onKick = onKick;
  }

  get isSet(): boolean {
    return this.#fd !== undefined;
  }

  /**
   * Watches another descriptor, or none.
   *
   * @param fd owned from here on
   * @throws {ProtocolError} BAD_FDS if it cannot be waited for: it is closed, the old one stays
   */
  replace(fd: OwnedFd | undefined): void {
    if (fd === undefined) return this.close();
    const kind = fdKind(fd.fd);
    const isRead = kind === 'fifo';
    let result = REFUSED.has(kind) ? -EINVAL : setNonBlocking(fd.fd);
    if (result >= 0) result = this.#add(fd.fd, isRead);
    if (result < 0) {
      fd.close();
      throw new ProtocolError(
        'BAD_FDS',
        `kick: ${kind}, ${errnoName(-result)}; allowed: an eventfd or a pipe`,
      );
    }
    this.close();
    this.#fd = fd;
    this.#isRead = isRead;
    this.#isWatched = true;
  }

  /** Stops watching; kicks that are there are forgotten. */
  pause(): void {
    if (!this.#isWatched || this.#fd === undefined) return;
    this.#loop.remove(this.#fd.fd);
    this.#isWatched = false;
    drainEventfd(this.#fd.fd);
  }

  /** Watches again after `pause`. */
  resume(): void {
    if (this.#isWatched || this.#fd === undefined) return;
    this.#isWatched = this.#add(this.#fd.fd, this.#isRead) >= 0;
  }

  /** Lets go of the descriptor. Idempotent. */
  close(): void {
    this.pause();
    this.#fd?.close();
    this.#fd = undefined;
  }

  #add(fd: number, isRead: boolean): number {
    return this.#loop.add(fd, isRead ? EPOLLIN : EPOLLIN | EPOLLET, (events) => this.#onEvents(events));
  }

  #onEvents(events: number): void {
    if ((events & EPOLLIN) !== 0) {
      if (this.#isRead) this.#read();
      this.#onKick();
    }
    // Nobody can kick any more; it would be reported for ever.
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0) this.pause();
  }

  #read(): void {
    const fd = this.#fd?.fd ?? -1;
    for (let i = 0; i < MAX_READS && drainEventfd(fd) >= 0; i++);
  }
}
