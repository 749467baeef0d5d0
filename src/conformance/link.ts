/**
 * A raw connection to a back-end: sends any octets and descriptors, receives with deadlines, and checks nothing unless
 * asked to. It remembers what was negotiated on it, to know which answers are due.
 */
import { errnoName } from '../../protocol/errno.ts';
import { hasBit } from '../../protocol/bits.ts';
import { CodecError } from '../../protocol/struct.ts';
import {
  FrontendRequest,
  type FrontendRequestName,
  HeaderFlag,
  ProtocolFeature,
  REPLY_FLAGS,
  requestFlags,
  VHOST_USER_VRING_IDX_MASK,
  VhostUserHeader,
} from '../../protocol/vhost-user.ts';
import { U64, type Payload } from '../../protocol/vhost-user-payloads.ts';
import { FRONTEND_REQUESTS as R, type RequestRow } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { MessageSocket } from '../host/unix-socket.ts';
import { hex } from '../units.ts';
import { Connection } from '../vhost/connection.ts';
import type { Clock } from './clock.ts';
import type { Trace } from './trace.ts';
import { died, failed, hungUp } from './verdict.ts';

/** What came, or did not. Descriptors are the receiver's. */
export type Arrival =
  | {
      readonly kind: 'frame';
      readonly request: number;
      readonly flags: number;
      /** A copy. */
      readonly payload: Uint8Array;
      readonly fds: OwnedFd[];
    }
  | { readonly kind: 'closed'; readonly reason: string }
  | { readonly kind: 'silence'; readonly afterMs: number };

/** `unknown`: nobody can see it, as REPLY_ACK was not negotiated; the back-end goes on. */
export type Outcome = 'accepted' | 'refused' | 'unknown' | 'closed';

/** A message as it is; what is left out is as it should be. */
export interface RawFrame {
  readonly request: number;
  readonly payload?: Uint8Array;
  readonly flags?: number;
  /** The header's size field. */
  readonly size?: number;
}

interface SendOptions {
  /** Borrowed. */
  readonly fds?: readonly number[];
  /** Left out: asked for if REPLY_ACK was negotiated. */
  readonly needReply?: boolean;
}

export const octetsOf = ({ request, payload = new Uint8Array(0), flags, size }: RawFrame): Buffer =>
  Buffer.concat([
    VhostUserHeader.encode({ request, flags: flags ?? requestFlags(false), size: size ?? payload.length }),
    payload,
  ]);

export class Link implements Disposable {
  /** What SET_PROTOCOL_FEATURES and SET_FEATURES said last on this connection. */
  protocolFeatures = 0n;
  features = 0n;
  hasOwner = false;
  /** Rings that got a kick descriptor and were not stopped since. */
  readonly startedRings = new Set<number>();
  readonly #socket: MessageSocket;
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #trace: Trace;
  #isClosed = false;
  /** Messages that came while something else was waited for. */
  readonly #early: Extract<Arrival, { kind: 'frame' }>[] = [];

  /** @param socket owned from here on */
  constructor(socket: OwnedFd, clock: Clock, trace: Trace) {
    this.#socket = new MessageSocket(socket, { sendTimeoutMs: clock.timeoutMs });
    this.#connection = new Connection(this.#socket);
    this.#clock = clock;
    this.#trace = trace;
  }

  /** Either side has closed it. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  hasProtocolFeature(feature: ProtocolFeature): boolean {
    return hasBit(this.protocolFeatures, feature);
  }

  /** Sends octets as they are, in one piece. @param fds borrowed. @returns false if the back-end has closed */
  write(octets: Uint8Array, fds: readonly number[] = []): boolean {
    const result = this.#socket.send(octets, fds);
    if (result >= 0) return true;
    this.#trace.note(`  sendmsg: ${errnoName(-result)}`);
    return false;
  }

  /** Sends a message as it is. */
  sendFrame(frame: RawFrame, fds: readonly number[] = []): boolean {
    const { request, payload = new Uint8Array(0), flags = requestFlags(false) } = frame;
    this.#trace.sent({ request, flags, payload, fds: fds.length });
    if (frame.size !== undefined && frame.size !== payload.length)
      this.#trace.note(`  (header says ${frame.size} octets, ${payload.length} sent)`);
    return this.write(octetsOf(frame), fds);
  }

  /** Sends a request and waits for nothing. */
  send<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    { fds = [], needReply = false }: SendOptions = {},
  ): boolean {
    const request = FrontendRequest[row.name];
    this.#remember(row.name, value);
    return this.sendFrame(
      { request, flags: requestFlags(needReply), payload: row.payload.encode(value) },
      fds,
    );
  }

  /** The next message, or what came instead. */
  receive(timeoutMs: number = this.#clock.timeoutMs): Arrival {
    this.#clock.check();
    const startedAt = performance.now();
    for (;;) {
      const arrival = this.#early.shift() ?? this.#next();
      if (arrival !== undefined) return arrival;
      const elapsed = performance.now() - startedAt;
      const left = Math.min(timeoutMs - elapsed, this.#clock.left());
      if (left <= 0) {
        this.#clock.check();
        this.#trace.note(`  nothing came in ${Math.round(elapsed)} ms`);
        return { kind: 'silence', afterMs: Math.round(elapsed) };
      }
      this.#clock.wait(this.#socket.fd, Math.ceil(left));
    }
  }

  /**
   * Sends a request that is always answered.
   *
   * @returns the answer; its descriptors are closed
   * @throws {CaseEnd} if there is none, or another
   */
  ask<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A> & { readonly reply: Payload<A> },
    value: T,
    options: SendOptions = {},
  ): A {
    this.send(row, value, options);
    const payload = this.expectReply(row.name);
    try {
      return row.reply.decode(payload);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      return failed(`the answer to ${row.name} is wrong: ${error.message}`);
    }
  }

  /**
   * Sends a request that is answered only if that is asked for, and finds out what became of it: from the answer, or
   * else from a GET_FEATURES behind it.
   *
   * @throws {CaseEnd} `dead` if the back-end goes silent; `fail` if what it answers is no answer
   */
  tell<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    options: SendOptions = {},
  ): Outcome {
    const needReply = options.needReply ?? this.hasProtocolFeature(ProtocolFeature.REPLY_ACK);
    if (!this.send(row, value, { ...options, needReply })) return 'closed';
    if (!needReply) return this.isAnswering() ? 'unknown' : 'closed';
    const outcome = this.outcome(FrontendRequest[row.name]);
    if (outcome === 'refused' && row.name === 'SET_VRING_KICK') this.startedRings.delete(ringOf(value));
    return outcome;
  }

  /** As `tell`, for any frame whose answer is a u64 status. */
  tellFrame(frame: RawFrame, fds: readonly number[] = []): Outcome {
    const asks = ((frame.flags ?? 0) & HeaderFlag.NEED_REPLY) !== 0;
    if (!this.sendFrame(frame, fds)) return 'closed';
    if (asks) return this.outcome(frame.request);
    return this.isAnswering() ? 'unknown' : 'closed';
  }

  /** The request is accepted. @throws {CaseEnd} otherwise */
  accepts<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    options: SendOptions = {},
  ): void {
    const outcome = this.tell(row, value, options);
    if (outcome === 'closed') hungUp(`${row.name}: the connection was closed`);
    if (outcome === 'refused') failed(`${row.name} was refused`);
  }

  /** The request is refused, and the connection lives on. @throws {CaseEnd} otherwise */
  refuses<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    options: SendOptions & { readonly because?: string } = {},
  ): void {
    const outcome = this.tell(row, value, options);
    const why = options.because === undefined ? '' : ` (${options.because})`;
    if (outcome === 'closed') hungUp(`${row.name}${why}: the connection was closed`);
    if (outcome === 'accepted') failed(`${row.name}${why} was accepted${this.#andClosed()}`);
  }

  /** Accepted, refused or ignored: only the connection must live on. @throws {CaseEnd} otherwise */
  survives<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    options: SendOptions & { readonly because?: string } = {},
  ): Outcome {
    const outcome = this.tell(row, value, options);
    const why = options.because === undefined ? '' : ` (${options.because})`;
    if (outcome === 'closed') hungUp(`${row.name}${why}: the connection was closed`);
    return outcome;
  }

  /** Whether GET_FEATURES is answered; false if the back-end closes. @throws {CaseEnd} if it is silent or answers wrongly */
  isAnswering(): boolean {
    if (!this.send(R.GET_FEATURES, undefined)) return false;
    const arrival = this.receive();
    if (arrival.kind === 'closed') return false;
    this.#checkReply('GET_FEATURES', FrontendRequest.GET_FEATURES, arrival);
    return true;
  }

  /** The payload of the reply that is due. @throws {CaseEnd} otherwise */
  expectReply(name: FrontendRequestName): Uint8Array {
    const arrival = this.receive();
    if (arrival.kind === 'closed') hungUp(`${name}: no answer: ${arrival.reason}`);
    return this.#checkReply(name, FrontendRequest[name], arrival);
  }

  /** What a u64 status says. */
  outcome(request: number): Outcome {
    const arrival = this.receive();
    if (arrival.kind === 'closed') return 'closed';
    const payload = this.#checkReply(`request ${request}`, request, arrival);
    if (payload.length !== U64.minSize)
      failed(`the status of request ${request} has ${payload.length} octets, allowed 8`);
    return U64.decode(payload) === 0n ? 'accepted' : 'refused';
  }

  /** Whether the back-end has closed the connection. Does not wait; what has come is kept. */
  hasEnded(): boolean {
    while (!this.#isClosed) {
      const arrival = this.#next();
      if (arrival === undefined) break;
      if (arrival.kind === 'frame') this.#early.push(arrival);
    }
    return this.#isClosed;
  }

  close(): void {
    this.#isClosed = true;
    for (const { fds } of this.#early.splice(0)) for (const fd of fds) fd.close();
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** What is there now; undefined if nothing is. */
  #next(): Arrival | undefined {
    if (this.#isClosed) return { kind: 'closed', reason: 'the connection is closed' };
    let message;
    try {
      message = this.#connection.receive();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#closed(error.message);
    }
    if (message === 'wait') return undefined;
    if (message === 'closed') return this.#closed('the back-end closed the connection');
    const { request, flags, fds } = message;
    const payload = Uint8Array.from(message.payload);
    this.#trace.seen({ request, flags, payload, fds: fds.length });
    return { kind: 'frame', request, flags, payload, fds };
  }

  #closed(reason: string): Arrival {
    this.#trace.note(`  ${reason}`);
    this.close();
    return { kind: 'closed', reason };
  }

  /** Some say yes and hang up. */
  #andClosed(): string {
    return this.isAnswering() ? '' : ', and then the connection was closed';
  }

  #checkReply(name: string, request: number, arrival: Exclude<Arrival, { kind: 'closed' }>): Uint8Array {
    if (arrival.kind === 'silence') died(`${name}: no answer in ${arrival.afterMs} ms`);
    for (const fd of arrival.fds) fd.close();
    if (arrival.request !== request)
      failed(`${name}: the answer is to request ${arrival.request}, expected ${request}`);
    if ((arrival.flags & ~HeaderFlag.NEED_REPLY) !== REPLY_FLAGS)
      failed(`${name}: the answer has flags ${hex(arrival.flags)}, expected ${hex(REPLY_FLAGS)}`);
    return arrival.payload;
  }

  #remember(name: FrontendRequestName, value: unknown): void {
    if (name === 'SET_OWNER') this.hasOwner = true;
    if (name === 'SET_FEATURES') this.features = value as bigint;
    if (name === 'SET_PROTOCOL_FEATURES') this.protocolFeatures = value as bigint;
    if (name === 'SET_VRING_KICK') this.startedRings.add(ringOf(value));
    if (name === 'GET_VRING_BASE') this.startedRings.delete((value as { readonly index: number }).index);
  }
}

/** The ring of SET_VRING_KICK. */
const ringOf = (value: unknown): number => Number(value) & VHOST_USER_VRING_IDX_MASK;
