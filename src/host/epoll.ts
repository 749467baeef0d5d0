/** A blocking event loop over epoll, for threads that live in it. Everything runs in the calling thread, in order. */
import { errnoName } from '../../protocol/errno.ts';
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';
import { OwnedFd } from './owned-fd.ts';
import type { ThreadPulse } from './thread-pulse.ts';

const epollCreate1 = bind('epoll_create1', 'int', ['int']);
const epollCtl = bind('epoll_ctl', 'int', ['int', 'int', 'int', 'uintptr_t']);
const epollWait = bind('epoll_wait', 'int', ['int', 'uintptr_t', 'int', 'int']);

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x8000_0000;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;

const EINTR = 4;
const ENOENT = 2;

/** Words of `struct epoll_event`: events, then 64 bits of ours. It is packed on x86-64 and nowhere else. */
const EVENT_WORDS = process.arch === 'x64' ? 3 : 4;
const DATA_WORD = process.arch === 'x64' ? 1 : 2;
const MAX_EVENTS = 64;

interface Watch {
  readonly fd: number;
  readonly callback: (events: number) => void;
  /** What epoll gives back with an event. Never reused, so an event of a removed watch finds nothing. */
  readonly serial: number;
}

/**
 * Calls back when descriptors become ready.
 *
 * Watched descriptors stay the caller's, who removes one before closing it: as long as somebody else (the peer) has the
 * same file open, closing alone does not end its events.
 */
export class EventLoop implements Disposable {
  readonly #epoll: OwnedFd;
  readonly #events = NativeMemory.allocate((MAX_EVENTS + 1) * EVENT_WORDS * 4);
  /** The event given to epoll_ctl lies behind those that epoll_wait fills in: callbacks add and remove while we read those. */
  readonly #argument = MAX_EVENTS * EVENT_WORDS;
  readonly #byFd = new Map<number, Watch>();
  readonly #bySerial = new Map<number, Watch>();
  #nextSerial = 1;

  readonly #pulse: ThreadPulse | undefined;

  /**
   * @param pulse of the thread: it rests while this waits
   * @throws {RangeError} if the process is out of descriptors
   */
  constructor(pulse?: ThreadPulse) {
    this.#pulse = pulse;
    const result = epollCreate1(EPOLL_CLOEXEC);
    if (result < 0) throw new RangeError(`epoll_create1: ${errnoName(errno())}`);
    this.#epoll = new OwnedFd(result);
  }

  /** How many descriptors are watched. */
  get addCount(): number {
    return this.#byFd.size;
  }

  /**
   * Watches `fd`.
   *
   * @param events EPOLLIN and so on; EPOLLERR and EPOLLHUP are always reported
   * @returns 0 or −errno: EPERM for a regular file, which cannot be waited for; EEXIST if it is watched already
   */
  add(fd: number, events: number, callback: (events: number) => void): number {
    const serial = this.#nextSerial;
    const result = this.#control(EPOLL_CTL_ADD, fd, events, serial);
    if (result < 0) return result;
    this.#nextSerial = serial + 1;
    const watch = { fd, callback, serial };
    this.#byFd.set(fd, watch);
    this.#bySerial.set(serial, watch);
    return 0;
  }

  /** Changes what `fd` is watched for; re-arms an edge. @returns 0 or −errno: ENOENT if it is not watched */
  modify(fd: number, events: number): number {
    const watch = this.#byFd.get(fd);
    return watch === undefined ? -ENOENT : this.#control(EPOLL_CTL_MOD, fd, events, watch.serial);
  }

  /** Stops watching; its callback is not called any more, not even for events already collected. @returns as above */
  remove(fd: number): number {
    const watch = this.#byFd.get(fd);
    if (watch === undefined) return -ENOENT;
    this.#byFd.delete(fd);
    this.#bySerial.delete(watch.serial);
    return this.#control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /**
   * Waits for events and calls back for each of one batch.
   *
   * @param timeoutMs −1 waits for ever, 0 does not wait
   * @returns how many callbacks ran, 0 also when a signal interrupted, or −errno
   */
  runOnce(timeoutMs: number): number {
    this.#pulse?.rest();
    const count = epollWait(this.#epoll.fd, this.#events.address, MAX_EVENTS, timeoutMs);
    this.#pulse?.work();
    if (count < 0) {
      const error = errno();
      return error === EINTR ? 0 : -error;
    }
    const words = this.#events.u32;
    let called = 0;
    for (let i = 0; i < count; i++) {
      const watch = this.#bySerial.get(words[i * EVENT_WORDS + DATA_WORD]!);
      if (watch === undefined) continue; // removed by a callback of this batch
      watch.callback(words[i * EVENT_WORDS]!);
      called++;
    }
    return called;
  }

  /** Idempotent. Watched descriptors stay open. Not to be called from a callback. */
  close(): void {
    if (this.#epoll.isClosed) return;
    this.#epoll.close();
    this.#events.unmap();
    this.#byFd.clear();
    this.#bySerial.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #control(operation: number, fd: number, events: number, serial: number): number {
    const words = this.#events.u32;
    words[this.#argument] = events;
    words[this.#argument + DATA_WORD] = serial;
    words[this.#argument + DATA_WORD + 1] = 0;
    const address = this.#events.address + this.#argument * 4;
    const result = epollCtl(this.#epoll.fd, operation, fd, address);
    return result < 0 ? -errno() : 0;
  }
}
