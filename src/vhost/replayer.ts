/**
 * Plays the front-end's side of a recording: sends what it sent, with descriptors like those it sent, and compares the
 * kind of each reply with the recorded one. It waits for a reply wherever one is due, and does not hurry or wait else.
 */
import { hasBit } from '../../protocol/bits.ts';
import {
  FrontendRequest,
  needsReply,
  ProtocolFeature,
  REPLY_FLAGS,
  VhostUserHeader,
} from '../../protocol/vhost-user.ts';
import { U64 } from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { waitReadable } from '../host/poll.ts';
import { MessageSocket } from '../host/unix-socket.ts';
import { hex } from '../units.ts';
import { Connection, type Message } from './connection.ts';
import { protocolFeatureNames, requestName, virtioFeatureNames } from './conversation-names.ts';
import { decoded } from './conversation-payload.ts';
import type { MessageRecord } from './conversation-record.ts';
import { ReplayFds } from './replay-fds.ts';
import { type ReplayFinding, type ReplayScript, replyKind } from './replay-script.ts';

export interface ReplayerOptions {
  /** Send feature bits as recorded, and requests whatever they need. */
  readonly isExact: boolean;
  readonly timeoutMs: number;
  /** poll(2) unless the peer lives in this thread. */
  readonly wait?: (fd: number, timeoutMs: number) => void;
}

export interface ReplayReport {
  readonly sent: number;
  readonly skipped: number;
  readonly replies: number;
  readonly differences: number;
  readonly findings: readonly ReplayFinding[];
}

/** How long a back-end may take to hang up where it did so in the recording. */
const HANG_UP_MS = 1000;

export class Replayer implements Disposable {
  readonly #connection: Connection;
  readonly #options: ReplayerOptions;
  readonly #wait: (fd: number, timeoutMs: number) => void;
  readonly #fds = new ReplayFds();
  #backendChannel: Connection | undefined;
  /** What this back-end offers. */
  #features: bigint | undefined;
  #protocolFeatures: bigint | undefined;
  /** What was negotiated with it. */
  #negotiated = 0n;
  #findings: ReplayFinding[] = [];
  #counts = { sent: 0, skipped: 0, replies: 0 };

  /** @param socket connected to a back-end; owned from here on */
  constructor(socket: OwnedFd, options: ReplayerOptions) {
    this.#options = options;
    this.#wait = options.wait ?? waitReadable;
    this.#connection = new Connection(new MessageSocket(socket, { sendTimeoutMs: options.timeoutMs }));
  }

  /** Once. */
  play({ steps, endsByBackend }: ReplayScript): ReplayReport {
    let last = steps[0]!.message;
    try {
      for (const { message, reply } of steps) {
        last = message;
        this.#step(message, reply);
      }
      if (endsByBackend) this.#expectEnd(last);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      const hasHungUp = error.code === 'CLOSED' || error.code === 'SYSTEM';
      const isAsRecorded = hasHungUp && endsByBackend && last === steps.at(-1)!.message;
      const text = hasHungUp ? `the back-end hung up${isAsRecorded ? ', as recorded' : ''}` : error.message;
      this.#find(last, !isAsRecorded, text);
    }
    const differences = this.#findings.filter(({ isDifference }) => isDifference).length;
    return { ...this.#counts, differences, findings: this.#findings };
  }

  [Symbol.dispose](): void {
    this.#connection.close();
    this.#backendChannel?.close();
    this.#fds[Symbol.dispose]();
  }

  #step(message: MessageRecord, recorded: MessageRecord | undefined): void {
    const { request, flags } = VhostUserHeader.decode(message.octets);
    const row = frontendRow(request);
    const { feature } = row ?? {};
    if (!this.#options.isExact && feature !== undefined && !hasBit(this.#negotiated, feature)) {
      this.#counts.skipped += 1;
      this.#find(
        message,
        false,
        `left out: this back-end has no ${protocolFeatureNames(1n << BigInt(feature)).join('')}`,
      );
      return;
    }
    const payload = this.#payload(message, request);
    this.#connection.send(request, flags, payload, this.#descriptors(message));
    this.#counts.sent += 1;
    if (request === FrontendRequest.SET_PROTOCOL_FEATURES) this.#negotiated = decoded(U64, payload) ?? 0n;
    if (request === FrontendRequest.SET_BACKEND_REQ_FD) this.#takeBackendChannel();
    const isAck = row === undefined || row.reply === 'ack';
    const isDue = isAck ? needsReply(flags) && hasBit(this.#negotiated, ProtocolFeature.REPLY_ACK) : true;
    this.#answerBackend();
    if (!isDue && recorded === undefined) return;
    this.#compare(message, recorded, isAck);
  }

  #compare(message: MessageRecord, recorded: MessageRecord | undefined, isAck: boolean): void {
    const deadline = this.#options.timeoutMs;
    const reply = this.#receive(deadline);
    if (reply === undefined) {
      if (recorded !== undefined)
        this.#find(
          message,
          true,
          `no reply in ${deadline} ms; recorded: ${replyKind(recorded.octets, isAck)}`,
        );
      return;
    }
    this.#counts.replies += 1;
    const header = VhostUserHeader.encode({
      request: reply.request,
      flags: reply.flags,
      size: reply.payload.length,
    });
    const octets = Buffer.concat([header, reply.payload]);
    for (const fd of reply.fds) fd.close();
    this.#learn(reply);
    const kind = replyKind(octets, isAck);
    const was = recorded === undefined ? 'no reply' : replyKind(recorded.octets, isAck);
    if (kind !== was) this.#find(message, true, `${kind}; recorded: ${was}`);
    else if (recorded !== undefined && !octets.equals(recorded.octets))
      this.#find(message, false, `${valueOf(octets)}; recorded: ${valueOf(recorded.octets)}`);
  }

  /** Feature bits are cut to what is offered here, unless everything is to be exact. */
  #payload(message: MessageRecord, request: number): Uint8Array {
    const payload = message.octets.subarray(VhostUserHeader.size);
    const isProtocol = request === FrontendRequest.SET_PROTOCOL_FEATURES;
    const offered = isProtocol ? this.#protocolFeatures : this.#features;
    const isFeatures = isProtocol || request === FrontendRequest.SET_FEATURES;
    const wanted = isFeatures ? decoded(U64, payload) : undefined;
    if (this.#options.isExact || offered === undefined || wanted === undefined) return payload;
    const missing = wanted & ~offered;
    if (missing === 0n) return payload;
    const names = (isProtocol ? protocolFeatureNames : virtioFeatureNames)(missing);
    this.#find(message, false, `without ${names.join(' ')}, which this back-end does not offer`);
    return U64.encode(wanted & offered);
  }

  #learn({ request, flags, payload }: Message): void {
    if (flags !== REPLY_FLAGS) return;
    const value = decoded(U64, payload);
    if (request === FrontendRequest.GET_FEATURES) this.#features = value;
    if (request === FrontendRequest.GET_PROTOCOL_FEATURES) this.#protocolFeatures = value;
  }

  #descriptors(message: MessageRecord): readonly number[] {
    return message.fds.flatMap((description) => {
      const fd = this.#fds.recreate(description);
      if (fd === undefined)
        this.#find(message, false, `a descriptor of kind ${description.kind} cannot be made again`);
      return fd === undefined ? [] : [fd];
    });
  }

  #takeBackendChannel(): void {
    const socket = this.#fds.takeSocket();
    if (socket === undefined) return;
    this.#backendChannel?.close();
    this.#backendChannel = new Connection(new MessageSocket(socket));
  }

  /** Requests of the back-end are acknowledged if they ask for it: a front-end that does what it is asked. */
  #answerBackend(): void {
    const channel = this.#backendChannel;
    if (channel === undefined) return;
    try {
      for (let message = channel.receive(); typeof message !== 'string'; message = channel.receive()) {
        for (const fd of message.fds) fd.close();
        if (needsReply(message.flags)) channel.send(message.request, REPLY_FLAGS, U64.encode(0n));
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      channel.close();
      this.#backendChannel = undefined;
    }
  }

  /** @returns undefined if the time is over. @throws {ProtocolError} CLOSED, or what `Connection` throws */
  #receive(timeoutMs: number): Message | undefined {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const message = this.#connection.receive();
      if (message === 'closed') throw new ProtocolError('CLOSED', 'the back-end hung up');
      if (message !== 'wait') return message;
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0) return undefined;
      this.#wait(this.#connection.fd, left);
      this.#answerBackend();
    }
  }

  #expectEnd(last: MessageRecord): void {
    const message = this.#receive(Math.min(HANG_UP_MS, this.#options.timeoutMs));
    if (message !== undefined) for (const fd of message.fds) fd.close();
    this.#find(last, true, 'the back-end goes on; in the recording it hung up');
  }

  #find(message: MessageRecord, isDifference: boolean, text: string): void {
    const name = requestName('main', VhostUserHeader.decode(message.octets).request);
    this.#findings.push({ n: message.n, name, isDifference, text });
  }
}

/** A reply's payload: a number if it is one. */
function valueOf(octets: Uint8Array): string {
  const payload = octets.subarray(VhostUserHeader.size);
  const value = decoded(U64, payload);
  return value === undefined ? Buffer.from(payload).toString('hex') : hex(value);
}
