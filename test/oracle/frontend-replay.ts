/**
 * Does a recorded session again: the inputs QEMU had go into our device front-ends, and what they send is compared with what QEMU sent.
 *
 * Level 1 feeds the sections that each commit showed QEMU's vhost devices. Level 2 feeds what memory devices went through into ours: their
 * sections have to come out, and the messages from those.
 */
import { basename } from 'node:path';
import { VhostUserHeader } from '../../protocol/vhost-user.ts';
import { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import { MemoryDeviceError, ProtocolError } from '../../src/errors.ts';
import { Cleanup } from '../../src/host/owned-fd.ts';
import { DeviceInputs, SectionInputs, type MemoryInputs } from './frontend-inputs.ts';
import { Beyond, Difference } from './frontend-peer.ts';
import {
  loadRecording,
  type RecordedEvent,
  type RecordedFrame,
  type RecordedMessage,
  type Recording,
} from './frontend-recording.ts';
import { ReplayedDevice } from './frontend-replayed-device.ts';

/** What guest memory is taken from: the sections of the recording, or our own memory devices. */
export type Level = 1 | 2;
export const LEVELS: readonly Level[] = [1, 2];

export interface Outcome {
  readonly name: string;
  readonly messages: number;
  /** Why it can be compared only so far: the recorded peer died. */
  readonly cut?: string;
  readonly difference?: string;
  /** What QEMU did against its own rules, and is an input here. */
  readonly forced: readonly string[];
}

/** @returns whatever is wrong with a recording as its difference */
export function replay(path: string, level: Level): Outcome {
  const name = basename(path);
  try {
    const recording = loadRecording(path);
    using replaying = new Replay(recording, level);
    return { name, ...outcomeOf(replaying, recording) };
  } catch (error) {
    return { name, messages: 0, forced: [], difference: `cannot be replayed: ${textOf(error)}` };
  }
}

function outcomeOf(replaying: Replay, { isCrash }: Recording): Omit<Outcome, 'name'> {
  try {
    replaying.run();
  } catch (error) {
    const { messages, forced } = replaying;
    if (error instanceof Beyond && isCrash)
      return { messages, forced, cut: `QEMU dies here; ${error.message}` };
    const isExpected =
      error instanceof Difference || error instanceof ProtocolError || error instanceof MemoryDeviceError;
    return { messages, forced, difference: isExpected ? error.message : textOf(error) };
  }
  const { messages, forced, hasDead } = replaying;
  return { messages, forced, ...(hasDead ? { cut: 'the back-end dies' } : {}) };
}

const textOf = (error: unknown): string =>
  error instanceof Error ? `${error.name}: ${error.message}` : String(error);

class Replay implements Disposable {
  readonly #recording: Recording;
  readonly #owned = new Cleanup();
  readonly #memory: MemoryInputs;
  readonly #devices = new Map<number, ReplayedDevice>();

  constructor(recording: Recording, level: Level) {
    this.#recording = recording;
    const Inputs = level === 1 ? SectionInputs : DeviceInputs;
    this.#memory = new Inputs(recording, this.#owned);
  }

  get messages(): number {
    return [...this.#devices.values()].reduce((sum, { peer }) => sum + peer.received, 0);
  }

  get forced(): readonly string[] {
    return this.#memory.forced;
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
    if (!('dev' in event)) return this.#memory.event(event, index);
    if (event.ev === 'vhost_init') return this.#connect(event.dev);
    const device = this.#devices.get(event.dev);
    if (device === undefined) throw new Difference(`device ${event.dev}: was never connected`);
    if (event.ev === 'msg') return device.cause(event, index);
    if (event.ev === 'start') return device.start(index);
    if (event.ev === 'stop') return device.device.stop();
    if (event.ev === 'commit') {
      this.#memory.commit(event, index, device);
      return device.check(event);
    }
    if (event.ev !== 'cleanup') throw new Difference(`event ${index}: ${String(event['ev'])} is not known`);
    device.device.close();
    return this.#memory.disconnect(event.dev, device);
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
    const device = new ReplayedDevice(this.#recording, dev, messages, frames, this.#owned);
    this.#devices.set(dev, device);
    device.device.connect();
    this.#memory.connect(dev, device);
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
