/**
 * Does a recorded session again: the inputs QEMU had go into our device front-ends, and what they send is compared with what QEMU sent.
 *
 * Inputs are the events, and what a guest or an operator decides and only the messages show: features, ring addresses and sizes, resets,
 * the begin and end of logging, state transfer. Everything else has to come out.
 */
import { execFileSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { VHOST_F_LOG_ALL, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import { hasBit } from '../../protocol/bits.ts';
import { ProtocolError } from '../../src/errors.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { Cleanup, OwnedFd } from '../../src/host/owned-fd.ts';
import { socketPair } from '../../src/host/unix-socket.ts';
import type { MemorySection } from '../../src/memory/listener.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import { DeviceFrontend } from '../../src/vhost/frontend-device.ts';
import { Beyond, Difference, RecordedPeer } from './frontend-peer.ts';
import { RecordedMemory } from './frontend-recorded-memory.ts';
import {
  loadRecording,
  type RecordedCommit,
  type RecordedEvent,
  type RecordedFrame,
  type RecordedMessage,
  type Recording,
} from './frontend-recording.ts';

export interface Outcome {
  readonly name: string;
  readonly messages: number;
  /** Why it can be compared only so far: the recorded peer died. */
  readonly cut?: string;
  readonly difference?: string;
}

export function replay(path: string): Outcome {
  const recording = loadRecording(path);
  using replaying = new Replay(recording);
  const name = basename(path);
  try {
    replaying.run();
  } catch (error) {
    const { messages } = replaying;
    if (error instanceof Beyond && recording.isCrash)
      return { name, messages, cut: `QEMU dies here; ${error.message}` };
    if (!(error instanceof Difference) && !(error instanceof ProtocolError)) throw error;
    return { name, messages, difference: error.message };
  }
  return { name, messages: replaying.messages, ...(replaying.hasDead ? { cut: 'the back-end dies' } : {}) };
}

class Replay implements Disposable {
  readonly #recording: Recording;
  readonly #owned = new Cleanup();
  readonly #memory: RecordedMemory;
  readonly #devices = new Map<number, ReplayedDevice>();

  constructor(recording: Recording) {
    this.#recording = recording;
    this.#memory = new RecordedMemory(recording, this.#owned);
  }

  get messages(): number {
    return [...this.#devices.values()].reduce((sum, { peer }) => sum + peer.received, 0);
  }

  get hasDead(): boolean {
    return [...this.#devices.values()].some(({ peer }) => peer.hasClosed);
  }

  run(): void {
    this.#recording.events.forEach((event, index) => {
      try {
        this.#feed(event, index);
      } catch (error) {
        if (!(error instanceof ProtocolError) || !this.hasDead) throw error;
      }
      for (const { peer } of this.#devices.values()) peer.drain();
    });
    for (const { peer } of this.#devices.values()) {
      if (peer.next !== undefined && !peer.hasClosed)
        throw new Difference(`message ${peer.next.n}: QEMU sends ${peer.next.name}, we nothing`);
    }
  }

  #feed(event: RecordedEvent, index: number): void {
    if (event.ev === 'mdev_pre_plug' || event.ev === 'mdev_plug') return this.#memory.place(event.addr);
    if (event.ev === 'mdev_unplug') return this.#memory.free(event.addr);
    if (!('dev' in event)) return undefined;
    if (event.ev === 'vhost_init') return this.#connect(event.dev);
    const device = this.#devices.get(event.dev);
    if (device === undefined) throw new Difference(`device ${event.dev}: was never connected`);
    if (event.ev === 'commit') return device.commit(event, this.#memory);
    if (event.ev === 'msg') return device.cause(event, index);
    if (event.ev === 'start') return device.start(index);
    if (event.ev === 'stop') return device.device.stop();
    return device.device.close();
  }

  #connect(dev: number): void {
    const messages = this.#recording.events.filter(
      (event): event is RecordedMessage => event.ev === 'msg' && event.dev === dev,
    );
    const frames = this.#recording.conversations.find((conversation) =>
      messages.every((message) => isLogged(message, conversation.get(message.n))),
    );
    if (frames === undefined && this.#recording.conversations.length > 0)
      throw new Difference(`device ${dev}: no log has its messages`);
    const device = new ReplayedDevice(this.#recording.events, dev, messages, frames, this.#owned);
    this.#devices.set(dev, device);
    device.device.connect();
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}

/** Whether a frame is the message: devices on one machine have much the same messages, but their rings lie apart. */
function isLogged(
  { name, log_guest_addr: ring }: RecordedMessage,
  frame: RecordedFrame | undefined,
): boolean {
  if (frame?.name !== name) return false;
  if (ring === undefined) return true;
  const octets = Buffer.from(frame.hex, 'hex').subarray(VhostUserHeader.size);
  return VringAddr.decode(octets).logGuestAddr === BigInt(ring);
}

class ReplayedDevice {
  readonly peer: RecordedPeer;
  readonly device: DeviceFrontend;
  readonly #events: readonly RecordedEvent[];
  readonly #dev: number;
  readonly #frames: ReadonlyMap<number, RecordedFrame> | undefined;
  readonly #queues: number;
  readonly #owned: Cleanup;
  #flat = new Map<string, MemorySection>();
  #startedBy = -1;
  #hasRun = false;

  constructor(
    events: readonly RecordedEvent[],
    dev: number,
    messages: readonly RecordedMessage[],
    frames: ReadonlyMap<number, RecordedFrame> | undefined,
    owned: Cleanup,
  ) {
    this.#events = events;
    this.#dev = dev;
    this.#frames = frames;
    this.#owned = owned;
    this.#queues = messages.filter(({ name }) => name === 'SET_VRING_ERR').length;
    const [theirs, ours] = socketPair();
    this.peer = new RecordedPeer(theirs, messages, frames);
    owned.defer(() => this.peer.close());
    const frontend = new VhostUserFrontend(ours, {
      mode: 'qemu',
      timeoutMs: 500,
      wait: () => this.peer.drain(),
    });
    const notifiers = Array.from({ length: this.#queues }, () => ({
      maskedFd: this.#eventfd(),
      errorFd: this.#eventfd(),
    }));
    const name = `device ${dev}`;
    this.device = owned.use(new DeviceFrontend(frontend, { name, notifiers, hasBackendChannel: true }));
  }

  /** The sections of a commit, as the listener of this device is told them. */
  commit({ flat, regions, started }: RecordedCommit, memory: RecordedMemory): void {
    const { listener } = this.device;
    if (flat !== undefined) {
      const next = new Map(flat.map((row) => [String(row), memory.section(row)]));
      for (const [row, section] of this.#flat) if (!next.has(row)) listener.regionDel(section);
      for (const [row, section] of next) if (!this.#flat.has(row)) listener.regionAdd(section);
      this.#flat = next;
    }
    listener.commit();
    if (regions === undefined) return;
    const ours = listener.regions.map(({ section, start, size, offset }) =>
      [section.region.name, start, size, section.region.block!.hostAddress! + offset].join(),
    );
    if (ours.join(' ') !== regions.map((row) => row.join()).join(' '))
      throw new Difference(`regions are ${ours.join(' ')}, QEMU's ${regions.join(' ')}`);
    if (this.device.isStarted !== (started === 1) && !this.peer.hasClosed)
      throw new Difference(`a commit finds the device started: ${this.device.isStarted}, in QEMU ${started}`);
  }

  /** A message that is not there yet: either it shows what somebody wanted, or we should have sent it. */
  cause(message: RecordedMessage, index: number): void {
    this.peer.drain();
    if (this.peer.has(message) || this.peer.hasClosed) return;
    const { name } = message;
    const start = name === 'SET_VRING_CALL' ? this.#startAfter(index) : -1;
    if (start >= 0) this.start(start);
    else if (name === 'RESET_DEVICE') this.device.reset();
    else if (name === 'SET_LOG_BASE') this.device.startLog();
    else if (name === 'SET_FEATURES') this.device.stopLog();
    else if (name === 'SET_DEVICE_STATE_FD') this.#transferState();
    else if (name === 'CHECK_DEVICE_STATE') this.device.finishState();
    this.peer.drain();
    if (!this.peer.has(message)) throw new Difference(`message ${message.n}: QEMU sends ${name}, we nothing`);
  }

  /** @param index of the event; the messages before it may have brought it about already */
  start(index: number): void {
    if (this.#startedBy === index) return;
    this.#startedBy = index;
    this.#hasRun = true;
    const messages = this.#messagesOfStart(index);
    const features = BigInt(messages.find(({ name }) => name === 'SET_FEATURES')?.u64 ?? 0);
    if (hasBit(features, VHOST_F_LOG_ALL)) this.device.startLog();
    else this.device.stopLog();
    let apart = 0n; // user address less guest address, where memory is not shared and we have no region to know it from
    const queues = Array.from({ length: this.#queues }, (_, queue) => {
      const num = messages.find(({ name, index: of }) => name === 'SET_VRING_NUM' && of === queue)?.num ?? 1;
      const ring = this.#ringOf(
        messages.find(({ name, index: of }) => name === 'SET_VRING_ADDR' && of === queue),
      );
      apart = ring.apart;
      return { num, ...ring, kickFd: this.#eventfd(), callFd: this.#eventfd() };
    });
    const userAddress = (at: bigint, size: number): bigint => this.device.userAddress(at, size) ?? at + apart;
    this.device.start({ features: features & ~(1n << BigInt(VHOST_F_LOG_ALL)), queues, userAddress });
  }

  #startAfter(index: number): number {
    for (let at = index; at < this.#events.length; at += 1) {
      const event = this.#events[at]!;
      if (!('dev' in event) || event.dev !== this.#dev) continue;
      if (event.ev === 'start') return at;
      if (event.ev !== 'msg' || event.name !== 'SET_VRING_CALL') return -1;
    }
    return -1;
  }

  #messagesOfStart(index: number): RecordedMessage[] {
    const messages: RecordedMessage[] = [];
    for (const event of this.#events.slice(index + 1)) {
      if (!('dev' in event) || event.dev !== this.#dev) continue;
      if (event.ev !== 'msg') break;
      messages.push(event);
    }
    return messages;
  }

  /** Guest addresses: the used ring's is recorded, the others are as far from it as they are in user addresses. */
  #ringOf(
    message: RecordedMessage | undefined,
  ): Record<'descGpa' | 'availGpa' | 'usedGpa' | 'apart', bigint> {
    const usedGpa = BigInt(message?.log_guest_addr ?? 0);
    const hex = message === undefined ? undefined : this.#frames?.get(message.n)?.hex;
    if (hex === undefined) return { descGpa: usedGpa, availGpa: usedGpa, usedGpa, apart: 0n };
    const address = VringAddr.decode(Buffer.from(hex, 'hex').subarray(VhostUserHeader.size));
    const apart = address.usedUserAddr - usedGpa;
    return { descGpa: address.descUserAddr - apart, availGpa: address.availUserAddr - apart, usedGpa, apart };
  }

  #transferState(): void {
    using pipe = openFifo();
    this.device.transferState(this.#hasRun ? 'save' : 'load', pipe.fd);
  }

  #eventfd(): number {
    return this.#owned.use(new OwnedFd(createEventfd())).fd;
  }
}

const MKFIFO = 'mkfifo';

/** A pipe with a name, as there is no other to be had here. */
function openFifo(): OwnedFd {
  const directory = mkdtempSync(join(tmpdir(), 'fifo-'));
  const path = join(directory, 'fifo');
  execFileSync(MKFIFO, [path]);
  const fd = new OwnedFd(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  rmSync(directory, { recursive: true });
  return fd;
}
