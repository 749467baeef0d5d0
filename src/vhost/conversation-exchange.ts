/** Which reply answers which request on one channel. Replies come in the order of the requests. */
import type { MessageRecord } from './conversation-record.ts';

export interface PendingRequest {
  readonly record: MessageRecord;
  readonly request: number;
  /** `due`: without a reply something is wrong. `maybe`: asked for one though nobody agreed on REPLY_ACK. */
  readonly reply: 'due' | 'maybe';
  /** What the request changes once it is answered well. */
  readonly effect: (() => string | undefined) | undefined;
}

/** Requests that wait at once; peers wait for each reply, so more of them have been forgotten. */
const MAX_PENDING = 256;

export class Exchange {
  #pending: PendingRequest[] = [];

  /** @returns a request of long ago that is given up, if its reply was due */
  sent(request: PendingRequest): PendingRequest | undefined {
    this.#pending.push(request);
    const given = this.#pending.length > MAX_PENDING ? this.#pending.shift() : undefined;
    return given !== undefined && isDue(given) ? given : undefined;
  }

  /**
   * The request that a reply answers: the oldest of the same number.
   *
   * @returns it, and those before it that were passed over and were due
   */
  answered(request: number): {
    readonly found: PendingRequest | undefined;
    readonly missed: readonly PendingRequest[];
  } {
    const at = this.#pending.findIndex((pending) => pending.request === request);
    if (at < 0) return { found: undefined, missed: [] };
    const passed = this.#pending.splice(0, at + 1);
    return { found: passed.pop(), missed: passed.filter(isDue) };
  }

  /** Nothing comes any more. @returns requests whose reply was due */
  end(): readonly PendingRequest[] {
    const due = this.#pending.filter(isDue);
    this.#pending = [];
    return due;
  }
}

const isDue = ({ reply }: PendingRequest): boolean => reply === 'due';
