/**
 * FUSE requests of the machine's guest over virtqueues: headers, buffers, replies. What the operations mean is in
 * virtio-fs-client.ts.
 *
 * Each request in flight has a page for its header, arguments and names and one for its reply, in the base region or
 * where the caller wants them; data goes from and to buffers anywhere in guest memory.
 */
import { InHeader, OutHeader, type FuseOpcode } from '../../protocol/fuse.ts';
import { ProtocolError } from '../errors.ts';
import type { GuestQueue } from './guest-queue.ts';
import type { GuestBuffer } from './guest-ram.ts';

const TIMEOUT_MS = 10_000;
const SILENCE: FuseAnswer = { error: 0, fixed: new Uint8Array(0), dataSize: 0 };

/** Bytes of a request's page, and of a reply's. */
const PAGE = 4096;

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
  /** Set when the answer is there. */
  answer: FuseAnswer | undefined;
  readonly page: RequestPage;
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

interface RequestPage {
  readonly request: GuestBuffer;
  readonly reply: GuestBuffer;
}

export class FuseChannel {
  readonly #queue: GuestQueue;
  readonly #timeoutMs: number;
  readonly #pages: RequestPage[] = [];
  readonly #inFlight = new Map<number, PendingCall>();
  readonly #nextUnique: () => bigint;
  #credentials = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

  /**
   * @param allocate gives the two pages of each request that may be in flight
   * @param nextUnique numbers requests; channels of one mount share it
   */
  constructor(
    queue: GuestQueue,
    {
      depth,
      allocate,
      nextUnique,
      timeoutMs = TIMEOUT_MS,
    }: {
      readonly depth: number;
      readonly allocate: (size: number) => GuestBuffer;
      readonly nextUnique: () => bigint;
      readonly timeoutMs?: number;
    },
  ) {
    this.#queue = queue;
    this.#timeoutMs = timeoutMs;
    this.#nextUnique = nextUnique;
    for (let i = 0; i < depth; i += 1) this.#pages.push({ request: allocate(PAGE), reply: allocate(PAGE) });
  }

  /** Who the following requests come from. */
  setCredentials(uid: number, gid: number): void {
    this.#credentials = { uid, gid };
  }

  /** Requests that may still be started. */
  get room(): number {
    return this.#pages.length;
  }

  /** Sends a request without waiting for it. */
  start(call: FuseCall): PendingCall {
    const page = this.#pages.pop();
    if (page === undefined) throw new RangeError('more requests in flight than the channel has pages for');
    const unique = this.#nextUnique();
    const requestSize = this.#encode(call, page.request.bytes, unique);
    const isAnswered = call.replySize !== undefined;
    const readable = [{ gpa: page.request.gpa, size: requestSize }, ...sized(call.dataIn)];
    const writable = isAnswered
      ? [{ gpa: page.reply.gpa, size: OutHeader.size + call.replySize }, ...sized(call.dataOut)]
      : [];
    const segments = [...readable, ...writable];
    const head = this.#queue.driver.add(
      segments.map(({ gpa }) => gpa),
      segments.map(({ size }) => size),
      segments.length,
      readable.length,
    );
    if (head < 0) throw new RangeError(`no ${segments.length} free descriptors`);
    const pending: PendingCall = {
      answer: undefined,
      page,
      unique,
      mayBeSilent: call.mayBeSilent ?? !isAnswered,
    };
    this.#inFlight.set(head, pending);
    this.#queue.submit();
    return pending;
  }

  /**
   * Waits for the answer to a request.
   *
   * @throws {ProtocolError} TIMEOUT, CLOSED; BAD_VALUE if the answer is not one to this request
   */
  finish(pending: PendingCall): FuseAnswer {
    while (pending.answer === undefined) this.#take(this.#queue.wait(this.#timeoutMs));
    return pending.answer;
  }

  /** Sends a request and waits for its answer. */
  call(call: FuseCall): FuseAnswer {
    return this.finish(this.start(call));
  }

  #encode(call: FuseCall, page: Uint8Array, unique: bigint): number {
    const names = (call.names ?? []).map((name) => Buffer.from(`${name}\0`));
    const tail = Buffer.concat([call.arguments ?? new Uint8Array(0), ...names]);
    const size = InHeader.size + tail.length;
    if (size > PAGE) throw new RangeError(`request of ${size} bytes, allowed ${PAGE}`);
    const header = InHeader.encode({
      len: size + sized(call.dataIn).reduce((sum, buffer) => sum + buffer.size, 0),
      opcode: call.opcode,
      unique,
      nodeid: call.nodeid,
      ...this.#credentials,
      pid: process.pid,
      totalExtlen: 0,
    });
    page.set(header);
    page.set(tail, InHeader.size);
    return size;
  }

  /** Takes in what the device did with the request at `head`. */
  #take(head: number): void {
    const pending = this.#inFlight.get(head)!;
    this.#inFlight.delete(head);
    const written = this.#queue.driver.lastWritten;
    const answer = pending.mayBeSilent && written === 0 ? SILENCE : decodeAnswer(pending, written);
    this.#pages.push(pending.page);
    pending.answer = answer;
  }
}

function decodeAnswer({ page, unique }: PendingCall, written: number): FuseAnswer {
  const { bytes } = page.reply;
  if (written < OutHeader.size)
    throw new ProtocolError('BAD_VALUE', `request ${unique} came back with ${written} bytes`);
  const header = OutHeader.decode(bytes);
  if (header.unique !== unique || header.len !== written)
    throw new ProtocolError(
      'BAD_VALUE',
      `answer to ${header.unique} of ${header.len} bytes, expected ${unique} of ${written}`,
    );
  return {
    error: header.error,
    fixed: Uint8Array.from(bytes.subarray(OutHeader.size, Math.min(written, PAGE))),
    dataSize: written - OutHeader.size,
  };
}

const sized = (
  buffers: readonly GuestBuffer[] = [],
): readonly { readonly gpa: number; readonly size: number }[] =>
  buffers.map(({ gpa, bytes }) => ({ gpa, size: bytes.length }));
