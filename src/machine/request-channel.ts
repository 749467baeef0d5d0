/**
 * Requests of the machine's guest over a virtqueue, whatever the device: a header and an answer in pages of their own,
 * data from and to buffers anywhere in guest memory.
 *
 *     readable   head │ data in …          writable   fixed part of the answer │ data out … │ its tail
 *
 * What the octets mean is the caller's: fuse-channel.ts, virtio-blk-client.ts.
 */
import type { GuestQueue } from './guest-queue.ts';
import type { GuestBuffer } from './guest-ram.ts';

const TIMEOUT_MS = 10_000;

/** Bytes of a request's page, and of an answer's. */
const PAGE = 4096;

export interface GuestRequest {
  /** What the request begins with: header, arguments, names. Copied. */
  readonly head: readonly Uint8Array[];
  readonly dataIn?: readonly GuestBuffer[] | undefined;
  readonly dataOut?: readonly GuestBuffer[] | undefined;
  /** Bytes of the answer before the data. */
  readonly fixedSize: number;
  /** Bytes of the answer after the data. */
  readonly tailSize?: number;
}

/** A request on its way. */
export interface SentRequest {
  /** Bytes the device says it wrote; −1 as long as it has not answered. */
  written: number;
  /** Then a copy of the fixed part and the tail, whatever of them was written. */
  answer: Uint8Array;
  readonly page: RequestPage;
  readonly answerSize: number;
}

interface RequestPage {
  readonly request: GuestBuffer;
  readonly reply: GuestBuffer;
}

export interface RequestChannelOptions {
  /** Requests that may be in flight. */
  readonly depth: number;
  /** Gives the two pages of each. */
  readonly allocate: (size: number) => GuestBuffer;
  /** How long an answer may take. */
  readonly timeoutMs?: number;
}

const UNANSWERED = new Uint8Array(0);

export class RequestChannel {
  readonly #queue: GuestQueue;
  readonly #timeoutMs: number;
  readonly #pages: RequestPage[] = [];
  readonly #inFlight = new Map<number, SentRequest>();

  constructor(queue: GuestQueue, { depth, allocate, timeoutMs = TIMEOUT_MS }: RequestChannelOptions) {
    this.#queue = queue;
    this.#timeoutMs = timeoutMs;
    for (let i = 0; i < depth; i += 1) this.#pages.push({ request: allocate(PAGE), reply: allocate(PAGE) });
  }

  /** Requests that may still be started. */
  get room(): number {
    return this.#pages.length;
  }

  /** Sends a request without waiting for it. @throws {RangeError} if there is no room for it */
  start(request: GuestRequest): SentRequest {
    const { head, dataIn = [], dataOut = [], fixedSize, tailSize = 0 } = request;
    const headSize = head.reduce((sum, { length }) => sum + length, 0);
    if (headSize > PAGE || fixedSize + tailSize > PAGE)
      throw new RangeError(
        `request of ${headSize}, answer of ${fixedSize + tailSize} bytes, allowed ${PAGE}`,
      );
    const page = this.#pages.pop();
    if (page === undefined) throw new RangeError('more requests in flight than the channel has pages for');
    const { gpa } = page.reply;
    const readable = [{ gpa: page.request.gpa, size: headSize }, ...dataIn.map(sized)];
    const writable = [
      { gpa, size: fixedSize },
      ...dataOut.map(sized),
      { gpa: gpa + fixedSize, size: tailSize },
    ].filter(({ size }) => size > 0);
    const segments = [...readable, ...writable];
    const at = this.#queue.driver.add(
      segments.map((segment) => segment.gpa),
      segments.map(({ size }) => size),
      segments.length,
      readable.length,
    );
    if (at < 0) {
      this.#pages.push(page);
      throw new RangeError(`no ${segments.length} free descriptors`);
    }
    let offset = 0;
    for (const octets of head) {
      page.request.bytes.set(octets, offset);
      offset += octets.length;
    }
    const sent: SentRequest = { written: -1, answer: UNANSWERED, page, answerSize: fixedSize + tailSize };
    this.#inFlight.set(at, sent);
    this.#queue.submit();
    return sent;
  }

  /**
   * Waits until a request is answered; others may be meanwhile.
   *
   * @throws {ProtocolError} TIMEOUT, CLOSED
   */
  finish(sent: SentRequest): void {
    while (sent.written < 0) this.#take(this.#queue.wait(this.#timeoutMs));
  }

  #take(at: number): void {
    const sent = this.#inFlight.get(at)!;
    this.#inFlight.delete(at);
    sent.written = this.#queue.driver.lastWritten;
    sent.answer = Uint8Array.from(sent.page.reply.bytes.subarray(0, sent.answerSize));
    this.#pages.push(sent.page);
  }
}

const sized = ({ gpa, bytes }: GuestBuffer) => ({ gpa, size: bytes.length });
