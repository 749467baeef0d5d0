/**
 * Requests of a back-end to its front-end, on the channel of SET_BACKEND_REQ_FD: read, checked, handed to whoever serves them, answered.
 *
 *     unknown, unserved, not negotiated, malformed payload, refused by its handler ──▶ answered 1, if an answer is wanted
 *     framing that cannot be trusted, half a message for too long, a peer that does not read ──▶ the channel is closed
 *
 * Neither touches the connection itself: the device keeps working. vhost-user spec § Back-end communication.
 */
import { CodecError } from '../../protocol/struct.ts';
import {
  type BackendRequestName,
  hasVersion,
  isReply,
  needsReply,
  type ProtocolFeature,
  REPLY_FLAGS,
} from '../../protocol/vhost-user.ts';
import { type Payload, U64 } from '../../protocol/vhost-user-payloads.ts';
import { BACKEND_REQUESTS, backendRow, type BackendRow } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { MessageSocket, socketPair } from '../host/unix-socket.ts';
import { Connection, type Message } from './connection.ts';
import type { VhostUserFrontend } from './frontend.ts';

type ValueOf<Name extends BackendRequestName> =
  (typeof BACKEND_REQUESTS)[Name]['payload'] extends Payload<infer T> ? T : never;

/**
 * Serves one kind of request, at once. It may be called while the front-end waits for the back-end, and must not make requests of that
 * back-end itself: BAD_STATE.
 *
 * @param fds what came with the request; taken out by whoever keeps them, else closed
 * @returns SHARED_OBJECT_LOOKUP: the descriptor to answer with, which is borrowed. Nothing else is looked at
 * @throws {ProtocolError} the request is refused
 */
type Serve<T> = (value: T, fds: OwnedFd[]) => number | undefined | void;

/** Who serves what. What nobody serves is refused, and a protocol feature it needs is not negotiated. */
export type BackendRequestHandlers = { readonly [Name in BackendRequestName]?: Serve<ValueOf<Name>> };

export interface BackendRequestOptions {
  readonly handlers: BackendRequestHandlers;
  readonly hasProtocolFeature: (feature: ProtocolFeature) => boolean;
  /** How long a message may be incomplete, and the peer not read an answer. Default 1000. */
  readonly timeoutMs?: number;
}

/** The protocol features that requests with a handler need. */
export const featuresServed = (handlers: BackendRequestHandlers): ProtocolFeature[] =>
  (Object.keys(handlers) as BackendRequestName[]).flatMap((name) => BACKEND_REQUESTS[name].feature ?? []);

const TIMEOUT_MS = 1000;
/** Requests served in one go: a back-end that sends without end must not hold our thread. */
const BATCH = 64;
/** Answers: what a request that is refused gets, as any value but zero, and what others get. */
const REFUSED = 1n;
const DONE = 0n;

export class BackendRequestServer implements Disposable {
  readonly #connection: Connection;
  readonly #handlers: ReadonlyMap<string, Serve<unknown>>;
  readonly #options: BackendRequestOptions;
  readonly #timeoutMs: number;
  #isOpen = true;
  #failure: ProtocolError | undefined;

  /** @param socket our end of the channel; owned from here on */
  constructor(socket: OwnedFd, options: BackendRequestOptions) {
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#connection = new Connection(new MessageSocket(socket, { sendTimeoutMs: this.#timeoutMs }));
    this.#handlers = new Map(Object.entries(options.handlers) as [string, Serve<unknown>][]);
    this.#options = options;
  }

  /** To wait on until it can be read, lent; undefined once the channel is closed. */
  get fd(): number | undefined {
    return this.#isOpen ? this.#connection.fd : undefined;
  }

  /** Why we closed the channel; undefined as long as it is open, and if the back-end or we closed it in peace. */
  get failure(): ProtocolError | undefined {
    return this.#failure;
  }

  /**
   * Serves what has come. Never waits, never throws on what a back-end sends.
   *
   * @returns milliseconds after which to call again, even if nothing can be read: 0 there is more, −1 any time will do
   */
  serve(): number {
    try {
      for (let count = 0; count < BATCH && this.#isOpen; count += 1) {
        const message = this.#connection.receive();
        if (message === 'wait') return this.#untilOverdue();
        if (message === 'closed') this.close();
        else this.#serveOne(message);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#failure = error;
      this.close();
    }
    return this.#isOpen ? 0 : -1;
  }

  /** Closes the channel. Idempotent. */
  close(): void {
    this.#isOpen = false;
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @throws {ProtocolError} TIMEOUT */
  #untilOverdue(): number {
    const { pendingMs } = this.#connection;
    if (pendingMs === 0) return -1;
    const left = Math.ceil(this.#timeoutMs - pendingMs);
    if (left > 0) return left;
    throw new ProtocolError('TIMEOUT', `half a back-end request for more than ${this.#timeoutMs} ms`);
  }

  /** @throws {ProtocolError} BAD_HEADER, SYSTEM: the channel cannot be used any more */
  #serveOne({ request, flags, payload, fds }: Message): void {
    try {
      const row = backendRow(request);
      if (!hasVersion(flags) || isReply(flags))
        throw new ProtocolError(
          'BAD_HEADER',
          `back-end request ${row?.name ?? request}, flags ${flags}: allowed version 1, and no reply`,
        );
      const answer = this.#answerTo(row, payload, fds);
      const isAnswered = needsReply(flags) || (row !== undefined && row.reply !== 'ack');
      if (isAnswered)
        this.#connection.send(
          request,
          REPLY_FLAGS,
          U64.encode(answer.value),
          answer.fd === undefined ? [] : [answer.fd],
        );
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  #answerTo(
    row: BackendRow | undefined,
    payload: Uint8Array,
    fds: OwnedFd[],
  ): { readonly value: bigint; readonly fd?: number } {
    try {
      if (row === undefined) return { value: REFUSED };
      const fd = this.#handlerOf(row, fds.length)(row.payload.decode(payload), fds);
      if (row.name !== 'SHARED_OBJECT_LOOKUP') return { value: DONE };
      return fd === undefined ? { value: REFUSED } : { value: DONE, fd };
    } catch (error) {
      if (!(error instanceof ProtocolError || error instanceof CodecError)) throw error;
      return { value: REFUSED };
    }
  }

  /** @throws {ProtocolError} NOT_SUPPORTED, BAD_STATE, BAD_FDS */
  #handlerOf(row: BackendRow, fds: number): Serve<unknown> {
    const handler = this.#handlers.get(row.name);
    if (handler === undefined) throw new ProtocolError('NOT_SUPPORTED', `${row.name} is not served`);
    if (row.feature !== undefined && !this.#options.hasProtocolFeature(row.feature))
      throw new ProtocolError('BAD_STATE', `${row.name}: bit ${row.feature} was not negotiated`);
    if (fds < row.fds.min || fds > row.fds.max)
      throw new ProtocolError(
        'BAD_FDS',
        `${row.name}: ${fds} descriptors, allowed ${row.fds.min}..${row.fds.max}`,
      );
    return handler;
  }
}

/** Both ends of the channel of a device, from one connection to the next: ours is served, the back-end's is kept until it has been sent. */
export class BackendRequestChannel implements Disposable {
  readonly #handlers: BackendRequestHandlers;
  #server: BackendRequestServer | undefined;
  #unsent: OwnedFd | undefined;

  constructor(handlers: BackendRequestHandlers) {
    this.#handlers = handlers;
  }

  get server(): BackendRequestServer | undefined {
    return this.#server;
  }

  /** The back-end's end, lent; undefined once it was sent. */
  get unsent(): number | undefined {
    return this.#unsent?.fd;
  }

  /** Makes a new one for a connection, which serves it whenever it waits. @returns the back-end's end, lent */
  open(frontend: VhostUserFrontend): number {
    this.close();
    const [ours, theirs] = socketPair();
    this.#unsent = theirs;
    this.#server = new BackendRequestServer(ours, {
      handlers: this.#handlers,
      hasProtocolFeature: (feature) => frontend.hasProtocolFeature(feature),
    });
    frontend.attend(this.#server);
    return theirs.fd;
  }

  /** The back-end has its end: as long as we have it, too, the channel would not end with the back-end. */
  sent(): void {
    this.#unsent?.close();
    this.#unsent = undefined;
  }

  /** Idempotent. */
  close(): void {
    this.#server?.close();
    this.#server = undefined;
    this.sent();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
