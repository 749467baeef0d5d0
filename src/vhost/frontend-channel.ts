/**
 * The synchronous exchange under the front-end: a request out, its answer in, each wait with a deadline.
 *
 * Nothing is sent before the answer to the last request has come, so an answer can only belong to the request at hand.
 * An error says which messages went before.
 */
import { performance } from 'node:perf_hooks';
import { CodecError } from '../../protocol/struct.ts';
import {
  FrontendRequest,
  type FrontendRequestName,
  REPLY_FLAGS,
  requestFlags,
} from '../../protocol/vhost-user.ts';
import { type Payload, U64 } from '../../protocol/vhost-user-payloads.ts';
import type { RequestRow } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError, type ProtocolErrorCode } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { waitReadable } from '../host/poll.ts';
import { MessageSocket } from '../host/unix-socket.ts';
import { Connection, type Message } from './connection.ts';

const TIMEOUT_MS = 5000;
/** Messages an error shows. */
const SHOWN_MESSAGES = 12;
/** After these, which message the next answer would belong to is not known. */
const FATAL: ReadonlySet<ProtocolErrorCode> = new Set([
  'TIMEOUT',
  'CLOSED',
  'BAD_HEADER',
  'BAD_FDS',
  'SYSTEM',
]);

/**
 * How a front-end behaves where it has a choice. `qemu` is QEMU to the octet, with its defects; `strict` waits until every change of memory is
 * done and lets nothing fail in silence.
 */
export type FrontendMode = 'strict' | 'qemu';

export interface FrontendOptions {
  /** How long an answer may take. */
  readonly timeoutMs?: number;
  /**
   * Waits until the descriptor, or the other one, can be read, at most so many milliseconds; poll(2) unless the peer lives in this thread.
   *
   * @param other the channel for the back-end's requests, if there is one
   */
  readonly wait?: (fd: number, timeoutMs: number, other?: number) => void;
  /** Default `strict`. */
  readonly mode?: FrontendMode;
}

/** Something else that has to be served while an answer is waited for, or the back-end may wait for us. */
export interface Attended {
  /** Undefined: nothing to wait for. */
  readonly fd: number | undefined;
  /** Never waits. @returns milliseconds after which to call again; −1 any time will do */
  serve(): number;
}

export class FrontendChannel implements Disposable {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #wait: (fd: number, timeoutMs: number, other?: number) => void;
  readonly #recent: string[] = [];
  #failure: ProtocolError | undefined;
  #attended: Attended | undefined;
  #isWaiting = false;

  /** @param socket connected to a back-end; owned from here on */
  constructor(socket: OwnedFd, { timeoutMs = TIMEOUT_MS, wait = waitReadable }: FrontendOptions) {
    this.#connection = new Connection(new MessageSocket(socket, { sendTimeoutMs: timeoutMs }));
    this.#timeoutMs = timeoutMs;
    this.#wait = wait;
  }

  /** Why the connection was given up: every further request throws CLOSED, caused by this. */
  get failure(): ProtocolError | undefined {
    return this.#failure;
  }

  /** From now on `attended` is served during every wait. What it calls must not send: BAD_STATE. */
  attend(attended: Attended | undefined): void {
    this.#attended = attended;
  }

  /**
   * Sends a request that is always answered, and waits for the answer.
   *
   * @param fds borrowed
   * @throws {ProtocolError} TIMEOUT, CLOSED; BAD_HEADER, BAD_SIZE or BAD_VALUE if the answer is not one; SYSTEM
   */
  ask<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[] = [],
  ): A {
    if (row.reply === 'ack') throw new TypeError(`${row.name} has no answer of its own`);
    this.send(row, value, fds);
    return decode(row.name, row.reply, this.receive(row.name).payload);
  }

  /** As `ask`, where a descriptor may come with the answer. @returns it: the caller's; others are closed */
  askForFd<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
  ): { readonly answer: A; readonly fd: OwnedFd | undefined } {
    if (row.reply === 'ack') throw new TypeError(`${row.name} has no answer of its own`);
    this.send(row, value, []);
    const { payload, fds } = this.#receiveMessage(row.name);
    const fd = fds.shift();
    for (const surplus of fds) surplus.close();
    try {
      return { answer: decode(row.name, row.reply, payload), fd };
    } catch (error) {
      fd?.close();
      throw error;
    }
  }

  /**
   * Sends a request with NEED_REPLY and waits for the acknowledgement; REPLY_ACK was negotiated.
   *
   * @throws {ProtocolError} REFUSED, and what `ask` throws; BAD_SIZE ends the connection here: whether it was done is not known
   */
  tell<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[],
  ): void {
    this.send(row, value, fds, true);
    const { payload } = this.receive(row.name, U64.minSize);
    if (payload.length !== U64.minSize)
      throw this.#givenUp(
        new ProtocolError(
          'BAD_SIZE',
          `answer to ${row.name}: ${payload.length} octets, allowed ${U64.minSize}`,
        ),
      );
    if (payload.every((octet) => octet === 0)) return;
    const result = decode(row.name, U64, payload);
    throw new ProtocolError('REFUSED', `${row.name}: the back-end answered ${result}`);
  }

  /** Sends a request and does not wait. @param fds borrowed */
  send<Name extends FrontendRequestName, T, A>(
    row: RequestRow<Name, T, A>,
    value: T,
    fds: readonly number[],
    needReply = false,
  ): void {
    if (this.#failure !== undefined)
      throw new ProtocolError('CLOSED', `${row.name}: the connection was given up`, { cause: this.#failure });
    if (this.#isWaiting)
      throw new ProtocolError('BAD_STATE', `${row.name} while the answer to another request is awaited`);
    const octets = row.payload.encode(value);
    this.#trying(() => {
      this.#expectNothing(`before ${row.name}`);
      this.#note(`> ${row.name}${needReply ? ' (needs reply)' : ''}`);
      this.#connection.send(FrontendRequest[row.name], requestFlags(needReply), octets, fds);
    });
  }

  /** Looks, without waiting, whether the back-end has closed the connection or sent what nobody asked for. @returns `failure` */
  check(): ProtocolError | undefined {
    try {
      if (this.#failure === undefined) this.#trying(() => this.#expectNothing('while requests are served'));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
    }
    return this.#failure;
  }

  /** The answer to the request just sent. Descriptors in it are closed. @param expected octets it should have, if that is known */
  receive(name: FrontendRequestName, expected = 0): Message {
    const message = this.#receiveMessage(name, expected);
    for (const fd of message.fds) fd.close();
    return message;
  }

  /** Descriptors in the answer are the caller's. */
  #receiveMessage(name: FrontendRequestName, expected = 0): Message {
    this.#isWaiting = true;
    try {
      return this.#trying(() => this.#receive(name, expected));
    } finally {
      this.#isWaiting = false;
    }
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** An answer that nobody waits for would be taken for that to the request at hand. */
  #expectNothing(when: string): void {
    if (waitReadable(this.#connection.fd, 0) === 0) return; // half of what reading costs
    const message = this.#connection.receive();
    if (message === 'wait' && this.#connection.pendingMs === 0) return;
    if (message === 'closed')
      throw new ProtocolError('CLOSED', `${when}: the back-end has closed the connection`);
    if (message === 'wait') throw new ProtocolError('BAD_HEADER', `${when}: a part of a message came`);
    for (const fd of message.fds) fd.close();
    this.#note(`< request ${message.request}, unasked for (${message.payload.length} bytes)`);
    throw new ProtocolError(
      'BAD_HEADER',
      `${when}: an answer nobody asked for, request ${message.request}, flags ${message.flags}`,
    );
  }

  #receive(name: FrontendRequestName, expected: number): Message {
    const deadline = performance.now() + this.#timeoutMs;
    for (;;) {
      // Before the first look, too: the answer to what was just sent is hardly ever there.
      this.#awaitOctets(name, deadline);
      const message = this.#connection.receive(expected);
      if (message === 'wait') continue;
      if (message === 'closed')
        throw new ProtocolError('CLOSED', `${name}: the back-end closed the connection`);
      this.#note(`< ${name} (${message.payload.length} bytes)`);
      if (message.request === FrontendRequest[name] && message.flags === REPLY_FLAGS) return message;
      for (const fd of message.fds) fd.close();
      throw new ProtocolError(
        'BAD_HEADER',
        `${name}: answer has request ${message.request}, flags ${message.flags}; allowed ${FrontendRequest[name]}, ${REPLY_FLAGS}`,
      );
    }
  }

  /** Serves the back-end's own requests meanwhile. @throws {ProtocolError} TIMEOUT */
  #awaitOctets(name: FrontendRequestName, deadline: number): void {
    const left = Math.ceil(deadline - performance.now());
    if (left <= 0) throw new ProtocolError('TIMEOUT', `${name}: no answer in ${this.#timeoutMs} ms`);
    const again = this.#attended?.serve() ?? -1;
    if (again !== 0)
      this.#wait(this.#connection.fd, again > 0 ? Math.min(again, left) : left, this.#attended?.fd);
  }

  /** Gives the connection up if what is tried leaves it where nobody can go on. */
  #trying<T>(attempt: () => T): T {
    try {
      return attempt();
    } catch (error) {
      if (error instanceof ProtocolError && FATAL.has(error.code)) throw this.#givenUp(error);
      throw error;
    }
  }

  #note(message: string): void {
    this.#recent.push(message);
    if (this.#recent.length > SHOWN_MESSAGES) this.#recent.shift();
  }

  /** Ends the connection for a reason, which then tells what went before. */
  #givenUp({ code, message, cause }: ProtocolError): ProtocolError {
    const text = `${message}; last messages: ${this.#recent.join(', ') || 'none'}`;
    const failure = new ProtocolError(code, text, { cause });
    this.#failure = failure;
    this.close();
    return failure;
  }
}

function decode<A>(name: string, payload: Payload<A>, octets: Uint8Array): A {
  try {
    return payload.decode(octets);
  } catch (cause) {
    if (cause instanceof CodecError) throw new ProtocolError(cause.code, `answer to ${name}`, { cause });
    throw cause;
  }
}
