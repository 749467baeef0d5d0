/**
 * A device whose back-end is another process: the sequences in which QEMU speaks to it, and the memory table that goes along.
 *
 *     connect ──▶ stopped ── start ──▶ started      memory changes: sent while started; else at the next start, as a difference
 *                    ▲                    │
 *                    └────── stop ────────┘         reset: after stop; the memory table stays
 *
 * Queues and their descriptors are the caller's. A back-end that is gone stays gone: the operation that notices throws, later memory
 * changes succeed without it, and `failure` says why.
 */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import {
  ProtocolFeature,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from '../../protocol/vhost-user.ts';
import { VirtioStatus } from '../../protocol/virtio.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { socketPair } from '../host/unix-socket.ts';
import type { VhostUserFrontend } from './frontend.ts';
import { createDirtyLog, type DirtyLog } from './frontend-dirty-log.ts';
import { FrontendMemoryTable } from './frontend-memory-table.ts';
import { negotiate } from './frontend-negotiation.ts';
import { FrontendVring, type SharedQueue, type VringNotifiers } from './frontend-vring.ts';
import { type RegionChange, VhostMemoryListener } from './memory-listener.ts';

/** Bits that are between front-end and back-end, whatever a driver says. */
const TRANSPORT_FEATURES = maskOf(VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES);

export interface DeviceFrontendOptions {
  readonly name: string;
  /** Per queue; how many there are is how many queues the device has. */
  readonly notifiers: readonly VringNotifiers[];
  /** Whether the back-end may send requests. Our end of their channel is then `backendChannel`, and has to be served. */
  readonly hasBackendChannel?: boolean;
  /** `qemu` only: a memory change that failed, and went on as if nothing were. */
  readonly onMemoryError?: (error: ProtocolError) => void;
}

/** What a guest's driver has decided. */
export interface DriverSetup {
  /** The features it accepts. */
  readonly features: bigint;
  readonly queues: readonly SharedQueue[];
  /** Where guest memory is in the user address space of the front-end; by default where the regions shared with the back-end are. */
  readonly userAddress?: (guestAddress: bigint, size: number) => bigint | undefined;
}

export class DeviceFrontend implements Disposable {
  readonly name: string;
  /** To be added to the address space the device does DMA in, once connected. */
  readonly listener: VhostMemoryListener;
  readonly table: FrontendMemoryTable;
  readonly #frontend: VhostUserFrontend;
  readonly #vrings: readonly FrontendVring[];
  readonly #hasBackendChannel: boolean;
  readonly #onMemoryError: ((error: ProtocolError) => void) | undefined;
  #features = 0n;
  #accepted = 0n;
  #isStarted = false;
  #log: DirtyLog | undefined;
  #backendChannel: OwnedFd | undefined;

  /** @param frontend connected; owned from here on */
  constructor(frontend: VhostUserFrontend, options: DeviceFrontendOptions) {
    this.name = options.name;
    this.#frontend = frontend;
    this.#hasBackendChannel = options.hasBackendChannel ?? false;
    this.#onMemoryError = options.onMemoryError;
    this.#vrings = options.notifiers.map((notifiers, index) => new FrontendVring(frontend, index, notifiers));
    this.table = new FrontendMemoryTable(frontend);
    this.listener = new VhostMemoryListener(options.name, (change) => this.#memoryChanged(change));
  }

  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** Device features the back-end offers. */
  get features(): bigint {
    return this.#features;
  }

  /** Entries of the back-end's memory table. */
  get limit(): number {
    return this.table.limit;
  }

  /** Entries that guest memory takes now, whether or not the back-end has been told. */
  get used(): number {
    return this.table.wanted;
  }

  /** Why the connection was given up; undefined as long as it was not. */
  get failure(): ProtocolError | undefined {
    return this.#frontend.failure;
  }

  /** Our end of the channel for the back-end's requests; lent. */
  get backendChannel(): number | undefined {
    return this.#backendChannel?.fd;
  }

  /**
   * INIT: features, protocol features, limits, and who is called while nobody serves the queues.
   *
   * @throws {ProtocolError} what `negotiate` throws
   */
  connect(): void {
    const queues = this.#vrings.length;
    if (this.#hasBackendChannel) {
      const [ours, theirs] = socketPair();
      using channel = theirs;
      this.#backendChannel = ours;
      this.#negotiated(negotiate(this.#frontend, { queues, backendChannel: channel.fd }));
    } else this.#negotiated(negotiate(this.#frontend, { queues }));
    for (const vring of this.#vrings) vring.connect();
  }

  /**
   * START: the driver is ready, or the machine runs on. Sends what has changed of memory since the last time.
   *
   * @throws {ProtocolError} what the back-end refused, or why it is gone; the device is stopped then, and can be started again unless it is
   *   gone. UNMAPPED if a queue is not in shared memory
   */
  start(setup: DriverSetup): void {
    const { features, queues, userAddress = (at, size) => this.userAddress(at, size) } = setup;
    if (this.#isStarted) throw new ProtocolError('BAD_STATE', `${this.name}: started already`);
    if (queues.length !== this.#vrings.length)
      throw new RangeError(`${queues.length} queues, the device has ${this.#vrings.length}`);
    this.#accepted =
      this.#features & ((features & ~TRANSPORT_FEATURES) | maskOf(VHOST_USER_F_PROTOCOL_FEATURES));
    const pairs = queues.map((queue, index) => ({ queue, vring: this.#vrings[index]! }));
    let begun = 0;
    try {
      for (const { vring, queue } of pairs) vring.unmask(queue);
      this.#sendFeatures();
      if (this.#frontend.hasProtocolFeature(ProtocolFeature.STATUS))
        this.#frontend.setStatus(this.#frontend.getStatus() | VirtioStatus.FEATURES_OK);
      this.table.start();
      for (const { vring, queue } of pairs) {
        vring.setUp(queue, userAddress, this.#log !== undefined);
        begun += 1;
      }
      this.#log?.share(this.#frontend);
      if (this.#canEnable) for (const { vring } of pairs) vring.enable(true);
      for (const { vring, queue } of pairs) vring.unmask(queue);
      this.#isStarted = true;
    } catch (error) {
      this.#unwind(begun);
      throw error;
    }
  }

  /**
   * STOP: the machine stops, or the driver has gone. Every queue is stopped as far as the back-end allows.
   *
   * @throws {ProtocolError} the first thing the back-end refused, or why it is gone; the device is stopped all the same
   */
  stop(): void {
    if (!this.#isStarted) return;
    this.#isStarted = false;
    if (this.failure !== undefined) {
      for (const vring of this.#vrings) vring.abandon();
      return;
    }
    const attempt = new Attempts();
    if (this.#canEnable) for (const vring of this.#vrings) attempt.run(() => vring.enable(false));
    for (const vring of this.#vrings) attempt.run(() => vring.takeBack());
    for (const vring of this.#vrings) attempt.run(() => vring.mask());
    attempt.finish();
  }

  /** RESET: of the virtio device, by its driver or the machine. The back-end keeps its memory table; queues begin anew. */
  reset(): void {
    const attempt = new Attempts();
    attempt.run(() => this.stop());
    for (const vring of this.#vrings) vring.reset();
    if (this.failure === undefined && this.#frontend.hasProtocolFeature(ProtocolFeature.RESET_DEVICE))
      attempt.run(() => this.#frontend.resetDevice());
    attempt.finish();
  }

  /**
   * From here on the back-end notes where it writes.
   *
   * @throws {ProtocolError} NOT_SUPPORTED; what the front-end throws
   */
  startLog(): DirtyLog {
    if (
      !hasBit(this.#features, VHOST_F_LOG_ALL) ||
      !this.#frontend.hasProtocolFeature(ProtocolFeature.LOG_SHMFD)
    )
      throw new ProtocolError('NOT_SUPPORTED', `${this.name}: the back-end cannot log its writes`);
    this.#log ??= createDirtyLog(this.listener.regions);
    if (this.#isStarted) {
      this.#log.share(this.#frontend);
      this.#sendFeatures();
      for (const vring of this.#vrings) vring.sendAddress(true);
    }
    return this.#log;
  }

  stopLog(): void {
    if (this.#log === undefined) return;
    this.#log.close();
    this.#log = undefined;
    if (!this.#isStarted) return;
    this.#sendFeatures();
    for (const vring of this.#vrings) vring.sendAddress(false);
  }

  /**
   * The back-end writes its state to a pipe, or reads it from one, while the device is stopped; `finishState` says whether all went well.
   *
   * @param fd borrowed
   * @throws {ProtocolError} REFUSED, NOT_SUPPORTED
   */
  transferState(direction: 'save' | 'load', fd: number): void {
    this.#frontend.setDeviceStateFd(direction, fd);
  }

  /** Asks whether the state was transferred, after the pipe has come to its end. @throws {ProtocolError} REFUSED */
  finishState(): void {
    this.#frontend.checkDeviceState();
  }

  /** Where `size` bytes at a guest address are in the user address space; undefined if no region shared with the back-end holds them. */
  userAddress(guestAddress: bigint, size: number): bigint | undefined {
    const region = this.listener.regionAt(guestAddress);
    if (region === undefined || guestAddress + BigInt(size) > region.start + region.size) return undefined;
    const base = region.section.region.block?.hostAddress;
    return base === undefined ? undefined : base + region.offset + (guestAddress - region.start);
  }

  /** CLEANUP: closes the connection. The listener is to be removed, too. Idempotent. */
  close(): void {
    this.#isStarted = false;
    this.#backendChannel?.close();
    this.#log?.close();
    this.#frontend.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #negotiated({
    features,
    memslotLimit,
  }: {
    readonly features: bigint;
    readonly memslotLimit: number;
  }): void {
    this.#features = features;
    this.table.limit = memslotLimit;
  }

  /** Without protocol features a ring is enabled as soon as it is started. vhost-user spec § Ring states. */
  get #canEnable(): boolean {
    return hasBit(this.#accepted, VHOST_USER_F_PROTOCOL_FEATURES);
  }

  #sendFeatures(): void {
    const log = this.#log === undefined ? 0n : maskOf(VHOST_F_LOG_ALL);
    this.#frontend.setFeatures(this.#accepted | log);
  }

  #memoryChanged(change: RegionChange): void {
    this.table.note(change);
    if (!this.#isStarted || this.failure !== undefined) return;
    try {
      this.table.update();
    } catch (error) {
      if (this.#frontend.mode === 'strict' || !(error instanceof ProtocolError)) throw error;
      this.#onMemoryError?.(error);
    }
  }

  /** A start that failed: takes back, last first, the queues that were `begun`. What it meets does not count: the failure is known. */
  #unwind(begun: number): void {
    if (this.failure !== undefined) return;
    const attempt = new Attempts();
    for (const vring of this.#vrings.slice(0, begun).toReversed()) attempt.run(() => vring.takeBack());
    for (const vring of this.#vrings) attempt.run(() => vring.mask());
  }
}

/** Steps that are all taken, whatever becomes of each. */
class Attempts {
  #failure: unknown;

  run(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#failure ??= error;
    }
  }

  /** @throws the first failure */
  finish(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
