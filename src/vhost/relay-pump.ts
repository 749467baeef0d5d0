/**
 * One direction of a relayed connection: octets and descriptors out of one socket into another, unchanged and in order.
 *
 * A message goes on as one piece, with its descriptors on the first octet, as it came. What is not a message goes on as
 * it comes; a descriptor then stays with the very octet it came with, which takes reading octet by octet.
 */
import { errnoName } from '../../protocol/errno.ts';
import { FrontendRequest } from '../../protocol/vhost-user.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import type { MessageSocket } from '../host/unix-socket.ts';
import { type Frame, FrameReader } from './conversation-framing.ts';
import type { FdDescription } from './conversation-record.ts';

const EAGAIN = 11;
/** Octets passed on at once, and read in one turn: others have a turn, too. */
const PIECE_SIZE = 8192;
const TURN_SIZE = 16 * PIECE_SIZE;

interface Piece {
  octets: Uint8Array;
  /** Given with the first octet, then closed. */
  fds: OwnedFd[];
}

export interface PumpOptions {
  readonly source: MessageSocket;
  readonly sink: MessageSocket;
  readonly describe: (fd: number) => FdDescription;
  /** Told of each message, once it has been passed on as far as it could be. */
  readonly onFrame: (frame: Frame) => void;
  /** Takes the socket of SET_BACKEND_REQ_FD; gives what to send in its place. Undefined: nothing is to be replaced. */
  readonly interpose: ((fd: OwnedFd) => OwnedFd) | undefined;
}

export class RelayPump {
  readonly #options: PumpOptions;
  readonly #reader = new FrameReader();
  readonly #into = new Uint8Array(PIECE_SIZE);
  /** What has been read and not been queued. */
  #octets: Uint8Array[] = [];
  #size = 0;
  #fds: OwnedFd[] = [];
  readonly #queue: Piece[] = [];
  #state: 'open' | 'ended' | 'done' = 'open';
  #failure: string | undefined;

  constructor(options: PumpOptions) {
    this.#options = options;
  }

  /** Reading makes sense: the source has not ended, and what was read has gone on. */
  get wantsToRead(): boolean {
    return this.#state === 'open' && this.#queue.length === 0;
  }

  get wantsToWrite(): boolean {
    return this.#queue.length > 0;
  }

  /** The source has ended or failed. */
  get hasEnded(): boolean {
    return this.#state !== 'open';
  }

  /** Nothing will be passed on any more. */
  get isDone(): boolean {
    return this.#state === 'done';
  }

  /** Why it ended, if not in the ordinary way. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Reads what is there, and passes it on. */
  read(): void {
    let left = TURN_SIZE;
    while (this.wantsToRead && left > 0) {
      const fds: OwnedFd[] = [];
      const wanted = Math.min(this.#reader.wanted, PIECE_SIZE);
      const received = this.#options.source.receive(this.#into.subarray(0, wanted), fds);
      if (received === -EAGAIN) {
        this.#waitForMore();
        return;
      }
      if (received <= 0) {
        this.#end(received < 0 ? `recvmsg: ${errnoName(-received)}` : undefined);
        return;
      }
      left -= received;
      this.#take(this.#into.slice(0, received), fds);
    }
    if (this.#state === 'open') this.#waitForMore();
  }

  /** Passes on what waits. */
  write(): void {
    while (this.#queue.length > 0) {
      const piece = this.#queue[0]!;
      const sent = this.#options.sink.sendSome(
        piece.octets,
        piece.fds.map(({ fd }) => fd),
      );
      if (sent === -EAGAIN) return;
      if (sent < 0) {
        this.#failure = `sendmsg: ${errnoName(-sent)}`;
        this.abandon();
        return;
      }
      for (const fd of piece.fds) fd.close();
      piece.fds = [];
      piece.octets = piece.octets.subarray(sent);
      if (piece.octets.length === 0) this.#queue.shift();
    }
    if (this.#state !== 'ended') return;
    this.#options.sink.shutdownSend();
    this.#state = 'done';
  }

  /** Nobody is there to take more. Idempotent. */
  abandon(): void {
    for (const { fds } of this.#queue.splice(0)) for (const fd of fds) fd.close();
    for (const fd of this.#fds.splice(0)) fd.close();
    this.#state = 'done';
  }

  #take(octets: Uint8Array, fds: OwnedFd[]): void {
    if (fds.length > 0) this.#queuePiece(); // descriptors stay with the octets they came with
    this.#octets.push(octets);
    this.#size += octets.length;
    this.#fds.push(...fds);
    const frame = this.#reader.take(
      octets,
      fds.map(({ fd }) => this.#options.describe(fd)),
    );
    if (frame !== undefined) {
      this.#queuePiece(frame);
      this.write();
      this.#options.onFrame(frame);
    } else if (this.#size >= PIECE_SIZE) this.#flush();
  }

  /** Part of a message may have come: it goes on, too, unless it is only part of a header. */
  #waitForMore(): void {
    if (this.#reader.isLost || !this.#reader.isInHeader) this.#flush();
  }

  #flush(): void {
    this.#queuePiece();
    this.write();
    const rest = this.#reader.rest(false);
    if (rest !== undefined) this.#options.onFrame(rest);
  }

  #end(failure: string | undefined): void {
    this.#failure = failure;
    this.#state = 'ended';
    this.#queuePiece();
    this.write();
    const rest = this.#reader.rest(true);
    if (rest !== undefined) this.#options.onFrame(rest);
  }

  /** @param frame the message that has just been completed, if one was */
  #queuePiece(frame?: Frame): void {
    if (this.#size === 0) return;
    const { interpose } = this.#options;
    const request =
      frame?.kind === 'frame' ? Buffer.from(frame.octets).readUInt32LE(0) : this.#reader.request;
    const fds = this.#fds;
    if (interpose !== undefined && request === FrontendRequest.SET_BACKEND_REQ_FD && fds.length > 0)
      fds[0] = interpose(fds[0]!);
    this.#queue.push({ octets: Buffer.concat(this.#octets), fds });
    this.#octets = [];
    this.#size = 0;
    this.#fds = [];
  }
}
