/**
 * A device whose back-end is another process: the sequences in which a machine speaks to it, and the memory table that goes along.
 *
 *     connect ──▶ stopped ── start ──▶ started      memory changes: sent while started; else at the next start, as a difference
 *                    ▲                    │
 *                    └────── stop ────────┘         reset: after stop; the memory table stays
 *
 * Queues and their descriptors are the caller's. When a back-end has gone, the operation that notices throws, later memory changes succeed
 * without it, and `failure` says why; `reconnect` goes on with another, where the guest's driver left off.
 */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import {
  ProtocolFeature,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import { Attempts } from './attempts.ts';
import type { VhostUserFrontend } from './frontend.ts';
import type { DeviceFrontendOptions, DriverSetup } from './frontend-device-options.ts';
import { type Dialect, DIALECTS, type Session } from './frontend-dialect.ts';
import { DirtyLog } from './frontend-dirty-log.ts';
import { InflightBuffer } from './frontend-inflight.ts';
import { FrontendMemoryTable } from './frontend-memory-table.ts';
import { assertNotLess, type Negotiated } from './frontend-negotiation.ts';
import { BackendRequestChannel, featuresServed } from './frontend-requests.ts';
import { FrontendVring } from './frontend-vring.ts';
import { type RegionChange, VhostMemoryListener } from './memory-listener.ts';

/** Bits that are between front-end and back-end, whatever a driver says. */
const TRANSPORT_FEATURES = maskOf(VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES);

export class DeviceFrontend implements Disposable {
  readonly name: string;
  /** To be added to the address space the device does DMA in, once connected. */
  readonly listener: VhostMemoryListener;
  readonly table: FrontendMemoryTable;
  readonly #vrings: readonly FrontendVring[];
  readonly #options: DeviceFrontendOptions;
  readonly #dialect: Dialect;
  readonly #inflight = new InflightBuffer();
  readonly #channel: BackendRequestChannel;
  #frontend: VhostUserFrontend;
  #features = 0n;
  /** What the driver has accepted, as far as the back-end offers it. */
  #accepted = 0n;
  /** The driver's, as long as it wants the device started. */
  #setup: DriverSetup | undefined;
  #isStarted = false;
  /** Why the last attempt to reconnect came to nothing. */
  #failure: ProtocolError | undefined;
  #log: DirtyLog | undefined;

  /** @param frontend connected; owned from here on */
  constructor(frontend: VhostUserFrontend, options: DeviceFrontendOptions) {
    this.name = options.name;
    this.#frontend = frontend;
    this.#options = options;
    this.#dialect = DIALECTS[options.dialect ?? 'qemu'];
    this.#channel = new BackendRequestChannel(options.backendRequests ?? {});
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
    return this.#frontend.failure ?? this.#failure;
  }

  /** As `failure`, after a look at the connection: a back-end may have gone though nobody has asked it anything. Never waits. */
  check(): ProtocolError | undefined {
    if (this.failure === undefined) this.#frontend.check();
    return this.failure;
  }

  /** To wait on: when it can be read, requests of the back-end are to be served; lent. Undefined if there is no such channel, or no more. */
  get backendChannel(): number | undefined {
    return this.#channel.server?.fd;
  }

  /** Why we closed that channel; the device keeps working without it. */
  get backendChannelFailure(): ProtocolError | undefined {
    return this.#channel.server?.failure;
  }

  /**
   * Serves what the back-end has asked for. Never waits, never throws on what a back-end sends. It is also done whenever an answer is waited for.
   *
   * @returns milliseconds after which to call again, even if nothing can be read: 0 there is more, −1 any time will do
   */
  serveBackendRequests(): number {
    return this.#channel.server?.serve() ?? -1;
  }

  /**
   * INIT: features, protocol features, limits, and who is called while nobody serves the queues.
   *
   * @throws {ProtocolError} what `negotiate` throws
   */
  connect(): void {
    const { features, memslotLimit } = this.#negotiate(this.#frontend);
    this.#features = features;
    this.table.limit = memslotLimit;
    this.#dialect.connected(this.#session);
  }

  /**
   * RECONNECT: the back-end has died, or is given up for another: negotiates anew, and if the device was started sends everything again, memory, log
   * and queues, which go on where the back-end stopped them, or else where their used rings end.
   *
   * @param frontend connected to the new one; owned from here on
   * @throws {ProtocolError} NOT_SUPPORTED: a feature in use is no longer offered; SLOT_LIMIT: the limit is lower than it was. What `connect`
   *   and `start` throw. There is no connection then; another attempt may follow
   */
  reconnect(frontend: VhostUserFrontend): void {
    const setup = this.#setup;
    if (this.#isStarted) new Attempts().run(() => this.stop());
    this.#disconnect();
    this.#setup = setup;
    const { limit } = this;
    this.#frontend = frontend;
    try {
      const now = this.#negotiate(frontend);
      const { features, memslotLimit } = now;
      assertNotLess(this.name, { features: this.#accepted, memslotLimit: limit }, now);
      if (this.#log !== undefined) this.#requireLog(features);
      this.#features = features;
      this.#failure = undefined;
      this.table.reconnect(frontend, memslotLimit);
      for (const vring of this.#vrings) vring.reconnect(frontend);
      this.#dialect.connected(this.#session);
      if (setup !== undefined) this.start(setup);
    } catch (error) {
      this.#disconnect();
      this.table.reconnect(frontend, limit);
      this.#setup = setup;
      if (error instanceof ProtocolError) this.#failure = error;
      throw error;
    }
  }

  /**
   * START: the driver is ready, or the machine runs on. Sends what has changed of memory since the last time.
   *
   * @throws {ProtocolError} what the back-end refused, or why it is gone; the device is stopped then, and can be started again unless it is
   *   gone. UNMAPPED if a queue is not in shared memory
   */
  start(setup: DriverSetup): void {
    const { features, queues, bases, userAddress = (at, size) => this.userAddress(at, size) } = setup;
    if (this.#isStarted) throw new ProtocolError('BAD_STATE', `${this.name}: started already`);
    if (this.failure !== undefined)
      throw new ProtocolError('CLOSED', `${this.name}: there is no connection`, { cause: this.failure });
    if (queues.length !== this.#vrings.length)
      throw new RangeError(`${queues.length} queues, the device has ${this.#vrings.length}`);
    this.#accepted =
      this.#features & ((features & ~TRANSPORT_FEATURES) | maskOf(VHOST_USER_F_PROTOCOL_FEATURES));
    bases?.forEach((base, index) => this.#vrings[index]?.moveTo(base));
    const most = Math.max(0, ...queues.map(({ num }) => num));
    try {
      this.#log?.restart(this.listener.end);
      this.#dialect.start(this.#session, {
        queues,
        userAddress,
        isLogged: this.#log !== undefined,
        sendFeatures: () => this.#sendFeatures(),
        shareInflight: () => this.#inflight.share(this.#frontend, queues.length, most),
        shareLog: () => this.#log?.share(this.#frontend),
      });
      this.#channel.sent();
      this.#isStarted = true;
      this.#setup = { features, queues, userAddress };
    } catch (error) {
      this.#setup = undefined;
      this.#unwind();
      throw error;
    }
  }

  /**
   * STOP: the machine stops, or the driver has gone. Every queue is stopped as far as the back-end allows.
   *
   * @throws {ProtocolError} the first thing the back-end refused, or why it is gone; the device is stopped all the same
   */
  stop(): void {
    this.#setup = undefined;
    if (!this.#isStarted) return;
    this.#isStarted = false;
    if (this.failure !== undefined) {
      for (const vring of this.#vrings) vring.abandon();
      return;
    }
    const attempt = new Attempts();
    if (this.#canEnable) for (const vring of this.#vrings) attempt.run(() => vring.enable(false));
    for (const vring of this.#vrings) attempt.run(() => vring.takeBack());
    this.#dialect.stopped(this.#session, attempt);
    attempt.finish();
  }

  /** RESET: of the virtio device, by its driver or the machine. The back-end keeps its memory table; queues begin anew. */
  reset(): void {
    const attempt = new Attempts();
    attempt.run(() => this.stop());
    for (const vring of this.#vrings) vring.reset();
    this.#inflight.close();
    this.#accepted = 0n;
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
    this.#requireLog(this.#features);
    this.#log ??= new DirtyLog(this.listener.end);
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
    return this.listener.userAddress(guestAddress, size);
  }

  /** CLEANUP: closes the connection. The listener is to be removed, too. Idempotent. */
  close(): void {
    this.#setup = undefined;
    this.#disconnect();
    this.#inflight.close();
    this.#log?.close();
    this.#log = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  get #session(): Session {
    return {
      frontend: this.#frontend,
      vrings: this.#vrings,
      table: this.table,
      canEnable: this.#canEnable,
      backendChannel: this.#channel.unsent,
    };
  }

  #negotiate(frontend: VhostUserFrontend): Negotiated {
    const { backendRequests, hasBackendChannel = backendRequests !== undefined } = this.#options;
    const queues = this.#vrings.length;
    if (!hasBackendChannel) return this.#dialect.negotiate(frontend, { queues });
    const backendChannel = this.#channel.open(frontend);
    const served = featuresServed(backendRequests ?? {});
    const agreed = this.#dialect.negotiate(frontend, { queues, backendChannel, served });
    if (!this.#dialect.sendsChannelAtStart) this.#channel.sent();
    return agreed;
  }

  /** @throws {ProtocolError} NOT_SUPPORTED */
  #requireLog(features: bigint): void {
    if (!hasBit(features, VHOST_F_LOG_ALL) || !this.#frontend.hasProtocolFeature(ProtocolFeature.LOG_SHMFD))
      throw new ProtocolError('NOT_SUPPORTED', `${this.name}: the back-end cannot log its writes`);
  }

  #disconnect(): void {
    this.#isStarted = false;
    this.#channel.close();
    this.#frontend.close();
  }

  /** Without protocol features a ring is enabled as soon as it is started. vhost-user spec § Ring states. */
  get #canEnable(): boolean {
    return hasBit(this.#accepted, VHOST_USER_F_PROTOCOL_FEATURES);
  }

  #sendFeatures(): void {
    const log = this.#log === undefined ? 0n : maskOf(VHOST_F_LOG_ALL);
    this.#frontend.setFeatures(this.#accepted | log);
    this.#dialect.featuresSent(this.#frontend);
  }

  /** A larger log before there is more memory, a smaller one after there is less. */
  #memoryChanged(change: RegionChange): void {
    this.table.note(change);
    if (!this.#isStarted || this.failure !== undefined) return;
    const tell = (): void => this.#log?.share(this.#frontend);
    try {
      this.#log?.growFor(this.listener.end, tell);
      this.table.update();
      this.#log?.shrinkTo(this.listener.end, tell);
    } catch (error) {
      if (this.#frontend.mode === 'strict' || !(error instanceof ProtocolError)) throw error;
      this.#options.onMemoryError?.(error);
    }
  }

  /** A start that failed: takes back, last first, the queues that were begun. What it meets does not count: the failure is known. */
  #unwind(): void {
    if (this.failure !== undefined) return;
    const attempts = new Attempts();
    for (const vring of this.#vrings.toReversed()) if (vring.isSetUp) attempts.run(() => vring.takeBack());
    this.#dialect.stopped(this.#session, attempts);
  }
}
