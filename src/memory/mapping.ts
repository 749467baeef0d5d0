/**
 * Lending out the bytes of an address space for a while: RAM as it is, anything else as a copy (a bounce buffer), of which only
 * so many bytes may be out at a time.
 */
import type { AddressSpace } from './address-space.ts';
import { isDirect, readMemory, writeMemory } from './access.ts';
import { markDirty } from './dirty-log.ts';
import type { MemTxAttrs } from './region-ops.ts';
import { translate } from './translate.ts';

export interface MappedMemory {
  /** At most as many bytes as asked for. */
  readonly bytes: Uint8Array;
  /**
   * Gives them back. Must be called once.
   *
   * @param accessed how many of them were accessed, from the first: a bounce buffer for writing is written back so far
   */
  unmap(accessed: number): void;
}

interface MapRequest {
  readonly isWrite: boolean;
  readonly attrs?: MemTxAttrs;
}

const BOUNCE_LIMIT = 4096;

export class AddressSpaceMapper {
  readonly #space: AddressSpace;
  readonly #limit: number;
  #lent = 0;
  readonly #waiting: (() => void)[] = [];

  /** @param bounceLimit bytes of bounce buffers out at one time, 4096 without it */
  constructor(space: AddressSpace, bounceLimit: number = BOUNCE_LIMIT) {
    this.#space = space;
    this.#limit = bounceLimit;
  }

  /** @returns undefined if nothing is there, or no bounce buffer is left: see `whenFree` */
  map(address: bigint, size: number, { isWrite, attrs = {} }: MapRequest): MappedMemory | undefined {
    const {
      range,
      offset,
      size: contiguous,
      space,
    } = translate(this.#space, address, BigInt(size), { isWrite, attrs });
    if (range === undefined) return undefined;
    const { bytes } = range.region.block ?? {};
    if (bytes?.view === undefined || !isDirect(range, isWrite))
      return this.#bounce(address, Number(contiguous), isWrite, attrs);
    let length = Number(contiguous);
    // neighbours that continue the same memory are lent in one piece
    for (
      let next = space.view.rangeAt(range.end);
      next !== undefined && space === this.#space && length < size;
    ) {
      const continues =
        next.region === range.region && next.offset === offset + BigInt(length) && isDirect(next, isWrite);
      if (!continues) break;
      length = Math.min(size, length + Number(next.end - next.start));
      next = space.view.rangeAt(next.end);
    }
    return {
      bytes: bytes.view(Number(offset), length),
      unmap: (accessed) => {
        if (isWrite) markDirty(range.region, offset, BigInt(accessed));
      },
    };
  }

  /** Calls `retry` once, when bounce buffers may be had again. */
  whenFree(retry: () => void): void {
    this.#waiting.push(retry);
    if (this.#lent < this.#limit) this.#wake();
  }

  #bounce(address: bigint, size: number, isWrite: boolean, attrs: MemTxAttrs): MappedMemory | undefined {
    const length = Math.min(size, this.#limit - this.#lent);
    if (length === 0) return undefined;
    const bytes = new Uint8Array(length);
    this.#lent += length;
    if (!isWrite) readMemory(this.#space, address, bytes, attrs);
    return {
      bytes,
      unmap: (accessed) => {
        if (isWrite) writeMemory(this.#space, address, bytes.subarray(0, accessed), attrs);
        this.#lent -= length;
        this.#wake();
      },
    };
  }

  #wake(): void {
    for (const retry of this.#waiting.splice(0)) retry();
  }
}
