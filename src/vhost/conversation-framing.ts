/**
 * Finds the messages in a stream of octets that somebody else reads. Once a header cannot be right, where the next
 * message starts is not known, and all that follows is only octets.
 */
import { VhostUserHeader } from '../../protocol/vhost-user.ts';
import type { FdDescription } from './conversation-record.ts';

/** More payload than any message has; a header that claims more is none. */
const MAX_PAYLOAD_SIZE = 0x1_0000;

export interface Frame {
  readonly kind: 'frame' | 'raw';
  /** Of a frame, header and payload. */
  readonly octets: Uint8Array;
  readonly fds: readonly FdDescription[];
  /** Of raw octets: why they are no message, told once. */
  readonly reason?: string;
}

export class FrameReader {
  readonly #buffer = Buffer.alloc(VhostUserHeader.size + MAX_PAYLOAD_SIZE);
  #length = 0;
  #fds: FdDescription[] = [];
  #isLost = false;

  /** Where messages start is not known any more. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** The header of the message at hand is not complete, or has not begun. */
  get isInHeader(): boolean {
    return this.#length < VhostUserHeader.size;
  }

  /** The request number of the message at hand, once its header is complete. */
  get request(): number | undefined {
    return this.isInHeader || this.#isLost
      ? undefined
      : this.#buffer.readUInt32LE(VhostUserHeader.offset.request);
  }

  /** How many octets are sure to belong to the message at hand; one if that is not known. */
  get wanted(): number {
    return this.#isLost ? 1 : this.#total - this.#length;
  }

  /**
   * Takes in octets, at most as many as wanted. Octets that are no messages have to be taken out with `rest`, at least
   * every `MAX_PAYLOAD_SIZE` of them.
   *
   * @param fds descriptors that came with them
   * @returns a message they complete
   */
  take(octets: Uint8Array, fds: readonly FdDescription[]): Frame | undefined {
    this.#buffer.set(octets, this.#length);
    this.#length += octets.length;
    this.#fds.push(...fds);
    if (this.#isLost || this.isInHeader) return undefined;
    const size = this.#total - VhostUserHeader.size;
    if (size > MAX_PAYLOAD_SIZE) {
      this.#isLost = true;
      return this.#flush(
        'raw',
        `a header claims ${size} octets of payload: from here on octets are passed on as they are`,
      );
    }
    return this.#length < this.#total ? undefined : this.#flush('frame');
  }

  /** What has been taken and not given out: after octets that are no messages, or when the stream ends. */
  rest(isEnd: boolean): Frame | undefined {
    if (this.#length === 0 || (!isEnd && !this.#isLost)) return undefined;
    return this.#flush('raw', this.#isLost ? undefined : 'the connection ended within a message');
  }

  /** Octets the message at hand has, as far as known. */
  get #total(): number {
    if (this.isInHeader) return VhostUserHeader.size;
    return VhostUserHeader.size + this.#buffer.readUInt32LE(VhostUserHeader.offset.size);
  }

  #flush(kind: 'frame' | 'raw', reason?: string): Frame {
    const octets = Uint8Array.from(this.#buffer.subarray(0, this.#length));
    const fds = this.#fds;
    this.#length = 0;
    this.#fds = [];
    return { kind, octets, fds, ...(reason === undefined ? {} : { reason }) };
  }
}
