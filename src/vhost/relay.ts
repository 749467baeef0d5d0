/**
 * Stands between a front-end and a back-end and passes everything on: octets and descriptors of the connection, and of
 * the back-end request channel, whose socket it replaces by one of its own. Never changes an octet, never waits for
 * either side, and tells an observer what it saw.
 */
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../host/epoll.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { fdKind } from '../host/stat.ts';
import { MessageSocket, socketPair } from '../host/unix-socket.ts';
import type { Frame } from './conversation-framing.ts';
import type { Channel, Direction, FdDescription } from './conversation-record.ts';
import { RelayPump } from './relay-pump.ts';

/** What `EventLoop` has. */
interface RelayLoop {
  readonly add: (fd: number, events: number, callback: (events: number) => void) => number;
  readonly modify: (fd: number, events: number) => number;
  readonly remove: (fd: number) => number;
}

export interface RelayOptions {
  /** Connected to the front-end; owned from here on. */
  readonly front: OwnedFd;
  /** Connected to the back-end; owned from here on. */
  readonly back: OwnedFd;
  readonly loop: RelayLoop;
  /** What a descriptor is, which is lent. */
  readonly describe: (fd: number) => FdDescription;
  /** A message, or octets that are none, after they have been passed on. */
  readonly onFrame: (chan: Channel, dir: Direction, frame: Frame) => void;
  /** A direction has ended. @param failure why, if not because the sender closed */
  readonly onEnd: (chan: Channel, dir: Direction, failure: string | undefined) => void;
}

export class Relay implements Disposable {
  readonly #options: RelayOptions;
  readonly #main: RelayChannel;
  #backendChannels: RelayChannel[] = [];

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#main = new RelayChannel('main', options, (fd) => this.#interpose(fd));
  }

  /** The connection has ended in both directions. A back-end request channel may live on until somebody closes it. */
  get hasEnded(): boolean {
    return this.#main.isClosed;
  }

  /** Nothing is left open. */
  get isClosed(): boolean {
    return this.#main.isClosed && this.#backendChannels.every((channel) => channel.isClosed);
  }

  /** Closes all sockets. Idempotent. */
  close(): void {
    this.#main.close();
    for (const channel of this.#backendChannels.splice(0)) channel.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #interpose(fd: OwnedFd): OwnedFd {
    if (fdKind(fd.fd) !== 'socket') return fd; // refused by who gets it, not by us
    let pair: readonly [OwnedFd, OwnedFd];
    try {
      pair = socketPair();
    } catch (error) {
      const reason = `the back-end request channel passes by unseen: ${String(error)}`;
      this.#options.onFrame('main', 'fe>be', { kind: 'raw', octets: new Uint8Array(0), fds: [], reason });
      return fd;
    }
    const [ours, theirs] = pair;
    const options = { ...this.#options, front: fd, back: ours };
    this.#backendChannels = this.#backendChannels.filter((channel) => !channel.isClosed);
    this.#backendChannels.push(new RelayChannel('backend', options, undefined));
    return theirs;
  }
}

interface Side {
  readonly socket: MessageSocket;
  watchedFor: number;
}

/** One connection: two sockets, two directions. */
class RelayChannel {
  readonly #loop: RelayLoop;
  readonly #front: Side;
  readonly #back: Side;
  readonly #toBack: RelayPump;
  readonly #toFront: RelayPump;
  readonly #onEnd: (dir: Direction, failure: string | undefined) => void;
  readonly #told = new Set<Direction>();
  #isClosed = false;

  constructor(
    chan: Channel,
    { front, back, loop, describe, onFrame, onEnd }: RelayOptions,
    interpose: ((fd: OwnedFd) => OwnedFd) | undefined,
  ) {
    this.#loop = loop;
    this.#onEnd = (dir, failure) => onEnd(chan, dir, failure);
    this.#front = { socket: new MessageSocket(front), watchedFor: 0 };
    this.#back = { socket: new MessageSocket(back), watchedFor: 0 };
    this.#toBack = new RelayPump({
      source: this.#front.socket,
      sink: this.#back.socket,
      describe,
      onFrame: (frame) => onFrame(chan, 'fe>be', frame),
      interpose,
    });
    this.#toFront = new RelayPump({
      source: this.#back.socket,
      sink: this.#front.socket,
      describe,
      onFrame: (frame) => onFrame(chan, 'be>fe', frame),
      interpose: undefined,
    });
    this.#settle();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const side of [this.#front, this.#back]) {
      this.#watch(side, 0);
      side.socket.close();
    }
    this.#toBack.abandon();
    this.#toFront.abandon();
  }

  #ready(events: number, from: RelayPump, to: RelayPump): void {
    if (events & EPOLLOUT) to.write();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) from.read();
    // Hung up, and all it had sent has been read: nobody is there to read what the other side sends.
    if (from.hasEnded && events & (EPOLLHUP | EPOLLERR)) to.abandon();
    this.#settle();
  }

  /** After each turn: tells what has ended, waits for what can happen next, closes when nothing can. */
  #settle(): void {
    if (this.#isClosed) return;
    this.#tellEnd('fe>be', this.#toBack);
    this.#tellEnd('be>fe', this.#toFront);
    if (this.#toBack.isDone && this.#toFront.isDone) {
      this.close();
      return;
    }
    this.#watch(this.#front, interest(this.#toBack, this.#toFront), (events) =>
      this.#ready(events, this.#toBack, this.#toFront),
    );
    this.#watch(this.#back, interest(this.#toFront, this.#toBack), (events) =>
      this.#ready(events, this.#toFront, this.#toBack),
    );
  }

  #tellEnd(dir: Direction, pump: RelayPump): void {
    if (!pump.hasEnded || this.#told.has(dir)) return;
    this.#told.add(dir);
    this.#onEnd(dir, pump.failure);
  }

  /** A side nothing is expected of is not watched at all: epoll would report over and over that it has hung up. */
  #watch(side: Side, events: number, callback?: (events: number) => void): void {
    if (events === side.watchedFor) return;
    const { fd } = side.socket;
    if (events === 0) this.#loop.remove(fd);
    else if (side.watchedFor === 0) this.#loop.add(fd, events, callback!);
    else this.#loop.modify(fd, events);
    side.watchedFor = events;
  }
}

const interest = (from: RelayPump, to: RelayPump): number =>
  (from.wantsToRead ? EPOLLIN : 0) | (to.wantsToWrite ? EPOLLOUT : 0);
