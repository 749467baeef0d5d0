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
import type { Log } from '../log.ts';
import { BackendChannel } from './backend-channel.ts';
import type { VhostDevice } from './device.ts';
import type { Loop } from './kick-watch.ts';
import { Notifier } from './notifier.ts';
import { VringScheduler } from './vring-scheduler.ts';
import type { VringSurroundings } from './vring-surroundings.ts';
import { Vring } from './vring.ts';

interface Options {
  readonly device: VhostDevice;
  readonly loop: Loop;
  readonly memory: GuestMemory;
  readonly log: Log;
  readonly pollMicros: number;
}

export class BackendState {
  readonly device: VhostDevice;
  readonly log: Log;
  readonly memory: GuestMemory;
  readonly vrings: readonly Vring[];
  readonly scheduler: VringScheduler;
  readonly channel = new BackendChannel();
  /** Signalled when the dirty log has changed: SET_LOG_FD. */
  readonly logCall = new Notifier();
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
  readonly #ringFeatures = { eventIdx: false, indirect: false, isLogging: false };

  constructor({ device, loop, memory, log, pollMicros }: Options) {
    this.device = device;
    this.log = log;
    this.memory = memory;
    const { logCall } = this;
    const scheduler = new VringScheduler({
      device,
      memory,
      log,
      logCall,
      pollMicros,
      vringAt: (index) => this.vrings[index],
    });
    this.scheduler = scheduler;
    const surroundings: VringSurroundings = {
      memory,
      loop,
      log,
      maxQueueSize: device.maxQueueSize,
      ringFeatures: this.#ringFeatures,
      schedule: (vring) => scheduler.schedule(vring),
      reject: (vring, chain) => scheduler.reject(vring, chain),
    };
    this.vrings = Array.from({ length: device.queueCount }, (_, index) => new Vring(index, surroundings));
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
  vringAt(index: number): Vring {
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
    const ring = this.#ringFeatures;
    const eventIdx = hasBit(features, VIRTIO_RING_F_EVENT_IDX);
    const indirect = hasBit(features, VIRTIO_RING_F_INDIRECT_DESC);
    const isChanged = eventIdx !== ring.eventIdx || indirect !== ring.indirect;
    ring.eventIdx = eventIdx;
    ring.indirect = indirect;
    this.logChanged();
    for (const vring of this.vrings) {
      if (isChanged) vring.featuresChanged();
      this.#enableByDefault(vring);
    }
  }

  /** There is another log, or LOG_ALL has changed. */
  logChanged(): void {
    const isLogging = this.memory.isLogging && this.hasFeature(VHOST_F_LOG_ALL);
    this.#ringFeatures.isLogging = isLogging;
    this.scheduler.isLogging = isLogging;
    for (const vring of this.vrings) vring.logUsed();
  }

  /** After every change of the memory table. */
  memoryChanged(): void {
    for (const vring of this.vrings) vring.memoryChanged();
  }

  /** Answers what is in flight, then stops the ring. @returns its next avail index */
  stopVring(vring: Vring): number {
    this.scheduler.drain(vring);
    return vring.stop();
  }

  /** RESET_DEVICE. The memory table, call and err fds, and what was negotiated stay. */
  resetDevice(): void {
    for (const vring of this.vrings) {
      this.scheduler.drain(vring);
      vring.reset();
      if (this.#features !== 0n) this.#enableByDefault(vring);
    }
    this.status = 0;
    this.device.reset();
  }

  /** The session ends. Idempotent. */
  close(): void {
    for (const vring of this.vrings) {
      this.scheduler.drain(vring);
      vring.close();
    }
    this.device.reset();
    this.memory.clear();
    this.memory.clearLog();
    this.channel.close();
    this.logCall.close();
  }

  /** Without PROTOCOL_FEATURES there is no SET_VRING_ENABLE: rings are enabled from the start. */
  #enableByDefault(vring: Vring): void {
    if (!this.hasFeature(VHOST_USER_F_PROTOCOL_FEATURES)) vring.setEnabled(true);
  }
}
