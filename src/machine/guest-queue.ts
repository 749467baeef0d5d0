/** A virtqueue of the machine's guest: the driver's ring, and the event descriptors that join it to the back-end. */
import { errnoName } from '../../protocol/errno.ts';
import { performance } from 'node:perf_hooks';
import { ProtocolError } from '../errors.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../host/eventfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { waitReadable } from '../host/poll.ts';
import { DriverQueue, driverQueueBytes } from '../virtio/driver-queue.ts';
import type { GuestRam } from './guest-ram.ts';

export interface GuestQueueOptions {
  readonly num: number;
  readonly eventIdx: boolean;
  readonly indirectEntries: number;
  /** Waits until the descriptor can be read, at most so many milliseconds. */
  readonly wait?: (fd: number, timeoutMs: number) => void;
}

export class GuestQueue implements Disposable {
  readonly driver: DriverQueue;
  readonly #kick = openEventfd();
  readonly #call = openEventfd();
  readonly #error = openEventfd();
  readonly #wait: (fd: number, timeoutMs: number) => void;

  /** Lays the ring out in the base region. */
  constructor(ram: GuestRam, options: GuestQueueOptions) {
    const memory = ram.allocate(driverQueueBytes(options.num, options.indirectEntries), 4096);
    this.driver = new DriverQueue({ ...options, bytes: memory.bytes, gpa: memory.gpa });
    this.driver.reset();
    this.#wait = options.wait ?? waitReadable;
  }

  /** The descriptors, lent. */
  get kickFd(): number {
    return this.#kick.fd;
  }
  get callFd(): number {
    return this.#call.fd;
  }
  get errorFd(): number {
    return this.#error.fd;
  }

  /** Lets the device see what was added, and wakes it if it wants that. */
  submit(): void {
    this.driver.publish();
    if (this.driver.kickNeeded()) signalEventfd(this.#kick.fd);
  }

  /**
   * Takes one finished request, waiting for it.
   *
   * @returns its head
   * @throws {ProtocolError} TIMEOUT; CLOSED if the device has stopped the ring
   */
  wait(timeoutMs: number): number {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const head = this.driver.collect();
      if (head >= 0) return head;
      if (this.driver.enableCalls()) continue;
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0) throw new ProtocolError('TIMEOUT', `no request was finished in ${timeoutMs} ms`);
      // In slices, to notice when the ring was given up.
      this.#wait(this.#call.fd, Math.min(left, 100));
      drainEventfd(this.#call.fd);
      if (this.hasFailed()) throw new ProtocolError('CLOSED', 'the device has stopped the ring');
      this.driver.disableCalls();
    }
  }

  /** Whether the device has signalled an error of this ring since this was last asked. */
  hasFailed(): boolean {
    return drainEventfd(this.#error.fd) >= 0;
  }

  [Symbol.dispose](): void {
    this.#kick.close();
    this.#call.close();
    this.#error.close();
  }
}

function openEventfd(): OwnedFd {
  const fd = createEventfd();
  if (fd < 0) throw new RangeError(`eventfd: ${errnoName(-fd)}`);
  return new OwnedFd(fd);
}
