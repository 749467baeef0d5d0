/** A virtqueue whose device is in this process, too, and has its turn when the driver waits. */
import { ProtocolError } from '../errors.ts';
import { viewOf } from '../host/mapping.ts';
import type { VhostDevice } from '../vhost/device.ts';
import { Chain } from '../virtio/chain.ts';
import { DriverQueue, driverQueueBytes } from '../virtio/driver-queue.ts';
import { type QueueMemory, Virtqueue } from '../virtio/virtqueue.ts';
import type { LowRam } from './guest-allocator.ts';
import type { GuestBuffer } from './guest-ram.ts';
import type { WaitableQueue } from './virtio-mem-queue.ts';

const NUM = 8;

export class LocalQueue implements WaitableQueue, Disposable {
  readonly driver: DriverQueue;
  readonly #ram: LowRam;
  readonly #memory: GuestBuffer;
  readonly #device: VhostDevice;
  readonly #virtqueue: Virtqueue;
  readonly #chain = new Chain();

  /** Lays an empty ring out in guest memory. @param device has one queue */
  constructor(ram: LowRam, device: VhostDevice) {
    this.#ram = ram;
    this.#device = device;
    this.#memory = ram.allocate(driverQueueBytes(NUM, 0), 64);
    const features = { num: NUM, eventIdx: false };
    this.driver = new DriverQueue({ ...features, indirectEntries: 0, ...this.#memory });
    this.driver.reset();
    const { descGpa, availGpa, usedGpa } = this.driver;
    const [descAddress, availAddress, usedAddress] = [descGpa, availGpa, usedGpa].map(
      (gpa) => ram.translate(gpa, 1).address,
    );
    this.#virtqueue = new Virtqueue(
      new LowMemory(ram),
      {
        ...features,
        indirect: false,
        descAddress: descAddress!,
        availAddress: availAddress!,
        usedAddress: usedAddress!,
      },
      0,
    );
    this.#chain.reserve(this.#virtqueue.maxSegments);
  }

  submit(): void {
    this.driver.publish();
  }

  /** @throws {GuestError} what the device makes of a bad request. @throws {ProtocolError} TIMEOUT if there was none */
  wait(): number {
    while (this.#virtqueue.pop(this.#chain)) {
      this.#virtqueue.pushUsed(this.#chain.head, this.#device.handle(0, this.#chain));
      this.#virtqueue.publish();
    }
    const head = this.driver.collect();
    if (head < 0) throw new ProtocolError('TIMEOUT', 'nothing was asked of the device');
    return head;
  }

  /** Gives the ring's memory back. */
  [Symbol.dispose](): void {
    this.#ram.release(this.#memory);
  }
}

/** Low RAM as a virtqueue sees it. */
class LowMemory implements QueueMemory {
  readonly isLogging = false;
  lastAddress = 0;
  readonly #ram: LowRam;

  constructor(ram: LowRam) {
    this.#ram = ram;
  }

  translate(gpa: number, size: number): number {
    const found = this.#ram.translate(gpa, size);
    this.lastAddress = found.address;
    return found.size;
  }

  ringView(address: number, size: number): DataView<ArrayBuffer> {
    return new DataView(viewOf(address, size));
  }

  /** Of indirect tables, which are not negotiated. */
  get lastWordsAddress(): number {
    return this.lastAddress;
  }

  wordsAround(): Uint32Array {
    throw new TypeError('no indirect tables here');
  }

  markDirty(): void {
    // nothing is logged
  }
}
