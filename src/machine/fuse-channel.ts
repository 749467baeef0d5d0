/**
 * FUSE requests of the machine's guest over a virtqueue: headers, arguments, names; replies. What the operations mean
 * is in virtio-fs-client.ts.
 */
import { InHeader, OutHeader, type FuseOpcode } from '../../protocol/fuse.ts';
import { ProtocolError } from '../errors.ts';
import type { GuestQueue } from './guest-queue.ts';
import type { GuestBuffer } from './guest-ram.ts';
import { RequestChannel, type RequestChannelOptions, type SentRequest } from './request-channel.ts';

const SILENCE: FuseAnswer = { error: 0, fixed: new Uint8Array(0), dataSize: 0 };
const NOTHING = new Uint8Array(0);

export interface FuseCall {
  readonly opcode: FuseOpcode;
  readonly nodeid: bigint;
  readonly arguments?: Uint8Array;
  /** Names after the arguments; each gets its NUL. */
  readonly names?: readonly string[];
  /** Data after the names: of WRITE and SETXATTR. */
  readonly dataIn?: readonly GuestBuffer[];
  /** Where the reply's data goes, after the fixed part. */
  readonly dataOut?: readonly GuestBuffer[];
  /** Bytes of the reply's fixed part; undefined for a request that is not answered. */
  readonly replySize: number | undefined;
  /** An empty answer will do. */
  readonly mayBeSilent?: boolean;
}

/** A request on its way. */
export interface PendingCall {
  readonly sent: SentRequest;
  readonly unique: bigint;
  readonly mayBeSilent: boolean;
}

export interface FuseAnswer {
  /** 0 or −errno. */
  readonly error: number;
  /** A copy of the reply's fixed part. */
  readonly fixed: Uint8Array;
  /** Bytes of data after it. */
  readonly dataSize: number;
}

export interface FuseChannelOptions extends RequestChannelOptions {
  /** Numbers requests; channels of one mount share it. */
  readonly nextUnique: () => bigint;
}

export class FuseChannel {
  readonly #requests: RequestChannel;
  readonly #nextUnique: () => bigint;
  #credentials = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

  constructor(queue: GuestQueue, options: FuseChannelOptions) {
    this.#requests = new RequestChannel(queue, options);
    this.#nextUnique = options.nextUnique;
  }

  /** Who the following requests come from. */
  setCredentials(uid: number, gid: number): void {
    this.#credentials = { uid, gid };
  }

  /** Requests that may still be started. */
  get room(): number {
    return this.#requests.room;
  }

  /** Sends a request without waiting for it. */
  start(call: FuseCall): PendingCall {
    const unique = this.#nextUnique();
    const isAnswered = call.replySize !== undefined;
    const sent = this.#requests.start({
      head: this.#encode(call, unique),
      dataIn: call.dataIn,
      dataOut: isAnswered ? call.dataOut : undefined,
      fixedSize: isAnswered ? OutHeader.size + call.replySize : 0,
    });
    return { sent, unique, mayBeSilent: call.mayBeSilent ?? !isAnswered };
  }

  /**
   * Waits for the answer to a request.
   *
   * @throws {ProtocolError} TIMEOUT, CLOSED; BAD_VALUE if the answer is not one to this request
   */
  finish(pending: PendingCall): FuseAnswer {
    this.#requests.finish(pending.sent);
    return pending.mayBeSilent && pending.sent.written === 0 ? SILENCE : decodeAnswer(pending);
  }

  /** Sends a request and waits for its answer. */
  call(call: FuseCall): FuseAnswer {
    return this.finish(this.start(call));
  }

  #encode(call: FuseCall, unique: bigint): Uint8Array[] {
    const argument = call.arguments ?? NOTHING;
    const names = (call.names ?? []).map((name) => Buffer.from(`${name}\0`));
    const dataSize = (call.dataIn ?? []).reduce((sum, { bytes }) => sum + bytes.length, 0);
    const header = InHeader.encode({
      len: InHeader.size + argument.length + names.reduce((sum, { length }) => sum + length, 0) + dataSize,
      opcode: call.opcode,
      unique,
      nodeid: call.nodeid,
      ...this.#credentials,
      pid: process.pid,
      totalExtlen: 0,
    });
    return [header, argument, ...names];
  }
}

function decodeAnswer({ sent: { written, answer }, unique }: PendingCall): FuseAnswer {
  if (written < OutHeader.size)
    throw new ProtocolError('BAD_VALUE', `request ${unique} came back with ${written} bytes`);
  const header = OutHeader.decode(answer);
  if (header.unique !== unique || header.len !== written)
    throw new ProtocolError(
      'BAD_VALUE',
      `answer to ${header.unique} of ${header.len} bytes, expected ${unique} of ${written}`,
    );
  return {
    error: header.error,
    fixed: answer.subarray(OutHeader.size),
    dataSize: written - OutHeader.size,
  };
}
