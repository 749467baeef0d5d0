/**
 * Framing: octets and file descriptors of a socket to messages and back. Knows the header, not the requests.
 *
 * Reads never go beyond the message at hand, because descriptors arrive with the octets they were sent with: whatever
 * comes while a message is read belongs to it. Octets may come in any pieces.
 */
import { errnoName } from '../../protocol/errno.ts';
import { performance } from 'node:perf_hooks';
import { SCM_MAX_FD, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import type { MessageSocket } from '../host/unix-socket.ts';

/**
 * Octets of payload we take in, to refuse what is too long and find the next message behind it. No message of the
 * specification is longer than 8,104 (a memory table with as many regions as fds fit). A header that claims more than
 * this lies, and where the next one starts cannot be known.
 */
const MAX_PAYLOAD_SIZE = 0x1_0000;

/** Most messages have no more than this. */
const USUAL_PAYLOAD_SIZE = 256;

const { offset: HEADER } = VhostUserHeader;

const EAGAIN = 11;
const EPIPE = 32;
const ECONNRESET = 104;

const ETIMEDOUT = 110;

function failureOf(call: string, errno: number): ProtocolError {
  const text = `${call}: ${errnoName(errno)}`;
  if (errno === EPIPE || errno === ECONNRESET)
    return new ProtocolError('CLOSED', `${text}: the peer has closed the connection`);
  if (errno === ETIMEDOUT) return new ProtocolError('TIMEOUT', `${text}: the peer does not read`);
  return new ProtocolError('SYSTEM', text);
}

export interface Message {
  readonly request: number;
  readonly flags: number;
  /** Valid until the next `receive`. */
  readonly payload: Uint8Array;
  /** Owned by who received the message: taken out one by one or closed. */
  readonly fds: OwnedFd[];
}

export class Connection implements Disposable {
  readonly #socket: MessageSocket;
  readonly #octets = new Uint8Array(VhostUserHeader.size + MAX_PAYLOAD_SIZE);
  readonly #incoming = new DataView(this.#octets.buffer);
  /** What is sent, as long as it fits. */
  readonly #sent = new Uint8Array(VhostUserHeader.size + USUAL_PAYLOAD_SIZE);
  readonly #outgoing = new DataView(this.#sent.buffer);
  /** Octets of the message at hand, and descriptors that came with them. */
  #received = 0;
  #fds: OwnedFd[] = [];
  #header: VhostUserHeader | undefined;
  #begunAt = 0;

  /** @param socket owned from here on */
  constructor(socket: MessageSocket) {
    this.#socket = socket;
  }

  /** The descriptor to wait on, lent. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** For how many milliseconds a message has been incomplete; 0 if none is. */
  get pendingMs(): number {
    return this.#received === 0 ? 0 : performance.now() - this.#begunAt;
  }

  /**
   * Takes the next message off the socket, as far as it has come.
   *
   * @param expected octets of payload the message will have, if it can be known and nothing can follow the message: they are taken
   *   together with its header. A message that is shorter, and has something behind it, is BAD_HEADER
   * @returns `wait` if it is not complete, `closed` if the peer has closed between two messages
   * @throws {ProtocolError} BAD_HEADER, BAD_FDS, CLOSED or SYSTEM: where the next message starts is not known, so close
   */
  receive(expected = 0): Message | 'wait' | 'closed' {
    for (;;) {
      const message = this.#complete();
      if (message !== undefined) return message;
      const end = this.#header === undefined ? VhostUserHeader.size + expected : this.#wanted(this.#header);
      const result = this.#socket.receive(this.#octets.subarray(this.#received, end), this.#fds);
      if (result === -EAGAIN) return 'wait';
      if (result === 0 && this.#received === 0) return 'closed';
      if (result === 0)
        throw new ProtocolError('BAD_HEADER', `closed after ${this.#received} octets of a message`);
      if (result < 0) throw failureOf('recvmsg', -result);
      if (this.#fds.length > SCM_MAX_FD)
        throw new ProtocolError(
          'BAD_FDS',
          `${this.#fds.length} descriptors in one message, allowed ${SCM_MAX_FD}`,
        );
      if (this.#received === 0) this.#begunAt = performance.now();
      this.#received += result;
    }
  }

  /**
   * Sends a whole message.
   *
   * @param fds borrowed
   * @throws {ProtocolError} CLOSED, TIMEOUT, SYSTEM: an unknown part has been sent, so close
   */
  send(request: number, flags: number, payload: Uint8Array, fds: readonly number[] = []): void {
    const result = this.#socket.send(this.#framed(request, flags, payload), fds);
    if (result < 0) throw failureOf('sendmsg', -result);
  }

  /** Closes the socket and what came with an incomplete message. Idempotent. */
  close(): void {
    for (const fd of this.#fds.splice(0)) fd.close();
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Header and payload; valid until the next call. */
  #framed(request: number, flags: number, payload: Uint8Array): Uint8Array {
    if (payload.length > USUAL_PAYLOAD_SIZE)
      return Buffer.concat([VhostUserHeader.encode({ request, flags, size: payload.length }), payload]);
    const view = this.#outgoing;
    view.setUint32(HEADER.request, request, true);
    view.setUint32(HEADER.flags, flags, true);
    view.setUint32(HEADER.size, payload.length, true);
    this.#sent.set(payload, VhostUserHeader.size);
    return this.#sent.subarray(0, VhostUserHeader.size + payload.length);
  }

  /** Octets of the whole message. */
  #wanted({ size }: VhostUserHeader): number {
    return VhostUserHeader.size + size;
  }

  #complete(): Message | undefined {
    if (this.#header === undefined && this.#received >= VhostUserHeader.size) {
      const view = this.#incoming;
      const header = {
        request: view.getUint32(HEADER.request, true),
        flags: view.getUint32(HEADER.flags, true),
        size: view.getUint32(HEADER.size, true),
      };
      if (header.size > MAX_PAYLOAD_SIZE)
        throw new ProtocolError(
          'BAD_HEADER',
          `request ${header.request}: payload of ${header.size} octets, allowed ${MAX_PAYLOAD_SIZE}`,
        );
      this.#header = header;
    }
    if (this.#header === undefined || this.#received < this.#wanted(this.#header)) return undefined;
    if (this.#received > this.#wanted(this.#header))
      throw new ProtocolError(
        'BAD_HEADER',
        `request ${this.#header.request}: ${this.#received} octets came, allowed ${this.#wanted(this.#header)}`,
      );
    const { request, flags } = this.#header;
    const payload = this.#octets.subarray(VhostUserHeader.size, this.#received);
    const fds = this.#fds;
    this.#received = 0;
    this.#fds = [];
    this.#header = undefined;
    return { request, flags, payload, fds };
  }
}
