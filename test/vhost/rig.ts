/** A front-end in the hand of a test, and the session it talks to, in one process and in order. */
import { readdirSync } from 'node:fs';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../protocol/virtio-ring.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import { maskOf } from '../../protocol/bits.ts';
import {
  FrontendRequest,
  ProtocolFeature,
  requestFlags,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VhostUserHeader,
  type FrontendRequestName,
} from '../../protocol/vhost-user.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { U64, type MemoryRegionDescription, type Payload } from '../../protocol/vhost-user-payloads.ts';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/host/eventfd.ts';
import { EventLoop } from '../../src/host/epoll.ts';
import { mapShared, unmap, viewOf } from '../../src/host/mapping.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { SILENT_LOG, type Log } from '../../src/log.ts';
import type { Chain } from '../../src/virtio/chain.ts';
import { DriverQueue, driverQueueBytes } from '../../src/virtio/driver-queue.ts';
import { BackendSession } from '../../src/vhost/backend.ts';
import { Connection, type Message } from '../../src/vhost/connection.ts';
import { DEFERRED, type CompleteChain, type VhostDevice } from '../../src/vhost/device.ts';
import { PretendedThreads, shorter } from './pretended-threads.ts';

/** Open descriptors of this process. */
export const openFds = (): number => readdirSync('/proc/self/fd').length;

/** Front-end addresses lie this far above guest physical ones: neither may be taken for the other. */
export const UVA = 0x7f00_0000_0000n;
/** Guest RAM of every rig: where, and how much. */
export const RAM = 0x10_0000;
export const RAM_SIZE = 0x40_0000;
/** Rings lie from the start of RAM, this far apart; buffers behind them. */
const RING_STRIDE = 0x4_0000;
export const BUFFERS = RAM + 0x10_0000;

/** Ring features and PROTOCOL_FEATURES: what QEMU acknowledges. */
export const FEATURES = maskOf(
  VirtioFeature.VERSION_1,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  VHOST_USER_F_PROTOCOL_FEATURES,
);
export const PROTOCOL_FEATURES = maskOf(
  ProtocolFeature.MQ,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.CONFIG,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
);

/** Writes nothing, answers 16 bytes; defers what a test tells it to. */
export class TestDevice implements VhostDevice {
  readonly features = 0n;
  readonly queueCount = 2;
  readonly maxQueueSize = 1024;
  /** Queue and head of each chain, in the order served. */
  readonly served: (readonly [number, number])[] = [];
  resets = 0;
  isDeferring = false;
  written = 16;
  /** What the next chains are answered with, if it is an error. */
  failure: Error | undefined;
  readonly #here = new DeferringQueues(this);

  readConfig(): Uint8Array {
    return Uint8Array.from({ length: 40 }, (_, i) => i);
  }
  isWaitedFor(_queueIndex: number): boolean {
    return true;
  }
  handle(queueIndex: number, chain: Chain): number {
    return this.#here.handle(queueIndex, chain);
  }
  retryDeferred(complete: CompleteChain): boolean {
    return this.#here.retryDeferred(complete);
  }
  drain(queueIndex: number, complete: CompleteChain): void {
    this.#here.drain(queueIndex, complete);
  }
  reset(): void {
    this.resets += 1;
  }
  /** The device as another thread has it, which serves other queues. */
  elsewhere(): VhostDevice {
    return new DeferringQueues(this);
  }
}

/** What `TestDevice` is to one thread: its deferred chains are that thread's. */
class DeferringQueues implements VhostDevice {
  readonly features = 0n;
  readonly queueCount: number;
  readonly maxQueueSize: number;
  readonly #device: TestDevice;
  #deferred: (readonly [number, number])[] = [];

  constructor(device: TestDevice) {
    this.#device = device;
    this.queueCount = device.queueCount;
    this.maxQueueSize = device.maxQueueSize;
  }
  isWaitedFor(queueIndex: number): boolean {
    return this.#device.isWaitedFor(queueIndex);
  }
  handle(queueIndex: number, chain: Chain): number {
    const { failure, served, isDeferring, written } = this.#device;
    if (failure !== undefined) throw failure;
    served.push([queueIndex, chain.head]);
    if (!isDeferring) return written;
    this.#deferred.push([queueIndex, chain.head]);
    return DEFERRED;
  }
  retryDeferred(complete: CompleteChain): boolean {
    if (!this.#device.isDeferring) this.#completeAll(() => true, complete);
    return this.#deferred.length > 0;
  }
  drain(queueIndex: number, complete: CompleteChain): void {
    this.#completeAll((queue) => queue === queueIndex, complete);
  }
  reset(): void {
    // Nothing that outlives a drain.
  }
  #completeAll(isMeant: (queue: number) => boolean, complete: CompleteChain): void {
    const meant = this.#deferred.filter(([queue]) => isMeant(queue));
    this.#deferred = this.#deferred.filter(([queue]) => !isMeant(queue));
    for (const [queue, head] of meant) complete(queue, head, this.#device.written);
  }
}

export interface Sent {
  readonly fds?: readonly number[];
  /** REPLY_ACK is asked for; true unless said otherwise. */
  readonly needReply?: boolean;
  readonly version?: number;
}

/** The file guest RAM is made of, mapped here as the guest would see it. */
export class Ram implements Disposable {
  readonly fd: OwnedFd;
  readonly bytes: Uint8Array;
  readonly size: number;
  readonly #address: number;

  constructor(size: number = RAM_SIZE) {
    this.size = size;
    this.fd = new OwnedFd(createMemfd('test-ram', size));
    this.#address = mapShared(this.fd.fd, 0, size);
    this.bytes = new Uint8Array(viewOf(this.#address, size));
  }
  [Symbol.dispose](): void {
    unmap(this.#address, this.size);
    this.fd.close();
  }
}

export interface RigOptions {
  readonly maxSlots?: number;
  readonly device?: TestDevice;
  /** Entries of both rings. */
  readonly num?: number;
  readonly eventIdx?: boolean;
  readonly log?: Log;
  readonly pollMicros?: number;
  /** Each ring is served by a thread of its own. */
  readonly hasQueueThreads?: boolean;
}

let areQueueThreadsUsual = false;

/** From here on every rig has queue threads, unless it says otherwise. */
export function useQueueThreads(): void {
  areQueueThreadsUsual = true;
}

/** One session, its front-end and its guest. */
export class Rig implements Disposable {
  readonly device: TestDevice;
  readonly loop = new EventLoop();
  readonly memory: GuestMemory;
  readonly session: BackendSession;
  readonly ram = new Ram();
  readonly drivers: readonly DriverQueue[];
  readonly kicks: readonly OwnedFd[];
  readonly calls: readonly OwnedFd[];
  readonly errs: readonly OwnedFd[];
  /** The front-end's end, for what `Connection` would not do. */
  readonly socket: MessageSocket;
  readonly #connection: Connection;
  readonly #features: bigint;
  readonly #threads: PretendedThreads | undefined;

  constructor(options: RigOptions = {}) {
    const { maxSlots = 8, device = new TestDevice(), num = 16, log = SILENT_LOG, eventIdx = true } = options;
    this.#features = eventIdx ? FEATURES : FEATURES & ~maskOf(VIRTIO_RING_F_EVENT_IDX);
    this.device = device;
    const { pollMicros = 0, hasQueueThreads = areQueueThreadsUsual } = options;
    this.#threads = hasQueueThreads
      ? new PretendedThreads({ maxSlots, log, pollMicros, indexes: [0, 1], device: () => device.elsewhere() })
      : undefined;
    this.memory = new GuestMemory({ maxSlots, readers: this.#threads });
    const [ours, theirs] = socketPair();
    this.socket = new MessageSocket(ours);
    this.#connection = new Connection(this.socket);
    const { loop, memory } = this;
    this.session = new BackendSession({
      socket: new MessageSocket(theirs),
      device,
      loop,
      memory,
      log,
      pollMicros,
      queueThreads: this.#threads,
    });
    const eventfds = (): readonly OwnedFd[] => [0, 1].map(() => new OwnedFd(createEventfd()));
    this.kicks = eventfds();
    this.calls = eventfds();
    this.errs = eventfds();
    this.drivers = [0, 1].map((index) => {
      const at = index * RING_STRIDE;
      const bytes = this.ram.bytes.subarray(at, at + driverQueueBytes(num, 4));
      return new DriverQueue({ num, eventIdx, indirectEntries: 4, bytes, gpa: RAM + at });
    });
  }

  /** Lets the session do all it can do now. */
  pump(): void {
    for (let i = 0; i < 200; i += 1) {
      const wait = this.run();
      if (this.poll() === 0 && wait !== 0) return;
    }
    throw new Error('the session does not come to rest');
  }

  /** Lets every ring have a turn. @returns milliseconds to wait for events at most: 0 for no wait, −1 for ever */
  run(): number {
    return shorter(this.session.run(), this.#threads?.run() ?? -1);
  }

  /** Lets messages and kicks be seen. @returns how many there were */
  poll(): number {
    return this.loop.runOnce(0) + (this.#threads?.poll() ?? 0);
  }

  /** Descriptors that are waited for. */
  get watched(): number {
    return this.loop.addCount + (this.#threads?.watched ?? 0);
  }

  /** Sends a request as its table row says, and lets it be served. @returns the answer's payload, or what came instead */
  request(name: FrontendRequestName, value: unknown, sent: Sent = {}): Uint8Array | 'none' | 'closed' {
    const row = frontendRow(FrontendRequest[name])!;
    return this.raw(FrontendRequest[name], (row.payload as Payload<unknown>).encode(value), sent);
  }

  /** Sends a request whatever its payload. */
  raw(
    request: number,
    payload: Uint8Array,
    { fds = [], needReply = true, version = 1 }: Sent = {},
  ): Uint8Array | 'none' | 'closed' {
    this.#connection.send(request, (requestFlags(needReply) & ~3) | version, payload, fds);
    this.pump();
    const answer = this.receive();
    if (typeof answer === 'string') return answer === 'wait' ? 'none' : answer;
    if (answer.request !== request || answer.flags !== 5)
      throw new Error(`answer to ${answer.request}, flags ${answer.flags}`);
    return Uint8Array.from(answer.payload);
  }

  /** What the session has sent. */
  receive(): Message | 'wait' | 'closed' {
    return this.#connection.receive();
  }

  /** The u64 that answers; −1 for an answer of another size. */
  u64(name: FrontendRequestName, value: unknown, sent: Sent = {}): bigint | 'none' | 'closed' {
    const answer = this.request(name, value, sent);
    if (typeof answer === 'string') return answer;
    return answer.length === 8 ? U64.decode(answer) : -1n;
  }

  /** The region of guest RAM, or a part of it that `change` says. */
  region(change: Partial<MemoryRegionDescription> = {}): MemoryRegionDescription {
    const gpa = change.guestPhysAddr ?? BigInt(RAM);
    return {
      guestPhysAddr: gpa,
      memorySize: BigInt(RAM_SIZE),
      userspaceAddr: UVA + gpa,
      mmapOffset: 0n,
      ...change,
    };
  }

  addRegion(change: Partial<MemoryRegionDescription> = {}, fd = this.ram.fd.fd): unknown {
    return this.u64('ADD_MEM_REG', { padding: 0n, region: this.region(change) }, { fds: [fd] });
  }
  removeRegion(change: Partial<MemoryRegionDescription> = {}): unknown {
    return this.u64('REM_MEM_REG', { padding: 0n, region: this.region(change) });
  }
  setTable(regions: readonly MemoryRegionDescription[], fds = regions.map(() => this.ram.fd.fd)): unknown {
    return this.u64('SET_MEM_TABLE', { padding: 0, regions }, { fds });
  }

  /** Features and protocol features, as QEMU negotiates them. */
  negotiate(features = this.#features): void {
    this.request('SET_PROTOCOL_FEATURES', PROTOCOL_FEATURES, { needReply: false });
    this.request('SET_OWNER', undefined, { needReply: false });
    this.request('SET_FEATURES', features, { needReply: false });
  }

  addr(index: number, change: object = {}): unknown {
    const driver = this.drivers[index]!;
    return {
      index,
      flags: 0,
      descUserAddr: UVA + BigInt(driver.descGpa),
      availUserAddr: UVA + BigInt(driver.availGpa),
      usedUserAddr: UVA + BigInt(driver.usedGpa),
      logGuestAddr: BigInt(driver.usedGpa),
      ...change,
    };
  }

  /** Everything a ring needs before its first kick, except SET_VRING_ENABLE. */
  setUpRing(index: number, base = 0): void {
    this.drivers[index]!.reset(base);
    this.setFd('SET_VRING_CALL', index, this.calls[index]!);
    this.setFd('SET_VRING_ERR', index, this.errs[index]!);
    this.request('SET_VRING_NUM', { index, num: this.drivers[index]!.num });
    this.request('SET_VRING_BASE', { index, num: base });
    this.request('SET_VRING_ADDR', this.addr(index));
    this.setFd('SET_VRING_KICK', index, this.kicks[index]!);
  }
  setFd(name: 'SET_VRING_KICK' | 'SET_VRING_CALL' | 'SET_VRING_ERR', index: number, fd: OwnedFd): unknown {
    return this.u64(name, BigInt(index), { fds: [fd.fd] });
  }
  enable(index: number, num = 1): unknown {
    return this.u64('SET_VRING_ENABLE', { index, num });
  }
  /** GET_VRING_BASE. @returns the base */
  stop(index: number): number {
    const answer = this.request('GET_VRING_BASE', { index, num: 0 });
    if (typeof answer === 'string') throw new Error(`GET_VRING_BASE: ${answer}`);
    return new DataView(answer.buffer).getUint32(4, true);
  }

  /** A front-end as QEMU starts it: memory, and both rings enabled. */
  start(): this {
    this.negotiate();
    this.addRegion();
    for (const index of [0, 1]) {
      this.setUpRing(index);
      this.enable(index);
    }
    return this;
  }

  /** Makes `count` requests of 16 bytes to read and 64 to write available; kicks. */
  offer(index: number, count = 1, at = BUFFERS): void {
    for (let i = 0; i < count; i += 1) this.drivers[index]!.add([at, at + 4096], [16, 64], 2, 1);
    this.drivers[index]!.publish();
    this.kick(index);
  }
  kick(index: number): void {
    signalEventfd(this.kicks[index]!.fd);
  }
  /** How many requests the driver finds answered. It wants to be called for the next one. */
  collect(index: number): number {
    let count = 0;
    while (this.drivers[index]!.collect() >= 0) count += 1;
    this.drivers[index]!.enableCalls();
    return count;
  }
  /** Offers one request. @returns true if it was answered */
  ping(index: number): boolean {
    this.offer(index);
    this.pump();
    return this.collect(index) === 1;
  }

  [Symbol.dispose](): void {
    this.session.close();
    this.#connection.close();
    this.#threads?.[Symbol.dispose]();
    this.loop.close();
    for (const fd of [...this.kicks, ...this.calls, ...this.errs]) fd.close();
    this.ram[Symbol.dispose]();
  }
}

/** Reads an eventfd. @returns true if it was signalled since the last time */
export const wasSignalled = (fd: OwnedFd): boolean => drainEventfd(fd.fd) >= 0;

/** The header of a message, for tests that send octets. */
export const header = (request: number, flags: number, size: number): Buffer =>
  VhostUserHeader.encode({ request, flags, size });
