/**
 * Data that is not in the host's page cache, or not on its disk: the kernel fetches and writes it while the thread serves
 * others.
 *
 * First a read that does not wait (RWF_NOWAIT); what it does not get goes to io_uring. Where there is no io_uring (it may
 * be disabled, in containers mostly), or too much is under way, the thread waits, as it does for file systems that
 * cannot tell what they have cached.
 *
 * A file may be truncated or closed meanwhile: io_uring holds the file it was given. Guest memory may not go: see `InFlight`.
 */
import { Errno } from '../../protocol/errno.ts';
import { IN_FLIGHT, type InFlight } from '../fuse/file-system.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { readAt, readInto, readNow, syncFile } from '../host/files-io.ts';
import { closeFile, duplicateFd } from '../host/files-open.ts';
import { IoUring } from '../host/io-uring.ts';
import { NativeMemory } from '../host/native-memory.ts';

/** Requests under way at once, of one thread. */
const CAPACITY = 128;
/** Iovecs kept of each: a read of 1 MiB into single pages, and some. */
const MAX_IOVECS = 260;
const IOVEC_WORDS = 4;
const TWO_32 = 0x1_0000_0000;
const PAGE = 4096;
/** In place of a number of iovecs: a sync. */
const SYNC = 0;
/** Mounts remembered as ones that cannot tell. */
const MAX_MOUNTS = 256;

/** Reads into the request's iovecs, which cover `covered` bytes, whatever that takes. @returns bytes, or −errno */
export function readWaiting(
  request: FuseRequest,
  fd: number,
  offset: number | bigint,
  covered: number,
): number {
  return request.iovecCount === 1
    ? readInto(fd, request.dataAddress, covered, offset)
    : readAt(fd, request.iovecAddress, request.iovecCount, offset);
}

export class ColdData implements InFlight, Disposable {
  readonly capacity = CAPACITY;
  result = 0;
  readonly #ring: IoUring;
  readonly #iovecs = NativeMemory.reserve(CAPACITY * MAX_IOVECS * IOVEC_WORDS * 4);
  readonly #free: Int16Array = Int16Array.from({ length: CAPACITY }, (_, i) => i);
  #freeCount = CAPACITY;
  /** Of each ticket: a descriptor of our own, or −1; bytes read before; bytes wanted of the kernel; where in the file. */
  readonly #fd = new Int32Array(CAPACITY);
  readonly #before = new Float64Array(CAPACITY);
  readonly #wanted = new Float64Array(CAPACITY);
  readonly #offset = new Float64Array(CAPACITY);
  readonly #count = new Uint16Array(CAPACITY);
  readonly #isBlind = new Uint8Array(MAX_MOUNTS);

  private constructor(ring: IoUring) {
    this.#ring = ring;
  }

  /** @returns −errno where there is no io_uring */
  static open(): ColdData | number {
    const ring = IoUring.open(CAPACITY);
    return typeof ring === 'number' ? ring : new ColdData(ring);
  }

  get eventFd(): number {
    return this.#ring.eventFd;
  }
  get count(): number {
    return CAPACITY - this.#freeCount;
  }

  /**
   * Reads into the request's iovecs, which cover `covered` bytes.
   *
   * @param mount index of the mount the file is on
   * @returns bytes, −errno, or IN_FLIGHT
   */
  read(request: FuseRequest, fd: number, mount: number, offset: number | bigint, covered: number): number {
    const { iovecAddress, iovecCount } = request;
    if (typeof offset === 'bigint' || mount >= MAX_MOUNTS || this.#isBlind[mount] === 1)
      return readWaiting(request, fd, offset, covered);
    const now = readNow(fd, iovecAddress, iovecCount, offset);
    if (now === covered || now === 0) return now;
    if (now > 0) {
      // The cached part ends with a page, the file anywhere.
      if ((offset + now) % PAGE !== 0) return now;
    } else if (now === -Errno.EOPNOTSUPP) {
      this.#isBlind[mount] = 1;
      return readWaiting(request, fd, offset, covered);
    } else if (now !== -Errno.EAGAIN) return now;
    return this.#readLater(request, fd, offset, covered, Math.max(0, now));
  }

  /**
   * fsync(2), or fdatasync(2), of a file.
   *
   * @param mount index of the mount the file is on
   * @returns 0, −errno, or IN_FLIGHT
   */
  sync(request: FuseRequest, fd: number, mount: number, isDataOnly: boolean): number {
    const isQuick = mount >= MAX_MOUNTS || this.#isBlind[mount] === 1;
    const ticket = isQuick ? -1 : this.#takeTicket(request, fd);
    if (ticket < 0) return syncFile(fd, isDataOnly);
    this.#count[ticket] = SYNC;
    this.#ring.sync(this.#fd[ticket]!, isDataOnly, ticket);
    return IN_FLIGHT;
  }

  submit(): void {
    if (this.#ring.pending > 0) this.#ring.submit();
  }

  take(): number {
    const ticket = this.#ring.take();
    if (ticket < 0) return ticket;
    this.result = this.#finish(ticket, this.#ring.result);
    closeFile(this.#fd[ticket]!);
    this.#free[this.#freeCount] = ticket;
    this.#freeCount += 1;
    return ticket;
  }

  wait(): void {
    this.submit();
    this.#ring.wait();
  }

  /** Nothing may be in flight. Idempotent. */
  close(): void {
    this.#ring.close();
    this.#iovecs.unmap();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #readLater(request: FuseRequest, fd: number, offset: number, covered: number, before: number): number {
    const wanted = covered - before;
    if (before > 0) request.prepareDataOut(wanted, before);
    const { iovecAddress, iovecCount } = request;
    const ticket = iovecCount > MAX_IOVECS ? -1 : this.#takeTicket(request, fd);
    if (ticket < 0) {
      const rest = readAt(fd, iovecAddress, iovecCount, offset + before);
      return rest < 0 ? (before > 0 ? before : rest) : before + rest;
    }
    this.#before[ticket] = before;
    this.#wanted[ticket] = wanted;
    this.#offset[ticket] = offset + before;
    this.#count[ticket] = iovecCount;
    const own = this.#fd[ticket]!;
    const words = this.#iovecs.u32;
    const at = ticket * MAX_IOVECS * IOVEC_WORDS;
    request.copyIovecs(words, at);
    if (iovecCount === 1)
      this.#ring.read(own, words[at]! + words[at + 1]! * TWO_32, wanted, offset + before, ticket);
    else this.#ring.readVector(own, this.#iovecs.address + at * 4, iovecCount, offset + before, ticket);
    return IN_FLIGHT;
  }

  /**
   * The file is opened a second time in a way: whatever the guest does to its handle, this one stays open.
   *
   * @returns −1 if the request cannot be answered later, or too many are
   */
  #takeTicket(request: FuseRequest, fd: number): number {
    const own = this.#freeCount > 0 && request.mayFly ? duplicateFd(fd) : -1;
    if (own < 0) return -1;
    this.#freeCount -= 1;
    const ticket = this.#free[this.#freeCount]!;
    this.#fd[ticket] = own;
    request.ticket = ticket;
    return ticket;
  }

  /** Whatever the kernel left undone is done now, waiting for it. @returns bytes in the guest's buffers, or −errno */
  #finish(ticket: number, result: number): number {
    const isUndone = result === -Errno.EAGAIN || result === -Errno.EINTR || result === -Errno.ECANCELED;
    if (this.#count[ticket] === SYNC) return isUndone ? syncFile(this.#fd[ticket]!, false) : result;
    const before = this.#before[ticket]!;
    const wanted = this.#wanted[ticket]!;
    if (result === wanted || result === 0) return before + result;
    if (result < 0 && !isUndone) return before > 0 ? before : result;
    const done = Math.max(0, result);
    this.#skip(ticket, done);
    const address = this.#iovecs.address + ticket * MAX_IOVECS * IOVEC_WORDS * 4;
    const rest = readAt(this.#fd[ticket]!, address, this.#count[ticket]!, this.#offset[ticket]! + done);
    if (rest < 0) return before + done > 0 ? before + done : rest;
    return before + done + rest;
  }

  /** Lets the ticket's iovecs begin `size` bytes later: those before become empty. */
  #skip(ticket: number, size: number): void {
    const words = this.#iovecs.u32;
    let left = size;
    for (let i = 0; left > 0 && i < this.#count[ticket]!; i += 1) {
      const at = (ticket * MAX_IOVECS + i) * IOVEC_WORDS;
      const piece = Math.min(left, words[at + 2]!);
      const base = words[at]! + words[at + 1]! * TWO_32 + piece;
      words[at] = base; // stores modulo 2^32
      words[at + 1] = base / TWO_32;
      words[at + 2]! -= piece;
      left -= piece;
    }
  }
}
