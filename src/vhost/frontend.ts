/**
 * The front-end's end of a vhost-user connection: one method per request, each waiting for its answer. Requests of postcopy migration, of
 * cryptography and of displays have none: their payloads are not looked into here.
 *
 * The exchange is strictly synchronous, as QEMU's. Every method may throw what `FrontendChannel` does: TIMEOUT, CLOSED, an
 * answer that is none. The class keeps what was negotiated and nothing else: memory table and rings are the caller's.
 */
import { errnoName } from '../../protocol/errno.ts';
import { hasBit } from '../../protocol/bits.ts';
import {
  type FrontendRequestName,
  ProtocolFeature,
  VHOST_F_LOG_ALL,
  VHOST_USER_STATE_NOFD_MASK,
  VHOST_USER_VRING_NOFD_MASK,
  VHOST_VRING_F_LOG,
} from '../../protocol/vhost-user.ts';
import type {
  ConfigAccess,
  Inflight,
  Iotlb,
  MemoryRegionDescription,
  PayloadValue,
  VringAddr,
} from '../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R, type RequestRow } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import {
  type Attended,
  FrontendChannel,
  type FrontendMode,
  type FrontendOptions,
} from './frontend-channel.ts';

export class VhostUserFrontend implements Disposable {
  readonly mode: FrontendMode;
  readonly #channel: FrontendChannel;
  #protocolFeatures = 0n;
  #acknowledgesAll = false;

  /** @param socket connected to a back-end; owned from here on */
  constructor(socket: OwnedFd, options: FrontendOptions = {}) {
    this.mode = options.mode ?? 'strict';
    this.#channel = new FrontendChannel(socket, options);
  }

  /** @throws {ProtocolError} SYSTEM if nobody listens at `path` */
  static connect(path: string, options: FrontendOptions = {}): VhostUserFrontend {
    const fd = connectUnix(path);
    if (fd < 0) throw new ProtocolError('SYSTEM', `connect to ${path}: ${errnoName(-fd)}`);
    return new VhostUserFrontend(new OwnedFd(fd), options);
  }

  /** Why the connection was given up; undefined as long as it was not. */
  get failure(): ProtocolError | undefined {
    return this.#channel.failure;
  }

  /** Looks, without waiting, whether the back-end has closed the connection; it is given up then. @returns `failure` */
  check(): ProtocolError | undefined {
    return this.#channel.check();
  }

  /** Whether the feature was negotiated by `setProtocolFeatures`. */
  hasProtocolFeature(feature: ProtocolFeature): boolean {
    return hasBit(this.#protocolFeatures, feature);
  }

  /** From now on every request without an answer of its own is acknowledged, if REPLY_ACK is negotiated: slower, but nothing fails unseen. */
  acknowledgeAll(): void {
    this.#acknowledgesAll = true;
  }

  /** From now on `attended` is served whenever an answer is waited for; it must not make requests itself: BAD_STATE. */
  attend(attended: Attended | undefined): void {
    this.#channel.attend(attended);
  }

  // Negotiation. Sections are those of the vhost-user specification.

  /** GET_FEATURES (spec § Front-end message types). */
  getFeatures(): bigint {
    return this.#channel.ask(R.GET_FEATURES, undefined);
  }

  /** SET_FEATURES (spec § Front-end message types). Returns when it is done if it makes the back-end log its writes. */
  setFeatures(features: bigint): void {
    if (hasBit(features, VHOST_F_LOG_ALL)) this.#tellAcknowledged(R.SET_FEATURES, features);
    else this.#tell(R.SET_FEATURES, features);
  }

  /** GET_PROTOCOL_FEATURES (spec § Protocol features). */
  getProtocolFeatures(): bigint {
    return this.#channel.ask(R.GET_PROTOCOL_FEATURES, undefined);
  }

  /** SET_PROTOCOL_FEATURES (spec § Protocol features). What is negotiated here decides whether later requests are acknowledged. */
  setProtocolFeatures(features: bigint): void {
    this.#tell(R.SET_PROTOCOL_FEATURES, features);
    this.#protocolFeatures = features;
  }

  /** GET_QUEUE_NUM (spec § Multiple queue support); needs MQ. */
  getQueueNum(): number {
    return Number(this.#channel.ask(R.GET_QUEUE_NUM, undefined));
  }

  /** SET_OWNER (spec § Front-end message types). */
  setOwner(): void {
    this.#tell(R.SET_OWNER, undefined);
  }

  /** RESET_OWNER (spec § Front-end message types): deprecated; some back-ends take it for a reset, others ignore it. */
  resetOwner(): void {
    this.#tell(R.RESET_OWNER, undefined);
  }

  /** RESET_DEVICE (spec § Front-end message types); needs RESET_DEVICE. The memory table stays. */
  resetDevice(): void {
    this.#tell(R.RESET_DEVICE, undefined);
  }

  /** GET_STATUS (spec § Front-end message types); needs STATUS. */
  getStatus(): number {
    return Number(this.#channel.ask(R.GET_STATUS, undefined));
  }

  /** SET_STATUS (spec § Front-end message types); needs STATUS. */
  setStatus(status: number): void {
    this.#tell(R.SET_STATUS, BigInt(status));
  }

  // Memory.

  /** GET_MAX_MEM_SLOTS (spec § Front-end message types); needs CONFIGURE_MEM_SLOTS. */
  getMaxMemSlots(): bigint {
    return this.#channel.ask(R.GET_MAX_MEM_SLOTS, undefined);
  }

  /** ADD_MEM_REG (spec § Single memory region description); needs CONFIGURE_MEM_SLOTS. @param fd borrowed */
  addMemReg(region: MemoryRegionDescription, fd: number): void {
    this.#tellMemory(R.ADD_MEM_REG, { padding: 0n, region }, [fd]);
  }

  /** REM_MEM_REG (spec § Single memory region description); needs CONFIGURE_MEM_SLOTS. */
  remMemReg(region: MemoryRegionDescription): void {
    this.#tellMemory(R.REM_MEM_REG, { padding: 0n, region: { ...region, mmapOffset: 0n } });
  }

  /** SET_MEM_TABLE (spec § Multiple memory regions description). @param fds borrowed, one per region */
  setMemTable(regions: readonly MemoryRegionDescription[], fds: readonly number[]): void {
    this.#tellMemory(R.SET_MEM_TABLE, { padding: 0, regions }, fds);
  }

  /** SET_LOG_BASE (spec § Migration); needs LOG_SHMFD. @param fd borrowed */
  setLogBase(log: { readonly mmapSize: bigint; readonly mmapOffset: bigint }, fd: number): void {
    this.#tell(R.SET_LOG_BASE, log, [fd]);
    this.#channel.receive('SET_LOG_BASE'); // always answered, by each back-end in its own way
  }

  /** SET_LOG_FD (spec § Migration): an eventfd to signal when the log has been written to. @param fd borrowed */
  setLogFd(fd: number): void {
    this.#tell(R.SET_LOG_FD, undefined, [fd]);
  }

  /** IOTLB_MSG (spec § IOTLB message); needs VIRTIO_F_ACCESS_PLATFORM. @throws {ProtocolError} REFUSED */
  iotlb(message: PayloadValue<typeof Iotlb>): void {
    const answer = this.#channel.ask(R.IOTLB_MSG, message);
    if (answer !== 0n) throw new ProtocolError('REFUSED', `IOTLB_MSG: the back-end answered ${answer}`);
  }

  /** GET_SHMEM_CONFIG (spec § Front-end message types); needs SHMEM. @returns bytes of each shared memory region, by its id */
  getShmemConfig(): readonly bigint[] {
    return this.#channel.ask(R.GET_SHMEM_CONFIG, undefined).memorySizes;
  }

  /** GET_SHARED_OBJECT (spec § Front-end message types); needs SHARED_OBJECT. @returns its descriptor, which is the caller's, if there is one */
  getSharedObject(uuid: Uint8Array): OwnedFd | undefined {
    return this.#channel.askForFd(R.GET_SHARED_OBJECT, { uuid }).fd;
  }

  // The other channel, migration.

  /** SET_BACKEND_REQ_FD (spec § Back-end communication); needs BACKEND_REQ. @param fd the back-end's end of the channel; borrowed */
  setBackendReqFd(fd: number): void {
    this.#tellMemory(R.SET_BACKEND_REQ_FD, undefined, [fd]);
  }

  /**
   * SET_DEVICE_STATE_FD (spec § Migrating back-end state); needs DEVICE_STATE.
   *
   * @param fd the pipe to write the state to (`save`) or to read it from; borrowed
   * @throws {ProtocolError} REFUSED; NOT_SUPPORTED if the back-end wants to use a descriptor of its own
   */
  setDeviceStateFd(direction: 'save' | 'load', fd: number): void {
    const value = { direction: direction === 'save' ? 0 : 1, phase: 0 };
    const answer = this.#channel.ask(R.SET_DEVICE_STATE_FD, value, [fd]);
    if ((answer & 0xffn) !== 0n)
      throw new ProtocolError('REFUSED', `SET_DEVICE_STATE_FD: the back-end answered ${answer}`);
    if ((answer & BigInt(VHOST_USER_STATE_NOFD_MASK)) === 0n)
      throw new ProtocolError('NOT_SUPPORTED', 'SET_DEVICE_STATE_FD: the back-end brings its own descriptor');
  }

  /** CHECK_DEVICE_STATE (spec § Migrating back-end state); needs DEVICE_STATE. @throws {ProtocolError} REFUSED: the state was not transferred */
  checkDeviceState(): void {
    const answer = this.#channel.ask(R.CHECK_DEVICE_STATE, undefined);
    if (answer !== 0n)
      throw new ProtocolError('REFUSED', `CHECK_DEVICE_STATE: the back-end answered ${answer}`);
  }

  /**
   * GET_INFLIGHT_FD; needs INFLIGHT_SHMFD. vhost-user spec § Inflight I/O tracking.
   *
   * @returns the buffer the back-end has made, and its descriptor, which is the caller's; none if the back-end tracks nothing
   */
  getInflightFd(queues: { readonly numQueues: number; readonly queueSize: number }): {
    readonly description: PayloadValue<typeof Inflight>;
    readonly fd: OwnedFd | undefined;
  } {
    const value = { mmapSize: 0n, mmapOffset: 0n, ...queues };
    const { answer, fd } = this.#channel.askForFd(R.GET_INFLIGHT_FD, value);
    return { description: answer, fd };
  }

  /** SET_INFLIGHT_FD; needs INFLIGHT_SHMFD. vhost-user spec § Inflight I/O tracking. @param fd borrowed */
  setInflightFd(description: PayloadValue<typeof Inflight>, fd: number): void {
    this.#tellAcknowledged(R.SET_INFLIGHT_FD, description, [fd]);
  }

  // Rings.

  /** SET_VRING_NUM (spec § Ring states). */
  setVringNum(index: number, num: number): void {
    this.#tell(R.SET_VRING_NUM, { index, num });
  }

  /** SET_VRING_BASE (spec § Ring states). */
  setVringBase(index: number, base: number): void {
    this.#tell(R.SET_VRING_BASE, { index, num: base });
  }

  /** SET_VRING_ADDR (spec § A vring address description). Returns when it is done if it makes the back-end log what it writes to the ring. */
  setVringAddr(address: VringAddr): void {
    if ((address.flags & VHOST_VRING_F_LOG) !== 0) this.#tellAcknowledged(R.SET_VRING_ADDR, address);
    else this.#tell(R.SET_VRING_ADDR, address);
  }

  /** SET_VRING_KICK (spec § Ring states): starts the ring. @param fd borrowed; undefined makes the back-end poll */
  setVringKick(index: number, fd: number | undefined): void {
    this.#tellFd(R.SET_VRING_KICK, index, fd);
  }

  /** SET_VRING_CALL (spec § Front-end message types). @param fd borrowed */
  setVringCall(index: number, fd: number | undefined): void {
    this.#tellFd(R.SET_VRING_CALL, index, fd);
  }

  /** SET_VRING_ERR (spec § Front-end message types). @param fd borrowed */
  setVringErr(index: number, fd: number | undefined): void {
    this.#tellFd(R.SET_VRING_ERR, index, fd);
  }

  /** SET_VRING_ENDIAN (spec § Front-end message types); needs CROSS_ENDIAN. */
  setVringEndian(index: number, isBig: boolean): void {
    this.#tellAcknowledged(R.SET_VRING_ENDIAN, { index, num: isBig ? 1 : 0 });
  }

  /** VRING_KICK (spec § In-band notifications); needs INBAND_NOTIFICATIONS: in place of a kick descriptor. */
  kickVring(index: number): void {
    this.#tell(R.VRING_KICK, { index, num: 0 });
  }

  /** SET_VRING_ENABLE (spec § Ring states); needs VHOST_USER_F_PROTOCOL_FEATURES. */
  setVringEnable(index: number, isEnabled: boolean): void {
    this.#tellAcknowledged(R.SET_VRING_ENABLE, { index, num: isEnabled ? 1 : 0 });
  }

  /** GET_VRING_BASE (spec § Ring states): stops the ring. @returns where to go on: the next avail index */
  getVringBase(index: number): number {
    return this.#channel.ask(R.GET_VRING_BASE, { index, num: 0 }).num;
  }

  // Configuration space.

  /** GET_CONFIG (spec § Virtio device config space); needs CONFIG. */
  getConfig(offset: number, size: number): Uint8Array {
    const access: ConfigAccess = { offset, flags: 0, contents: new Uint8Array(size) };
    return this.#channel.ask(R.GET_CONFIG, access).contents;
  }

  /** SET_CONFIG (spec § Virtio device config space); needs CONFIG. */
  setConfig(access: ConfigAccess): void {
    this.#tellAcknowledged(R.SET_CONFIG, access);
  }

  // Networks.

  /** SEND_RARP (spec § Front-end message types); needs RARP. @param mac in the lower six bytes */
  sendRarp(mac: bigint): void {
    this.#tell(R.SEND_RARP, mac);
  }

  /** NET_SET_MTU (spec § Front-end message types); needs MTU. */
  setMtu(bytes: number): void {
    this.#tellAcknowledged(R.NET_SET_MTU, BigInt(bytes));
  }

  /** Closes the connection. Idempotent. */
  close(): void {
    this.#channel.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Sends a request that nobody answers, or everything is acknowledged. */
  #tell<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[] = [],
  ): void {
    if (this.#acknowledgesAll && row.reply === 'ack' && this.hasProtocolFeature(ProtocolFeature.REPLY_ACK))
      this.#channel.tell(row, value, fds);
    else this.#channel.send(row, value, fds);
  }

  /**
   * Sends a request and waits until it is done: by REPLY_ACK, or else by asking for something that is always answered.
   *
   * @throws {ProtocolError} REFUSED
   */
  #tellAcknowledged<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[] = [],
  ): void {
    if (this.hasProtocolFeature(ProtocolFeature.REPLY_ACK)) return this.#channel.tell(row, value, fds);
    this.#channel.send(row, value, fds);
    this.getFeatures();
    return undefined;
  }

  /** As `#tellAcknowledged`; but without REPLY_ACK QEMU does not wait, and so does not learn of a refusal. */
  #tellMemory<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[] = [],
  ): void {
    if (this.mode === 'qemu' && !this.hasProtocolFeature(ProtocolFeature.REPLY_ACK))
      this.#tell(row, value, fds);
    else this.#tellAcknowledged(row, value, fds);
  }

  /** Without a descriptor, the message says so. */
  #tellFd<Name extends FrontendRequestName>(
    row: RequestRow<Name, bigint, bigint>,
    index: number,
    fd: number | undefined,
  ): void {
    const value = BigInt(fd === undefined ? index | VHOST_USER_VRING_NOFD_MASK : index);
    this.#tell(row, value, fd === undefined ? [] : [fd]);
  }
}
