/**
 * Requests that wait: locks somebody else holds. The guest goes on meanwhile, and may lose or move the memory its reply
 * buffers are in; so what is kept is a copy of the request, and guest physical addresses of the place for its reply.
 */
import { OutHeader } from '../../protocol/fuse.ts';
import type { Chain } from '../virtio/chain.ts';
import type { GuestBytes } from './guest-bytes.ts';
import type { FuseRequest } from './request.ts';
import type { GuestAccess, Scratch } from './scratch.ts';

/** More than any guest's processes wait for at once; beyond, requests are refused. Bounds our memory: below 2 MiB. */
const MAX_DEFERRED = 4096;
/** Part of a ring that requests which wait may fill: the one that ends their waiting must still find room. */
const RING_SHARE = 3 / 4;
/** Bytes of a request that can be kept. A SETLKW is 88. */
const MAX_OCTETS = 256;

/** A piece of the guest's reply buffer. */
interface ReplyPiece {
  readonly gpa: number;
  readonly size: number;
}

export interface Deferred {
  readonly queueIndex: number;
  readonly head: number;
  /** The request as it lay in scratch, header first. */
  readonly octets: Uint8Array;
  readonly uniqueLo: number;
  readonly uniqueHi: number;
  readonly replyRoom: number;
  readonly pieces: readonly ReplyPiece[];
  /** Answer EINTR instead of another try: INTERRUPT came, or the mount is gone. */
  isInterrupted: boolean;
}

export class DeferredRequests {
  readonly #bytes: GuestBytes;
  readonly #guest: GuestAccess;
  #waiting: Deferred[] = [];

  constructor(bytes: GuestBytes, guest: GuestAccess) {
    this.#bytes = bytes;
    this.#guest = guest;
  }

  get count(): number {
    return this.#waiting.length;
  }

  /**
   * Keeps a request.
   *
   * @param end bytes of it in scratch
   * @param replySize bytes of payload its reply may have
   * @returns false if it is too large, or too many wait, of all or of its ring
   */
  keep(queueIndex: number, request: FuseRequest, end: number, replySize: number): boolean {
    const { chain } = request;
    if (chain === undefined || end > MAX_OCTETS || this.#waiting.length >= MAX_DEFERRED) return false;
    if (this.#countOf(queueIndex) + 1 > chain.ringCapacity * RING_SHARE) return false;
    this.#waiting.push({
      queueIndex,
      head: chain.head,
      octets: request.input.u8.slice(0, end),
      uniqueLo: request.uniqueLo,
      uniqueHi: request.uniqueHi,
      replyRoom: replySize,
      pieces: replyPieces(chain, OutHeader.size + replySize),
      isInterrupted: false,
    });
    return true;
  }

  #countOf(queueIndex: number): number {
    let count = 0;
    for (const deferred of this.#waiting) if (deferred.queueIndex === queueIndex) count += 1;
    return count;
  }

  /** INTERRUPT: the request of this id, if it waits, is to be answered. */
  interrupt(uniqueLo: number, uniqueHi: number): void {
    for (const deferred of this.#waiting)
      if (deferred.uniqueLo === uniqueLo && deferred.uniqueHi === uniqueHi) deferred.isInterrupted = true;
  }

  /** All are to be answered: the mount they belong to is gone. */
  interruptAll(): void {
    for (const deferred of this.#waiting) deferred.isInterrupted = true;
  }

  /** Forgets all, answering none. */
  clear(): void {
    this.#waiting = [];
  }

  /** Visits each, oldest first, and forgets those for which `isDone` says true. */
  settle(isDone: (deferred: Deferred) => boolean): void {
    this.#waiting = this.#waiting.filter((deferred) => !isDone(deferred));
  }

  /**
   * Writes scratch into the reply buffer from its byte `start`.
   *
   * @returns false if some of the buffer is not guest memory any more
   */
  write({ pieces }: Deferred, start: number, size: number, from: Scratch): boolean {
    const guest = this.#guest;
    let skip = start;
    let done = 0;
    for (const piece of pieces) {
      if (skip >= piece.size) {
        skip -= piece.size;
        continue;
      }
      let gpa = piece.gpa + skip;
      let left = Math.min(piece.size - skip, size - done);
      skip = 0;
      while (left > 0) {
        const there = guest.translate(gpa, left); // slots may have changed, so a piece may lie in several
        if (there === 0) return false;
        this.#bytes.write(guest.lastAddress, from, done, there);
        if (guest.isLogging) guest.markDirty(gpa, there);
        gpa += there;
        done += there;
        left -= there;
      }
      if (done === size) return true;
    }
    return done === size;
  }
}

/** The first `size` writable bytes of a chain, by guest physical address. */
function replyPieces(chain: Chain, size: number): ReplyPiece[] {
  const pieces: ReplyPiece[] = [];
  let left = size;
  for (let i = chain.readableCount; left > 0 && i < chain.readableCount + chain.writableCount; i += 1) {
    const piece = { gpa: chain.gpa[i]!, size: Math.min(left, chain.length[i]!) };
    pieces.push(piece);
    left -= piece.size;
  }
  return pieces;
}
