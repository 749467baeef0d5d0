/**
 * A vhost device of a recorded session, done again: our device front-end, and the recorded back-end at the other end of its socket.
 *
 * What a guest or an operator decides and only the messages show is taken from them: features, ring addresses and sizes, resets, the begin
 * and end of logging, state transfer.
 */
import { execFileSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VHOST_F_LOG_ALL, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import { hasBit } from '../../protocol/bits.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd, type Cleanup } from '../../src/host/owned-fd.ts';
import { socketPair } from '../../src/host/unix-socket.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import { DeviceFrontend } from '../../src/vhost/frontend-device.ts';
import { Difference, RecordedPeer } from './frontend-peer.ts';
import type {
  RecordedCommit,
  RecordedEvent,
  RecordedFrame,
  RecordedMessage,
  Recording,
} from './frontend-recording.ts';

export class ReplayedDevice {
  readonly peer: RecordedPeer;
  readonly device: DeviceFrontend;
  readonly #events: readonly RecordedEvent[];
  readonly #dev: number;
  readonly #frames: ReadonlyMap<number, RecordedFrame> | undefined;
  readonly #queues: number;
  /** The machine came by migration. */
  readonly #isIncoming: boolean;
  readonly #owned: Cleanup;
  #startedBy = -1;
  #hasRun = false;

  constructor(
    { events, qemu }: Recording,
    dev: number,
    messages: readonly RecordedMessage[],
    frames: ReadonlyMap<number, RecordedFrame> | undefined,
    owned: Cleanup,
  ) {
    this.#events = events;
    this.#isIncoming = qemu.includes('-incoming');
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

  /** What a commit has come to: regions after folding, and whether they are told at once. @throws {Difference} */
  check({ regions, started }: RecordedCommit): void {
    if (regions === undefined) return;
    const ours = this.device.listener.regions.map(({ section, start, size, offset }) =>
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
    const isFirst = !this.#hasRun;
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
    const setup = { features: features & ~(1n << BigInt(VHOST_F_LOG_ALL)), queues, userAddress };
    // where the queues of a machine that comes by migration are is in what came with it, which is not recorded
    const bases = isFirst && this.#isIncoming ? this.#basesIn(messages) : undefined;
    this.device.start(bases === undefined ? setup : { ...setup, bases });
  }

  #basesIn(messages: readonly RecordedMessage[]): number[] {
    return Array.from(
      { length: this.#queues },
      (_, queue) =>
        messages.find(({ name, index }) => name === 'SET_VRING_BASE' && index === queue)?.num ?? 0,
    );
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
