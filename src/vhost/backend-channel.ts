/** The socket on which the back-end makes requests of its own: SET_BACKEND_REQ_FD. */
import { BackendRequest, requestFlags } from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { fdKind } from '../host/stat.ts';
import { MessageSocket } from '../host/unix-socket.ts';
import { Connection } from './connection.ts';

/** A front-end that does not read must not hold our thread. */
const SEND_TIMEOUT_MS = 100;

export class BackendChannel {
  #connection: Connection | undefined;

  get isOpen(): boolean {
    return this.#connection !== undefined;
  }

  /**
   * Uses another socket.
   *
   * @param fd owned from here on
   * @throws {ProtocolError} BAD_FDS if it is no socket: it is closed, the old one stays
   */
  open(fd: OwnedFd): void {
    const kind = fdKind(fd.fd);
    if (kind !== 'socket') {
      fd.close();
      throw new ProtocolError('BAD_FDS', `SET_BACKEND_REQ_FD: ${kind}, allowed: a socket`);
    }
    this.close();
    this.#connection = new Connection(new MessageSocket(fd, { sendTimeoutMs: SEND_TIMEOUT_MS }));
  }

  /**
   * Tells the front-end to read the configuration space again. No answer is asked for, so none has to be waited for.
   *
   * @returns false if it could not be sent; the channel is closed then
   */
  sendConfigChange(): boolean {
    if (this.#connection === undefined) return false;
    try {
      this.#connection.send(BackendRequest.CONFIG_CHANGE_MSG, requestFlags(false), new Uint8Array(0));
      return true;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.close();
      return false;
    }
  }

  /** Idempotent. */
  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }
}
