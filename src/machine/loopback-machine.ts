/**
 * A virtual machine without processors, as a vhost-user file system back-end sees it: RAM, a front-end, and the driver
 * side of each queue. Everything is synchronous: a method returns when the back-end has answered.
 */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../protocol/virtio-ring.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import { ProtocolError } from '../errors.ts';
import { Cleanup, type OwnedFd } from '../host/owned-fd.ts';
import { VhostUserFrontend } from '../vhost/frontend.ts';
import type { FrontendOptions } from '../vhost/frontend-channel.ts';
import { GuestQueue } from './guest-queue.ts';
import { GuestRam, type RamLayout } from './guest-ram.ts';

export interface LoopbackOptions extends RamLayout, FrontendOptions {
  /** Where the back-end listens, or a socket connected to it, which the machine then owns. */
  readonly socket: string | OwnedFd;
  /** Queues beside hiprio. */
  readonly requestQueues?: number;
  /** Entries of each queue. */
  readonly queueSize?: number;
  /** Descriptors an indirect table may have; 0 for none. */
  readonly indirectEntries?: number;
  readonly eventIdx?: boolean;
  /** Feature bits of the device to accept, if it offers them. */
  readonly deviceFeatures?: readonly number[];
  /** What to negotiate of what the back-end offers. Without CONFIGURE_MEM_SLOTS, SET_MEM_TABLE tells the memory. */
  readonly protocolFeatures?: readonly ProtocolFeature[];
}

/** Memory slots without CONFIGURE_MEM_SLOTS. vhost-user spec § Memory regions description. */
const BASELINE_SLOTS = 8;
/** What we can make use of. */
const WANTED_PROTOCOL_FEATURES = [
  ProtocolFeature.MQ,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
] as const;

export class LoopbackMachine implements Disposable {
  readonly frontend: VhostUserFrontend;
  readonly ram: GuestRam;
  /** Queue 0 is hiprio. */
  readonly queues: readonly GuestQueue[];
  /** Memory slots the back-end says it has, the base region's included. */
  readonly slotLimit: number;
  readonly #features: bigint;
  readonly #plugged = new Set<number>();
  readonly #owned: Cleanup;

  private constructor(owned: Cleanup, options: LoopbackOptions) {
    const { requestQueues = 1, queueSize = 256, indirectEntries = 0, eventIdx = true } = options;
    this.#owned = owned;
    this.frontend = owned.use(connect(options));
    this.ram = owned.use(new GuestRam(options));
    const offered = this.frontend.getFeatures();
    this.slotLimit = this.#negotiateProtocol(offered, options);
    this.#features =
      offered &
      maskOf(
        VirtioFeature.VERSION_1,
        VHOST_USER_F_PROTOCOL_FEATURES,
        ...(options.deviceFeatures ?? []),
        ...(eventIdx ? [VIRTIO_RING_F_EVENT_IDX] : []),
        ...(indirectEntries > 0 ? [VIRTIO_RING_F_INDIRECT_DESC] : []),
      );
    const queue = {
      num: queueSize,
      eventIdx: hasBit(this.#features, VIRTIO_RING_F_EVENT_IDX),
      indirectEntries: hasBit(this.#features, VIRTIO_RING_F_INDIRECT_DESC) ? indirectEntries : 0,
      ...(options.wait === undefined ? {} : { wait: options.wait }),
    };
    this.queues = Array.from({ length: requestQueues + 1 }, () => owned.use(new GuestQueue(this.ram, queue)));
  }

  /**
   * Connects to a back-end, shares the base region with it and starts the queues.
   *
   * @throws {ProtocolError} if the back-end is not there, or cannot do what a file system needs
   */
  static start(options: LoopbackOptions): LoopbackMachine {
    using undo = new Cleanup();
    const owned = new Cleanup();
    undo.use(owned);
    const machine = new LoopbackMachine(owned, options);
    machine.#start();
    undo.keep();
    return machine;
  }

  /** Slots in the back-end's memory table, the base region not counted. */
  get pluggedSlots(): number {
    return this.#plugged.size;
  }

  isPlugged(slot: number): boolean {
    return this.#plugged.has(slot);
  }

  /**
   * Adds a slot to the back-end's memory table.
   *
   * @throws {ProtocolError} REFUSED if the back-end does not take it
   */
  plug(slot: number): void {
    if (this.frontend.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS))
      this.frontend.addMemReg(this.ram.slotRegion(slot), this.ram.fd);
    else this.#sendTable([...this.#plugged, slot]);
    this.#plugged.add(slot);
  }

  /** Removes a slot from the back-end's memory table. Requests with buffers in it fail from here on. */
  unplug(slot: number): void {
    if (this.frontend.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS))
      this.frontend.remMemReg(this.ram.slotRegion(slot));
    else this.#sendTable([...this.#plugged].filter((other) => other !== slot));
    this.#plugged.delete(slot);
  }

  /** Stops a queue and sets it up anew, empty: what a guest does to a device that needs a reset. */
  restartQueue(index: number): void {
    this.frontend.setVringEnable(index, false);
    this.frontend.getVringBase(index);
    this.queues[index]!.driver.reset();
    this.#startQueue(index);
    this.frontend.setVringEnable(index, true);
  }

  /** Stops the queues, as a guest's shutdown does. */
  stop(): void {
    this.queues.forEach((_, index) => this.frontend.setVringEnable(index, false));
    this.queues.forEach((_, index) => this.frontend.getVringBase(index));
  }

  /** Disconnects and gives the RAM back; no buffer of it may be touched any more. Idempotent. */
  close(): void {
    this.#owned[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @returns the slot limit */
  #negotiateProtocol(offered: bigint, options: LoopbackOptions): number {
    const { protocolFeatures = WANTED_PROTOCOL_FEATURES, requestQueues = 1 } = options;
    const queues = requestQueues + 1;
    if (!hasBit(offered, VHOST_USER_F_PROTOCOL_FEATURES)) return BASELINE_SLOTS;
    const { frontend } = this;
    frontend.setProtocolFeatures(frontend.getProtocolFeatures() & maskOf(...protocolFeatures));
    if (frontend.hasProtocolFeature(ProtocolFeature.MQ)) {
      const served = frontend.getQueueNum();
      if (served < queues)
        throw new ProtocolError('NOT_SUPPORTED', `the back-end has ${served} queues, wanted ${queues}`);
    }
    if (!frontend.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS)) return BASELINE_SLOTS;
    const limit = frontend.getMaxMemSlots();
    return limit > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(limit);
  }

  /** In the order of QEMU. */
  #start(): void {
    const { frontend, ram } = this;
    frontend.setOwner();
    this.queues.forEach((queue, index) => {
      frontend.setVringCall(index, queue.callFd);
      frontend.setVringErr(index, queue.errorFd);
    });
    frontend.setFeatures(this.#features);
    if (frontend.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS))
      frontend.addMemReg(ram.baseRegion, ram.fd);
    else this.#sendTable([]);
    this.queues.forEach((_, index) => this.#startQueue(index));
    this.queues.forEach((_, index) => frontend.setVringEnable(index, true));
  }

  #startQueue(index: number): void {
    const { frontend, ram } = this;
    const { driver, kickFd } = this.queues[index]!;
    frontend.setVringNum(index, driver.num);
    frontend.setVringBase(index, 0);
    frontend.setVringAddr({
      index,
      flags: 0,
      descUserAddr: ram.userAddress(driver.descGpa),
      availUserAddr: ram.userAddress(driver.availGpa),
      usedUserAddr: ram.userAddress(driver.usedGpa),
      logGuestAddr: BigInt(driver.usedGpa),
    });
    frontend.setVringKick(index, kickFd);
  }

  #sendTable(slots: readonly number[]): void {
    const regions = [this.ram.baseRegion, ...slots.map((slot) => this.ram.slotRegion(slot))];
    this.frontend.setMemTable(
      regions,
      regions.map(() => this.ram.fd),
    );
  }
}

const connect = (options: LoopbackOptions): VhostUserFrontend =>
  typeof options.socket === 'string'
    ? VhostUserFrontend.connect(options.socket, options)
    : new VhostUserFrontend(options.socket, options);
