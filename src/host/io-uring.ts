/**
 * io_uring(7): work the kernel does while this thread goes on. For what would block: data that is cached is faster read
 * by a plain call.
 *
 * A thread's own: one submits, the same one takes completions. Buffers must stay where they are until their completion
 * was taken; iovecs only until `submit`.
 */
import { bindSyscall, errno, SYSCALL } from './libc.ts';
import { createEventfd, signalEventfd } from './eventfd.ts';
import { mapShared, unmap, viewOf } from './mapping.ts';
import { NativeMemory } from './native-memory.ts';
import { Cleanup, OwnedFd } from './owned-fd.ts';

const setup = bindSyscall(['uint32_t', 'uintptr_t']);
const enter = bindSyscall(['int', 'uint32_t', 'uint32_t', 'uint32_t', 'uintptr_t', 'uint64_t']);
const register = bindSyscall(['int', 'uint32_t', 'uintptr_t', 'uint32_t']);

// linux/io_uring.h
const OFF_SQ_RING = 0;
const OFF_SQES = 0x1000_0000;
const ENTER_GETEVENTS = 1;
const REGISTER_EVENTFD = 4;
const OP_READV = 1;
const OP_FSYNC = 3;
const OP_READ = 22;
const FSYNC_DATASYNC = 1;
/** Rings in one mapping, no lost completions, nothing of an entry needed after it was submitted; and Linux ≥ 5.6. */
const NEEDED_FEATURES = 0b1111;

/** Words of `struct io_uring_params`, and of the offsets in it. */
const PARAMS_SIZE = 120;
const FEATURES = 5;
const SQ = { head: 10, tail: 11, mask: 12, array: 16 } as const;
const CQ = { head: 20, tail: 21, mask: 22, cqes: 25 } as const;
const CQ_ENTRIES = 1;

const SQE_WORDS = 16;
const CQE_WORDS = 4;

const EINTR = 4;
const EAGAIN = 11;
const ENOSYS = 38;

export class IoUring implements Disposable {
  /** Signalled at each completion, and when the kernel did not take something; nobody reads it. Lent. */
  readonly eventFd: number;
  /** What the completion taken last came to: ≥ 0 or −errno. EAGAIN also for what the kernel did not take. */
  result = 0;

  readonly #fd: number;
  readonly #owned: Cleanup;
  readonly #entries: number;
  readonly #ring: Uint32Array;
  readonly #sqes: Uint32Array;
  readonly #sqHead: number;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  /** Entries made; those from `#submitted` on are not the kernel's yet. */
  #tail = 0;
  #submitted = 0;
  #head = 0;
  /** Tickets of entries that the kernel did not take. */
  readonly #refused: number[] = [];

  private constructor(fd: number, owned: Cleanup, entries: number, params: Uint32Array, eventFd: number) {
    this.#fd = fd;
    this.#owned = owned;
    this.#entries = entries;
    this.eventFd = eventFd;
    const cqesEnd = params[CQ.cqes]! + params[CQ_ENTRIES]! * CQE_WORDS * 4;
    const size = Math.max(cqesEnd, params[SQ.array]! + entries * 4);
    this.#ring = wordsOf(owned, fd, OFF_SQ_RING, size);
    this.#sqes = wordsOf(owned, fd, OFF_SQES, entries * SQE_WORDS * 4);
    this.#sqHead = params[SQ.head]! / 4;
    this.#sqTail = params[SQ.tail]! / 4;
    this.#sqMask = this.#ring[params[SQ.mask]! / 4]!;
    this.#cqHead = params[CQ.head]! / 4;
    this.#cqTail = params[CQ.tail]! / 4;
    this.#cqMask = this.#ring[params[CQ.mask]! / 4]!;
    this.#cqes = params[CQ.cqes]! / 4;
    const array = params[SQ.array]! / 4;
    for (let i = 0; i < entries; i += 1) this.#ring[array + i] = i;
  }

  /**
   * @param entries a power of two: at most so many may be under way
   * @returns −errno where there is none: ENOSYS (too old), EPERM (sysctl kernel.io_uring_disabled, containers), ENOMEM
   */
  static open(entries: number): IoUring | number {
    using undo = new Cleanup();
    const owned = new Cleanup();
    undo.use(owned);
    using params = NativeMemory.allocate(PARAMS_SIZE);
    const fd = setup(SYSCALL.io_uring_setup, entries, params.address);
    if (fd < 0) return -errno();
    owned.use(new OwnedFd(fd));
    if ((params.u32[FEATURES]! & NEEDED_FEATURES) !== NEEDED_FEATURES) return -ENOSYS;
    const eventFd = createEventfd();
    if (eventFd < 0) return eventFd;
    owned.use(new OwnedFd(eventFd));
    let ring: IoUring;
    try {
      ring = new IoUring(fd, owned, entries, params.u32, eventFd);
    } catch (error) {
      if (error instanceof RangeError) return -ENOSYS;
      throw error;
    }
    params.u32[0] = eventFd;
    if (register(SYSCALL.io_uring_register, fd, REGISTER_EVENTFD, params.address, 1) < 0) return -errno();
    undo.keep();
    return ring;
  }

  /** Entries that `submit` has not given to the kernel. */
  get pending(): number {
    return (this.#tail - this.#submitted) >>> 0;
  }

  /** Reads into one buffer. @param ticket comes back with the completion. The caller keeps to `entries`. */
  read(fd: number, address: number, size: number, offset: number, ticket: number): void {
    this.#put(OP_READ, fd, address, size, offset, 0, ticket);
  }

  /** Reads into the `count` iovecs at `iovecs`. */
  readVector(fd: number, iovecs: number, count: number, offset: number, ticket: number): void {
    this.#put(OP_READV, fd, iovecs, count, offset, 0, ticket);
  }

  /** fsync(2), or fdatasync(2). */
  sync(fd: number, isDataOnly: boolean, ticket: number): void {
    this.#put(OP_FSYNC, fd, 0, 0, 0, isDataOnly ? FSYNC_DATASYNC : 0, ticket);
  }

  /** Gives all entries to the kernel. What it does not take is completed with EAGAIN. */
  submit(): void {
    // Release: the entries before the tail that covers them.
    Atomics.store(this.#ring, this.#sqTail, this.#tail);
    while (this.pending > 0) {
      const taken = enter(SYSCALL.io_uring_enter, this.#fd, this.pending, 0, 0, 0, 0);
      if (taken > 0) this.#submitted = (this.#submitted + taken) >>> 0;
      else if (taken === 0 || errno() !== EINTR) this.#refuse();
    }
  }

  /** @returns the ticket of a completion, with `result` set; −1 if there is none */
  take(): number {
    const refused = this.#refused.pop();
    if (refused !== undefined) {
      this.result = -EAGAIN;
      return refused;
    }
    const ring = this.#ring;
    // Acquire: the entry after the tail that covers it.
    if (this.#head === Atomics.load(ring, this.#cqTail)) return -1;
    const at = this.#cqes + (this.#head & this.#cqMask) * CQE_WORDS;
    const ticket = ring[at]!;
    this.result = ring[at + 2]! | 0;
    this.#head = (this.#head + 1) >>> 0;
    Atomics.store(ring, this.#cqHead, this.#head);
    return ticket;
  }

  /** Waits until there is a completion to `take`; something is under way. */
  wait(): void {
    if (this.#refused.length > 0) return;
    enter(SYSCALL.io_uring_enter, this.#fd, 0, 1, ENTER_GETEVENTS, 0, 0);
  }

  /** Nothing may be under way. Idempotent. */
  close(): void {
    this.#owned[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #put(
    op: number,
    fd: number,
    address: number,
    length: number,
    offset: number,
    flags: number,
    ticket: number,
  ): void {
    const sqes = this.#sqes;
    const at = (this.#tail & this.#sqMask) * SQE_WORDS;
    // Word by word as `struct io_uring_sqe` has them; stores are modulo 2^32.
    sqes[at] = op;
    sqes[at + 1] = fd;
    sqes[at + 2] = offset;
    sqes[at + 3] = offset / 0x1_0000_0000;
    sqes[at + 4] = address;
    sqes[at + 5] = address / 0x1_0000_0000;
    sqes[at + 6] = length;
    sqes[at + 7] = flags;
    sqes[at + 8] = ticket;
    sqes.fill(0, at + 9, at + SQE_WORDS);
    this.#tail = (this.#tail + 1) >>> 0;
    if (this.pending === this.#entries) this.submit();
  }

  #refuse(): void {
    const taken = Atomics.load(this.#ring, this.#sqHead);
    for (let i = taken; i !== this.#tail; i = (i + 1) >>> 0)
      this.#refused.push(this.#sqes[(i & this.#sqMask) * SQE_WORDS + 8]!);
    this.#tail = taken;
    this.#submitted = taken;
    Atomics.store(this.#ring, this.#sqTail, taken);
    signalEventfd(this.eventFd); // the kernel does not
  }
}

/** @throws {RangeError} if it cannot be mapped */
function wordsOf(owned: Cleanup, fd: number, offset: number, size: number): Uint32Array {
  const address = mapShared(fd, offset, size);
  if (address < 0) throw new RangeError(`io_uring: its rings are not mapped, ${address}`);
  owned.defer(() => unmap(address, size));
  return new Uint32Array(viewOf(address, Math.floor(size / 4) * 4));
}
