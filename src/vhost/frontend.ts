/**
 * The front-end's end of a vhost-user connection: one method per request, each waiting for its answer.
 *
 * The exchange is strictly synchronous, as QEMU's: nothing is sent before the answer to the last request has come, so
 * an answer can only belong to the request at hand. Every wait has a deadline, and the error then says which messages
 * went before. The class keeps what was negotiated and nothing else: memory table and rings are the caller's.
 */
import { performance } from 'node:perf_hooks';
import { CodecError } from '../../protocol/struct.ts';
import { hasBit } from '../../protocol/bits.ts';
import {
  FrontendRequest,
  type FrontendRequestName,
  ProtocolFeature,
  REPLY_FLAGS,
  requestFlags,
  VHOST_USER_VRING_NOFD_MASK,
} from '../../protocol/vhost-user.ts';
import type {
  ConfigAccess,
  MemoryRegionDescription,
  Payload,
  VringAddr,
} from '../../protocol/vhost-user-payloads.ts';
import { U64 } from '../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R, type RequestRow } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { waitReadable } from '../host/poll.ts';
import { connectUnix, MessageSocket } from '../host/unix-socket.ts';
import { Connection, type Message } from './connection.ts';

const TIMEOUT_MS = 5000;
/** Messages an error shows. */
const SHOWN_MESSAGES = 12;

export interface FrontendOptions {
  /** How long an answer may take. */
  readonly timeoutMs?: number;
  /** Waits until the descriptor can be read, at most so many milliseconds; poll(2) unless the peer lives in this thread. */
  readonly wait?: (fd: number, timeoutMs: number) => void;
}

export class VhostUserFrontend implements Disposable {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #wait: (fd: number, timeoutMs: number) => void;
  readonly #recent: string[] = [];
  #protocolFeatures = 0n;

  /** @param socket connected to a back-end; owned from here on */
  constructor(socket: OwnedFd, { timeoutMs = TIMEOUT_MS, wait = waitReadable }: FrontendOptions = {}) {
    this.#connection = new Connection(new MessageSocket(socket, { sendTimeoutMs: timeoutMs }));
    this.#timeoutMs = timeoutMs;
    this.#wait = wait;
  }

  /** @throws {ProtocolError} SYSTEM if nobody listens at `path` */
  static connect(path: string, options: FrontendOptions = {}): VhostUserFrontend {
    const fd = connectUnix(path);
    if (fd < 0) throw new ProtocolError('SYSTEM', `connect to ${path}: errno ${-fd}`);
    return new VhostUserFrontend(new OwnedFd(fd), options);
  }

  /** Whether the feature was negotiated by `setProtocolFeatures`. */
  hasProtocolFeature(feature: ProtocolFeature): boolean {
    return hasBit(this.#protocolFeatures, feature);
  }

  // Negotiation. vhost-user spec § Front-end message types, as all that follows.

  /** GET_FEATURES. */
  getFeatures(): bigint {
    return this.#ask(R.GET_FEATURES, undefined);
  }

  /** SET_FEATURES. */
  setFeatures(features: bigint): void {
    this.#tell(R.SET_FEATURES, features);
  }

  /** GET_PROTOCOL_FEATURES. */
  getProtocolFeatures(): bigint {
    return this.#ask(R.GET_PROTOCOL_FEATURES, undefined);
  }

  /** SET_PROTOCOL_FEATURES. What is negotiated here decides whether later requests are acknowledged. */
  setProtocolFeatures(features: bigint): void {
    this.#tell(R.SET_PROTOCOL_FEATURES, features);
    this.#protocolFeatures = features;
  }

  /** GET_QUEUE_NUM; needs MQ. */
  getQueueNum(): number {
    return Number(this.#ask(R.GET_QUEUE_NUM, undefined));
  }

  /** SET_OWNER. */
  setOwner(): void {
    this.#tell(R.SET_OWNER, undefined);
  }

  /** RESET_DEVICE; needs RESET_DEVICE. The memory table stays. */
  resetDevice(): void {
    this.#tell(R.RESET_DEVICE, undefined);
  }

  /** GET_STATUS; needs STATUS. */
  getStatus(): number {
    return Number(this.#ask(R.GET_STATUS, undefined));
  }

  /** SET_STATUS; needs STATUS. */
  setStatus(status: number): void {
    this.#tell(R.SET_STATUS, BigInt(status));
  }

  // Memory.

  /** GET_MAX_MEM_SLOTS; needs CONFIGURE_MEM_SLOTS. */
  getMaxMemSlots(): bigint {
    return this.#ask(R.GET_MAX_MEM_SLOTS, undefined);
  }

  /** ADD_MEM_REG; needs CONFIGURE_MEM_SLOTS. @param fd borrowed */
  addMemReg(region: MemoryRegionDescription, fd: number): void {
    this.#tellAcknowledged(R.ADD_MEM_REG, { padding: 0n, region }, [fd]);
  }

  /** REM_MEM_REG; needs CONFIGURE_MEM_SLOTS. */
  remMemReg(region: MemoryRegionDescription): void {
    this.#tellAcknowledged(R.REM_MEM_REG, { padding: 0n, region: { ...region, mmapOffset: 0n } });
  }

  /** SET_MEM_TABLE. @param fds borrowed, one per region */
  setMemTable(regions: readonly MemoryRegionDescription[], fds: readonly number[]): void {
    this.#tellAcknowledged(R.SET_MEM_TABLE, { padding: 0, regions }, fds);
  }

  /** SET_LOG_BASE; needs LOG_SHMFD. @param fd borrowed */
  setLogBase(log: { readonly mmapSize: bigint; readonly mmapOffset: bigint }, fd: number): void {
    this.#tell(R.SET_LOG_BASE, log, [fd]);
    this.#receive('SET_LOG_BASE'); // always answered, by each back-end in its own way
  }

  // Rings.

  /** SET_VRING_NUM. */
  setVringNum(index: number, num: number): void {
    this.#tell(R.SET_VRING_NUM, { index, num });
  }

  /** SET_VRING_BASE. */
  setVringBase(index: number, base: number): void {
    this.#tell(R.SET_VRING_BASE, { index, num: base });
  }

  /** SET_VRING_ADDR. */
  setVringAddr(address: VringAddr): void {
    this.#tell(R.SET_VRING_ADDR, address);
  }

  /** SET_VRING_KICK: starts the ring. @param fd borrowed; undefined makes the back-end poll */
  setVringKick(index: number, fd: number | undefined): void {
    this.#tellFd(R.SET_VRING_KICK, index, fd);
  }

  /** SET_VRING_CALL. @param fd borrowed */
  setVringCall(index: number, fd: number | undefined): void {
    this.#tellFd(R.SET_VRING_CALL, index, fd);
  }

  /** SET_VRING_ERR. @param fd borrowed */
  setVringErr(index: number, fd: number | undefined): void {
    this.#tellFd(R.SET_VRING_ERR, index, fd);
  }

  /** SET_VRING_ENABLE; needs VHOST_USER_F_PROTOCOL_FEATURES. */
  setVringEnable(index: number, isEnabled: boolean): void {
    this.#tellAcknowledged(R.SET_VRING_ENABLE, { index, num: isEnabled ? 1 : 0 });
  }

  /** GET_VRING_BASE: stops the ring. @returns where to go on: the next avail index */
  getVringBase(index: number): number {
    return this.#ask(R.GET_VRING_BASE, { index, num: 0 }).num;
  }

  // Configuration space.

  /** GET_CONFIG; needs CONFIG. */
  getConfig(offset: number, size: number): Uint8Array {
    const access: ConfigAccess = { offset, flags: 0, contents: new Uint8Array(size) };
    return this.#ask(R.GET_CONFIG, access).contents;
  }

  /** Closes the connection. Idempotent. */
  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Sends a request that is always answered, and waits for the answer. */
  #ask<Name extends FrontendRequestName, T, A>(row: RequestRow<Name, T, A>, value: T): A {
    this.#send(row, value, [], false);
    const { payload } = this.#receive(row.name);
    if (row.reply === 'ack') throw new TypeError(`${row.name} has no answer of its own`);
    return this.#decode(row.name, row.reply, payload);
  }

  /** Sends a request that nobody answers. */
  #tell<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[] = [],
  ): void {
    this.#send(row, value, fds, false);
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
    const isAcknowledged = this.hasProtocolFeature(ProtocolFeature.REPLY_ACK);
    this.#send(row, value, fds, isAcknowledged);
    if (!isAcknowledged) {
      this.getFeatures();
      return;
    }
    const result = this.#decode(row.name, U64, this.#receive(row.name).payload);
    if (result !== 0n) throw new ProtocolError('REFUSED', `${row.name}: the back-end answered ${result}`);
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

  #send<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[],
    needReply: boolean,
  ): void {
    this.#note(`> ${row.name}${needReply ? ' (needs reply)' : ''}`);
    this.#connection.send(FrontendRequest[row.name], requestFlags(needReply), row.payload.encode(value), fds);
  }

  /** The answer to the request just sent. Descriptors in it are closed. */
  #receive(name: FrontendRequestName): Message {
    const deadline = performance.now() + this.#timeoutMs;
    for (;;) {
      const message = this.#connection.receive();
      if (message === 'closed') throw this.#failed('CLOSED', `${name}: the back-end closed the connection`);
      if (message !== 'wait') {
        for (const fd of message.fds) fd.close();
        this.#note(`< ${name} (${message.payload.length} bytes)`);
        if (message.request !== FrontendRequest[name] || message.flags !== REPLY_FLAGS)
          throw this.#failed(
            'BAD_HEADER',
            `${name}: answer has request ${message.request}, flags ${message.flags}; allowed ${FrontendRequest[name]}, ${REPLY_FLAGS}`,
          );
        return message;
      }
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0) throw this.#failed('TIMEOUT', `${name}: no answer in ${this.#timeoutMs} ms`);
      this.#wait(this.#connection.fd, left);
    }
  }

  #decode<A>(name: string, payload: Payload<A>, octets: Uint8Array): A {
    try {
      return payload.decode(octets);
    } catch (cause) {
      if (cause instanceof CodecError) throw new ProtocolError(cause.code, `answer to ${name}`, { cause });
      throw cause;
    }
  }

  #note(message: string): void {
    this.#recent.push(message);
    if (this.#recent.length > SHOWN_MESSAGES) this.#recent.shift();
  }

  #failed(code: 'CLOSED' | 'TIMEOUT' | 'BAD_HEADER', text: string): ProtocolError {
    return new ProtocolError(code, `${text}; last messages: ${this.#recent.join(', ')}`);
  }
}
