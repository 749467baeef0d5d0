/** A virtqueue of the machine's guest: the driver's ring, and the event descriptors that join it to the back-end. */
import { errnoName } from '../../protocol/errno.ts';
import { performance } from 'node:perf_hooks';
import { ProtocolError } from '../errors.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../host/eventfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { waitReadable } from '../host/poll.ts';
import { DriverQueue, driverQueueBytes } from '../virtio/driver-queue.ts';
import type { GuestAllocator } from './guest-allocator.ts';
import type { GuestBuffer } from './guest-ram.ts';

/** The descriptors of a queue: they belong to the device and stay when another driver takes it. */
export class QueueEvents implements Disposable {
  readonly kick = openEventfd();
  readonly call = openEventfd();
  readonly error = openEventfd();

  /** Forgets what was signalled. */
  drain(): void {
    for (const { fd } of [this.kick, this.call, this.error]) drainEventfd(fd);
  }

  [Symbol.dispose](): void {
    this.kick.close();
    this.call.close();
    this.error.close();
  }
}

/** How a driver lays its ring out. */
export interface GuestRingOptions {
  /** Entries: a power of two. */
  readonly num: number;
  readonly eventIdx: boolean;
  /** Descriptors of each request's indirect table; 0 for no indirect tables. */
  readonly indirectEntries: number;
}

export interface GuestQueueOptions extends GuestRingOptions {
  /** Waits until the descriptor can be read, at most so many milliseconds. */
  readonly wait?: ((fd: number, timeoutMs: number) => void) | undefined;
  /** Why the device will not answer any more. Asked while nothing comes. */
  readonly failure?: () => ProtocolError | undefined;
  /** Borrowed. Default: the queue has its own. */
  readonly events?: QueueEvents;
}

const SLICE_MS = 100;

export class GuestQueue implements Disposable {
  readonly driver: DriverQueue;
  readonly #memory: GuestBuffer;
  readonly #events: QueueEvents;
  readonly #isOwner: boolean;
  readonly #wait: (fd: number, timeoutMs: number) => void;
  readonly #failure: (() => ProtocolError | undefined) | undefined;

  /** Lays an empty ring out in guest memory. */
  constructor(ram: GuestAllocator, options: GuestQueueOptions) {
    const { num, indirectEntries, events = new QueueEvents() } = options;
    this.#events = events;
    this.#isOwner = options.events === undefined;
    this.#memory = ram.allocate(driverQueueBytes(num, indirectEntries), 4096);
    this.driver = new DriverQueue({ ...options, ...this.#memory });
    this.driver.reset();
    this.#wait = options.wait ?? waitReadable;
    this.#failure = options.failure;
  }

  /** The used index as it is in guest memory. */
  get usedIndex(): number {
    const { gpa, bytes } = this.#memory;
    const at = this.driver.usedGpa - gpa + 2;
    return bytes[at]! | (bytes[at + 1]! << 8);
  }

  /** The descriptors, lent. */
  get kickFd(): number {
    return this.#events.kick.fd;
  }
  get callFd(): number {
    return this.#events.call.fd;
  }
  get errorFd(): number {
    return this.#events.error.fd;
  }

  /** Gives the ring's memory back: the device must not use it any more, nor the driver. */
  release(ram: GuestAllocator): void {
    ram.release?.(this.#memory);
  }

  /** Lets the device see what was added, and wakes it if it wants that. */
  submit(): void {
    this.driver.publish();
    if (this.driver.kickNeeded()) signalEventfd(this.kickFd);
  }

  /**
   * Takes one finished request, waiting for it.
   *
   * @returns its head
   * @throws {ProtocolError} TIMEOUT; CLOSED if the device has stopped the ring, or gone
   */
  wait(timeoutMs: number): number {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const head = this.driver.collect();
      if (head >= 0) return head;
      if (this.driver.enableCalls()) continue;
      const began = performance.now();
      const left = Math.ceil(deadline - began);
      if (left <= 0) throw new ProtocolError('TIMEOUT', `no request was finished in ${timeoutMs} ms`);
      // In slices, to notice when the ring was given up, or the device.
      this.#wait(this.callFd, Math.min(left, SLICE_MS));
      drainEventfd(this.callFd);
      if (this.hasFailed()) throw new ProtocolError('CLOSED', 'the device has stopped the ring');
      const cause = performance.now() - began < SLICE_MS ? undefined : this.#failure?.();
      if (cause !== undefined) throw new ProtocolError('CLOSED', cause.message, { cause });
      this.driver.disableCalls();
    }
  }

  /** Whether the device has signalled an error of this ring since this was last asked. */
  hasFailed(): boolean {
    return drainEventfd(this.errorFd) >= 0;
  }

  [Symbol.dispose](): void {
    if (this.#isOwner) this.#events[Symbol.dispose]();
  }
}

/** @throws {RangeError} if there are no descriptors left */
export function openEventfd(): OwnedFd {
  const fd = createEventfd();
  if (fd < 0) throw new RangeError(`eventfd: ${errnoName(-fd)}`);
  return new OwnedFd(fd);
}
