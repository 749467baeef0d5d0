/** What one session of the back-end knows: negotiated features, memory table, rings. The request handlers work on it. */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../protocol/virtio-ring.ts';
import {
  ProtocolFeature,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import type { GuestMemory } from '../guest-memory/guest-memory.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import type { Log } from '../log.ts';
import { BackendChannel } from './backend-channel.ts';
import type { VhostDevice } from './device.ts';
import type { Loop } from './kick-watch.ts';
import { Notifier } from './notifier.ts';
import type { QueueThreads } from './queue-threads.ts';
import type { RingControl } from './ring-control.ts';
import { RingSet } from './ring-set.ts';

interface Options {
  readonly device: VhostDevice;
  readonly loop: Loop;
  readonly memory: GuestMemory;
  readonly log: Log;
  readonly pollMicros: number;
  readonly queueThreads?: QueueThreads | undefined;
}

export class BackendState {
  readonly device: VhostDevice;
  readonly log: Log;
  readonly memory: GuestMemory;
  /** Of all queues, whoever serves them. */
  readonly vrings: readonly RingControl[];
  readonly channel = new BackendChannel();
  readonly offeredFeatures: bigint;
  readonly offeredProtocolFeatures: bigint;
  /** Device status byte as the front-end last set it. */
  status = 0;
  /**
   * NEED_REPLY is answered. Also if SET_PROTOCOL_FEATURES with REPLY_ACK was refused: the front-end will wait.
   */
  acknowledges = false;

  #features = 0n;
  #protocolFeatures = 0n;
  /** The rings served by this thread. */
  readonly #rings: RingSet;
  readonly #queueThreads: QueueThreads | undefined;
  /** Signalled when the dirty log has changed: SET_LOG_FD. */
  readonly #logCall = new Notifier();

  /** @throws {ProtocolError} SYSTEM if the device cannot be watched */
  constructor({ device, loop, memory, log, pollMicros, queueThreads }: Options) {
    this.device = device;
    this.log = log;
    this.memory = memory;
    this.#queueThreads = queueThreads;
    const queues = Array.from({ length: device.queueCount }, (_, index) => index);
    const remote = queues.map((index) => queueThreads?.ringOf(index));
    this.#rings = new RingSet({
      device,
      loop,
      memory,
      log,
      pollMicros,
      logCall: this.#logCall,
      indexes: queues.filter((index) => remote[index] === undefined),
      isWanted: queueThreads && (() => queueThreads.isWanted),
    });
    this.vrings = queues.map((index) => remote[index] ?? this.#rings.at(index)!);
    this.offeredFeatures =
      device.features |
      maskOf(
        VirtioFeature.VERSION_1,
        VIRTIO_RING_F_INDIRECT_DESC,
        VIRTIO_RING_F_EVENT_IDX,
        VHOST_USER_F_PROTOCOL_FEATURES,
        VHOST_F_LOG_ALL,
      );
    this.offeredProtocolFeatures = maskOf(
      ProtocolFeature.MQ,
      ProtocolFeature.LOG_SHMFD,
      ProtocolFeature.REPLY_ACK,
      ProtocolFeature.BACKEND_REQ,
      ProtocolFeature.BACKEND_SEND_FD,
      ProtocolFeature.RESET_DEVICE,
      ProtocolFeature.CONFIGURE_MEM_SLOTS,
      ProtocolFeature.STATUS,
      ...(device.readConfig === undefined ? [] : [ProtocolFeature.CONFIG]),
    );
  }

  /** @throws {ProtocolError} BAD_VALUE */
  vringAt(index: number): RingControl {
    const vring = this.vrings[index];
    if (vring === undefined)
      throw new ProtocolError('BAD_VALUE', `ring ${index}, allowed 0..${this.vrings.length - 1}`);
    return vring;
  }

  hasFeature(bit: number): boolean {
    return hasBit(this.#features, bit);
  }

  hasProtocolFeature(bit: number): boolean {
    return hasBit(this.#protocolFeatures, bit);
  }

  /** The caller has checked that all of them were offered. */
  setProtocolFeatures(features: bigint): void {
    this.#protocolFeatures = features;
  }

  /** The caller has checked that all of them were offered. */
  setFeatures(features: bigint): void {
    this.#features = features;
    this.#configureRings();
    for (const vring of this.vrings) this.#enableByDefault(vring);
  }

  /** There is another log. */
  logChanged(): void {
    this.#configureRings();
  }

  /** @param fd owned from here on */
  setLogCall(fd: OwnedFd): void {
    const replaced = this.#logCall.release();
    this.#logCall.replace(fd);
    this.#configureRings();
    replaced?.close(); // not before: other threads may be signalling it
  }

  /** Before regions go: waits until the kernel has finished with guest memory. */
  settle(): void {
    this.#rings.settle();
  }

  /** After every change of the memory table. */
  memoryChanged(): void {
    this.#rings.memoryChanged();
    this.#queueThreads?.memoryChanged(this.memory);
  }

  /** Serves the rings of this thread. See `RingSet.run`. */
  run(): number {
    this.#queueThreads?.enter();
    const wait = this.#rings.run();
    this.#queueThreads?.leave();
    return wait;
  }

  /** RESET_DEVICE. The memory table, call and err fds, and what was negotiated stay. */
  resetDevice(): void {
    for (const vring of this.vrings) {
      vring.reset();
      if (this.#features !== 0n) this.#enableByDefault(vring);
    }
    this.status = 0;
    this.device.reset();
  }

  /** The session ends. Idempotent. */
  close(): void {
    for (const vring of this.vrings) vring.close();
    this.#rings.close();
    this.device.reset();
    this.memory.clear();
    this.memory.clearLog();
    this.channel.close();
    const logCall = this.#logCall.release();
    this.#features = 0n;
    this.#configureRings();
    logCall?.close();
  }

  #configureRings(): void {
    const features = {
      eventIdx: this.hasFeature(VIRTIO_RING_F_EVENT_IDX),
      indirect: this.hasFeature(VIRTIO_RING_F_INDIRECT_DESC),
      isLogging: this.memory.isLogging && this.hasFeature(VHOST_F_LOG_ALL),
    };
    this.#rings.configure(features);
    this.#queueThreads?.configure(features, this.#logCall.fd);
  }

  /** Without PROTOCOL_FEATURES there is no SET_VRING_ENABLE: rings are enabled from the start. */
  #enableByDefault(vring: RingControl): void {
    if (!this.hasFeature(VHOST_USER_F_PROTOCOL_FEATURES)) vring.setEnabled(true);
  }
}
