/** A device front-end, and a back-end that keeps a memory table and refuses or dies when a test says so. */
import { fstatSync } from 'node:fs';
import { maskOf } from '../../protocol/bits.ts';
import { HeaderFlag, ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import {
  Inflight,
  MemoryTable,
  SingleRegion,
  U64,
  VringAddr,
  VringState,
  type MemoryRegionDescription,
} from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { Cleanup, OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import type { RamBlock } from '../../src/memory/ram-block.ts';
import { Connection, type Message } from '../../src/vhost/connection.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import type { FrontendMode } from '../../src/vhost/frontend-channel.ts';
import type { DialectName } from '../../src/vhost/frontend-dialect.ts';
import type { BackendRequestHandlers } from '../../src/vhost/frontend-requests.ts';
import { DeviceFrontend } from '../../src/vhost/frontend-device.ts';
import type { SharedQueue } from '../../src/vhost/frontend-vring.ts';

export const SLOTS = maskOf(
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.STATUS,
);
export const NO_SLOTS = SLOTS & ~maskOf(ProtocolFeature.CONFIGURE_MEM_SLOTS);

export interface RigOptions {
  readonly mode?: FrontendMode;
  readonly features?: bigint;
  readonly protocolFeatures?: bigint;
  readonly slots?: bigint;
  readonly queues?: number;
  readonly dialect?: DialectName;
  readonly backendRequests?: BackendRequestHandlers;
}

/** ACKNOWLEDGE and DRIVER: somebody has found the device. */
const DRIVER = 3n;

/** What a message is answered with: yes, no, or the connection closes. */
export type Verdict = 'accept' | 'refuse' | 'die';

export class FrontendRig implements Disposable {
  readonly device: DeviceFrontend;
  readonly errors: unknown[] = [];
  /** Messages since the last `take`: `ADD 0x1000+0x1000`, `SET_VRING_NUM 0 16`. */
  readonly sent: string[] = [];
  /** The back-end's memory table. */
  readonly table = new Map<bigint, MemoryRegionDescription>();
  /** Decides about each message; the text is that in `sent`. */
  judge: (text: string) => Verdict = () => 'accept';
  /** What GET_VRING_BASE answers, per queue. */
  readonly bases: number[] = [];
  readonly #owned = new Cleanup();
  /** Descriptors of the shared memory for requests in flight: what was made, and what was shown. */
  readonly inflight: string[] = [];
  /** The back-end's end of the channel for its requests. */
  channel: Connection | undefined;
  #options: RigOptions;
  #peer: Connection;
  #status = DRIVER;
  readonly queues: readonly SharedQueue[];

  constructor(options: RigOptions = {}) {
    this.#options = options;
    const [theirs, ours] = socketPair();
    this.#peer = new Connection(new MessageSocket(theirs));
    this.#owned.defer(() => this.die());
    const { queues = 2, dialect = 'qemu', backendRequests } = options;
    const frontend = this.#frontend(ours, this.#peer);
    const notifiers = Array.from({ length: queues }, () => ({ maskedFd: this.fd(), errorFd: this.fd() }));
    this.device = new DeviceFrontend(frontend, {
      name: 'fs0',
      notifiers,
      dialect,
      ...(backendRequests === undefined ? {} : { backendRequests }),
      onMemoryError: (error) => this.errors.push(error),
    });
    this.#owned.defer(() => this.device.close());
    this.queues = notifiers.map((_, index) => ({
      num: 16,
      descGpa: BigInt(0x1000 * index),
      availGpa: BigInt(0x1000 * index + 0x100),
      usedGpa: BigInt(0x1000 * index + 0x200),
      kickFd: this.fd(),
      callFd: this.fd(),
      usedIndex: () => 77,
    }));
  }

  /** An eventfd that lives as long as the rig. */
  fd(): number {
    return this.#owned.use(new OwnedFd(createEventfd())).fd;
  }

  /** Host memory that can be shared; its address has nothing to do with guest addresses. */
  block(id: string, { size = 1n << 40n, pageSize = 0x1000, hostAddress = 7n << 44n } = {}): RamBlock {
    return {
      id,
      size,
      pageSize,
      hostAddress,
      fd: this.#owned.use(new OwnedFd(createMemfd(id, 4096))).fd,
    };
  }

  start(): void {
    this.device.start({ features: this.device.features, queues: this.queues });
  }

  /** The back-end is no more. */
  die(): void {
    this.#peer.close();
    this.channel?.close();
  }

  /** Another back-end comes, which has no memory yet. */
  reconnect(options: RigOptions = {}): void {
    this.#options = { ...this.#options, ...options };
    const [theirs, ours] = socketPair();
    const before = this.#peer;
    const peer = new Connection(new MessageSocket(theirs));
    const frontend = this.#frontend(ours, peer, () => {
      before.close();
      this.#peer = peer;
      this.#status = DRIVER;
      this.table.clear();
    });
    this.#owned.defer(() => peer.close());
    this.device.reconnect(frontend);
  }

  /** What has been sent since the last time. */
  take(): string[] {
    this.drain();
    return this.sent.splice(0);
  }

  drain(peer = this.#peer): void {
    for (;;) {
      const message = peer.receive();
      if (message === 'wait' || message === 'closed') return;
      const text = describe(message);
      this.sent.push(text);
      this.#takeFds(message);
      const verdict = this.judge(text);
      if (verdict === 'die') {
        this.die();
        return;
      }
      if (verdict === 'accept') this.#apply(message);
      this.#answer(peer, message, verdict);
    }
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  /** @param onFirstWait the one before has nothing more to hear */
  #frontend(socket: OwnedFd, peer: Connection, onFirstWait?: () => void): VhostUserFrontend {
    let begin = onFirstWait;
    const wait = (): void => {
      begin?.();
      begin = undefined;
      this.drain(peer);
    };
    return new VhostUserFrontend(socket, { mode: this.#options.mode ?? 'strict', timeoutMs: 200, wait });
  }

  #takeFds({ request, fds }: Message): void {
    const name = frontendRow(request)!.name;
    if (name === 'SET_INFLIGHT_FD') this.inflight.push(`shown ${fstatSync(fds[0]!.fd).ino}`);
    if (name === 'SET_BACKEND_REQ_FD') this.channel = new Connection(new MessageSocket(fds.shift()!));
    for (const fd of fds) fd.close();
  }

  #apply({ request, payload }: Message): void {
    const name = frontendRow(request)!.name;
    if (name === 'SET_STATUS') this.#status = U64.decode(payload);
    if (name === 'RESET_DEVICE') this.#status = DRIVER;
    if (name === 'SET_MEM_TABLE') {
      this.table.clear();
      for (const region of MemoryTable.decode(payload).regions) this.table.set(region.guestPhysAddr, region);
      return;
    }
    if (name !== 'ADD_MEM_REG' && name !== 'REM_MEM_REG') return;
    const { region } = SingleRegion.decode(payload);
    const known = this.table.get(region.guestPhysAddr);
    if (name === 'ADD_MEM_REG') {
      if (known !== undefined) throw new Error(`added twice: ${describeRegion(region)}`);
      this.table.set(region.guestPhysAddr, region);
      return;
    }
    if (known?.memorySize !== region.memorySize || known.userspaceAddr !== region.userspaceAddr)
      throw new Error(`removed, but not there: ${describeRegion(region)}`);
    this.table.delete(region.guestPhysAddr);
  }

  #answer(peer: Connection, { request, flags, payload }: Message, verdict: Verdict): void {
    const { name, reply } = frontendRow(request)!;
    const answer = this.#answerTo(name, payload, verdict);
    if (name === 'GET_INFLIGHT_FD') {
      using fd = new OwnedFd(createMemfd('inflight', 4096));
      this.inflight.push(`made ${fstatSync(fd.fd).ino}`);
      const made = { ...Inflight.decode(payload), mmapSize: 4096n };
      peer.send(request, HeaderFlag.REPLY | 1, Inflight.encode(made), [fd.fd]);
    } else if (answer !== undefined) peer.send(request, HeaderFlag.REPLY | 1, answer);
    else if (reply !== 'ack') throw new Error(`no answer to ${name}`);
    else if ((flags & HeaderFlag.NEED_REPLY) !== 0)
      peer.send(request, HeaderFlag.REPLY | 1, U64.encode(verdict === 'refuse' ? 1n : 0n));
  }

  #answerTo(name: string, payload: Uint8Array, verdict: Verdict): Uint8Array | undefined {
    const { features = maskOf(VHOST_USER_F_PROTOCOL_FEATURES, 26, 29, 32) } = this.#options;
    const { protocolFeatures = SLOTS, slots = 509n } = this.#options;
    if (name === 'GET_FEATURES') return U64.encode(features);
    if (name === 'GET_PROTOCOL_FEATURES') return U64.encode(protocolFeatures);
    if (name === 'GET_MAX_MEM_SLOTS') return U64.encode(slots);
    if (name === 'GET_STATUS') return U64.encode(this.#status);
    if (name === 'GET_QUEUE_NUM') return U64.encode(16n);
    if (name === 'SET_LOG_BASE') return new Uint8Array(16);
    if (name !== 'GET_VRING_BASE') return undefined;
    if (verdict === 'refuse') return new Uint8Array(16); // there is no refusing it; this is not an answer
    const { index } = VringState.decode(payload);
    return VringState.encode({ index, num: this.bases[index] ?? 0 });
  }
}

const describeRegion = ({ guestPhysAddr, memorySize }: MemoryRegionDescription): string =>
  `0x${guestPhysAddr.toString(16)}+0x${memorySize.toString(16)}`;

function describe({ request, payload }: Message): string {
  const name = frontendRow(request)!.name;
  if (name === 'ADD_MEM_REG') return `ADD ${describeRegion(SingleRegion.decode(payload).region)}`;
  if (name === 'REM_MEM_REG') return `REM ${describeRegion(SingleRegion.decode(payload).region)}`;
  if (name === 'SET_MEM_TABLE')
    return `TABLE ${MemoryTable.decode(payload).regions.map(describeRegion).join(' ')}`;
  if (/VRING_(NUM|BASE|ENABLE)$/.test(name)) {
    const { index, num } = VringState.decode(payload);
    return name === 'GET_VRING_BASE' ? `${name} ${index}` : `${name} ${index} ${num}`;
  }
  if (name === 'SET_VRING_ADDR') {
    const { index, flags } = VringAddr.decode(payload);
    return `${name} ${index} ${flags}`;
  }
  if (/VRING_(CALL|ERR|KICK)$/.test(name)) return `${name} ${U64.decode(payload) & 0xffn}`;
  return payload.length === 8 ? `${name} 0x${U64.decode(payload).toString(16)}` : name;
}
