/**
 * The back-end's end of a vhost-user connection: one front-end, from its connecting to its leaving.
 *
 * Plain synchronous code that runs in whatever loop calls it: `onReadable` when the socket has something, `run` before
 * each wait. In order, so a change of the memory table cannot race with a request.
 */
import { errnoName } from '../../protocol/errno.ts';
import { ProtocolFeature, REPLY_FLAGS } from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import type { GuestMemory } from '../guest-memory/guest-memory.ts';
import { EPOLLIN } from '../host/epoll.ts';
import { Cleanup } from '../host/owned-fd.ts';
import type { MessageSocket } from '../host/unix-socket.ts';
import type { Log } from '../log.ts';
import { serveMessage } from './backend-dispatch.ts';
import { BackendState } from './backend-state.ts';
import { Connection } from './connection.ts';
import type { VhostDevice } from './device.ts';
import type { Loop } from './kick-watch.ts';
import type { QueueThreads } from './queue-threads.ts';
import type { RingControl } from './ring-control.ts';

/** Messages served before the rings have their turn. */
const MESSAGES_PER_TURN = 16;
/** A message that was begun must be complete by then: otherwise its header lied about its size. */
const MESSAGE_TIMEOUT_MS = 5000;

export interface BackendOptions {
  /** Connected to the front-end; owned from here on. */
  readonly socket: MessageSocket;
  readonly device: VhostDevice;
  /** Watches the socket and the kicks, until the session is closed. */
  readonly loop: Loop;
  /** Empty; filled and emptied again by the session, and the caller's. Its `maxSlots` is what the front-end is told. */
  readonly memory: GuestMemory;
  readonly log: Log;
  /** Microseconds to look at rings, at most, before waiting for a kick; 0 if not given. */
  readonly pollMicros?: number;
  /** Those that serve some of the device's queues; the others are served in `run`. */
  readonly queueThreads?: QueueThreads | undefined;
}

export class BackendSession implements Disposable {
  readonly #connection: Connection;
  readonly #state: BackendState;
  readonly #loop: Loop;
  readonly #log: Log;
  #isClosed = false;

  /** @throws {ProtocolError} SYSTEM if the socket cannot be watched: it is closed */
  constructor(options: BackendOptions) {
    const { socket, device, loop, memory, log, pollMicros = 0, queueThreads } = options;
    using undo = new Cleanup();
    this.#connection = undo.use(new Connection(socket));
    this.#loop = loop;
    this.#log = log;
    this.#state = new BackendState({ device, loop, memory, log, pollMicros, queueThreads });
    const result = loop.add(this.#connection.fd, EPOLLIN, () => this.onReadable());
    if (result < 0) {
      this.close();
      throw new ProtocolError('SYSTEM', `epoll_ctl of the session's socket: ${errnoName(-result)}`);
    }
    undo.keep();
    log.info({}, 'vhost_user_connected');
  }

  get closed(): boolean {
    return this.#isClosed;
  }

  get vrings(): readonly RingControl[] {
    return this.#state.vrings;
  }

  /** Takes messages off the socket. The loop calls it; it may be called at any time. */
  onReadable(): void {
    try {
      for (let i = 0; i < MESSAGES_PER_TURN && !this.#isClosed; i += 1) {
        const message = this.#connection.receive();
        if (message === 'wait') return;
        if (message === 'closed') {
          this.#log.info({}, 'vhost_user_disconnected');
          return this.close();
        }
        try {
          const reply = serveMessage(this.#state, message);
          if (reply !== undefined) this.#connection.send(message.request, REPLY_FLAGS, reply);
        } finally {
          for (const fd of message.fds) fd.close();
        }
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#fail(error);
    }
  }

  /**
   * Gives every ready ring a turn. To be called before each wait for events.
   *
   * @returns how many milliseconds that wait may take at most: 0 for no wait, −1 for ever
   */
  run(): number {
    if (this.#isClosed) return -1;
    const wait = this.#state.run();
    const pending = this.#connection.pendingMs;
    if (pending === 0) return wait;
    if (pending > MESSAGE_TIMEOUT_MS) {
      this.#fail(new ProtocolError('BAD_HEADER', `a message is incomplete after ${MESSAGE_TIMEOUT_MS} ms`));
      return -1;
    }
    const rest = Math.ceil(MESSAGE_TIMEOUT_MS - pending) + 1;
    return wait < 0 ? rest : Math.min(wait, rest);
  }

  /**
   * The device's configuration space has changed: tells the front-end if it can be told.
   *
   * @returns false if it was not told: no channel, CONFIG not negotiated, or all rings stopped (a suspended device
   *   sends nothing)
   */
  notifyConfigChange(): boolean {
    const { channel, vrings } = this.#state;
    if (!this.#state.hasProtocolFeature(ProtocolFeature.CONFIG) || !channel.isOpen) return false;
    if (vrings.every((vring) => vring.state !== 'started')) return false;
    return channel.sendConfigChange();
  }

  /** Answers what is in flight and lets go of everything the front-end gave. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#loop.remove(this.#connection.fd);
    this.#state.close();
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #fail(error: ProtocolError): void {
    this.#log.error({ code: error.code, reason: error.message }, 'vhost_user_connection_lost');
    this.close();
  }
}
