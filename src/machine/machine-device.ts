/** A vhost-user device of a machine: its front-end, and the driver side of each of its queues. */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import { VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../protocol/virtio-ring.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import { Cleanup, type OwnedFd } from '../host/owned-fd.ts';
import { VhostUserFrontend } from '../vhost/frontend.ts';
import type { FrontendOptions } from '../vhost/frontend-channel.ts';
import { DeviceFrontend } from '../vhost/frontend-device.ts';
import type { DeviceFrontendOptions } from '../vhost/frontend-device-options.ts';
import type { SharedQueue } from '../vhost/frontend-vring.ts';
import type { GuestAllocator } from './guest-allocator.ts';
import { GuestQueue, openEventfd, QueueEvents } from './guest-queue.ts';

export interface MachineDeviceOptions extends FrontendOptions, Omit<DeviceFrontendOptions, 'notifiers'> {
  /** Where the back-end listens, or a socket connected to it, which the machine then owns. */
  readonly socket: string | OwnedFd;
  /** All queues of the device. Default 2: a file system's hiprio and one for requests. */
  readonly queues?: number;
  /** Entries of each queue. Default 256. */
  readonly queueSize?: number;
  /** Descriptors an indirect table may have; 0 for none. Default 0. */
  readonly indirectEntries?: number;
  /** Default true, if the back-end offers it. */
  readonly eventIdx?: boolean;
  /** Features of the device type that the guest's driver accepts, as bits. Default none. */
  readonly driverFeatures?: bigint;
}

export class MachineDevice implements Disposable {
  readonly name: string;
  readonly frontend: DeviceFrontend;
  /** Where its drivers get memory from. */
  readonly ram: GuestAllocator;
  readonly #options: MachineDeviceOptions;
  readonly #owned: Cleanup;
  readonly #events: readonly QueueEvents[];
  #queues: readonly GuestQueue[] = [];

  private constructor(ram: GuestAllocator, options: MachineDeviceOptions, owned: Cleanup) {
    const { name, socket, queues = 2 } = options;
    this.name = name;
    this.ram = ram;
    this.#options = options;
    this.#owned = owned;
    const connection = owned.use(connected(socket, options));
    this.#events = Array.from({ length: queues }, () => owned.use(new QueueEvents()));
    this.frontend = owned.use(
      new DeviceFrontend(connection, {
        ...options,
        notifiers: this.#events.map(({ error }) => ({
          maskedFd: owned.use(openEventfd()).fd,
          errorFd: error.fd,
        })),
      }),
    );
  }

  /**
   * Connects to a back-end and negotiates. Nothing is shared and no queue is started yet.
   *
   * @throws {ProtocolError} if the back-end is not there, or cannot do what the device needs
   */
  static connect(ram: GuestAllocator, options: MachineDeviceOptions): MachineDevice {
    using undo = new Cleanup();
    const owned = new Cleanup();
    undo.use(owned);
    const device = new MachineDevice(ram, options, owned);
    device.frontend.connect();
    undo.keep();
    return device;
  }

  /** What the driver has set up; a reset ends them, the next start makes others. Queue 0 of a file system is hiprio. */
  get queues(): readonly GuestQueue[] {
    return this.#queues;
  }

  /** Features the guest's driver has accepted. */
  get features(): bigint {
    const { driverFeatures = 0n, eventIdx = true, indirectEntries = 0 } = this.#options;
    return (
      this.frontend.features &
      (driverFeatures |
        maskOf(
          VirtioFeature.VERSION_1,
          VHOST_USER_F_PROTOCOL_FEATURES,
          ...(eventIdx ? [VIRTIO_RING_F_EVENT_IDX] : []),
          ...(indirectEntries > 0 ? [VIRTIO_RING_F_INDIRECT_DESC] : []),
        ))
    );
  }

  /**
   * The driver sets its queues up, or the machine runs on.
   *
   * @throws {ProtocolError} as `DeviceFrontend.start`
   */
  start(): void {
    if (this.frontend.isStarted) return;
    if (this.#queues.length === 0) this.#queues = this.#events.map((events) => this.#createQueue(events));
    this.frontend.start({ features: this.features, queues: this.#queues.map(shared) });
  }

  /** The machine stops; queues go on where they were at the next start. @throws {ProtocolError} as `DeviceFrontend.stop` */
  stop(): void {
    this.frontend.stop();
  }

  /**
   * The back-end has died, or is given up for another: connects to that, and gives it the memory and the queues there are. Requests that
   * were under way are served again, those of the clients that wait for them.
   *
   * @param socket where it listens, or connected to it, which the device then owns
   * @throws {ProtocolError} as `DeviceFrontend.reconnect`; another attempt may follow
   */
  reconnect(socket: string | OwnedFd): void {
    this.frontend.reconnect(connected(socket, this.#options));
  }

  /** The device is reset; the next start has a new driver with empty queues. @throws {ProtocolError} as `DeviceFrontend.reset` */
  reset(): void {
    try {
      this.frontend.reset();
    } finally {
      this.#releaseQueues();
    }
  }

  /** Disconnects. Idempotent. */
  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
    this.#releaseQueues();
  }

  #releaseQueues(): void {
    for (const queue of this.#queues) queue.release(this.ram);
    this.#queues = [];
  }

  #createQueue(events: QueueEvents): GuestQueue {
    const { features } = this;
    const { queueSize = 256, indirectEntries = 0, wait } = this.#options;
    events.drain();
    return new GuestQueue(this.ram, {
      num: queueSize,
      eventIdx: hasBit(features, VIRTIO_RING_F_EVENT_IDX),
      indirectEntries: hasBit(features, VIRTIO_RING_F_INDIRECT_DESC) ? indirectEntries : 0,
      wait,
      failure: () => this.frontend.check(),
      events,
    });
  }
}

const connected = (socket: string | OwnedFd, options: FrontendOptions): VhostUserFrontend =>
  typeof socket === 'string'
    ? VhostUserFrontend.connect(socket, options)
    : new VhostUserFrontend(socket, options);

const shared = (queue: GuestQueue): SharedQueue => {
  const { num, descGpa, availGpa, usedGpa } = queue.driver;
  return {
    num,
    descGpa: BigInt(descGpa),
    availGpa: BigInt(availGpa),
    usedGpa: BigInt(usedGpa),
    kickFd: queue.kickFd,
    callFd: queue.callFd,
    usedIndex: () => queue.usedIndex,
  };
};
