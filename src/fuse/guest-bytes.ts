/**
 * Copies octets between a chain's segments and scratch: requests in, replies out.
 *
 * A struct of a few words is moved word by word through the permanent words of guest memory, which costs less than a
 * call into libc; anything longer or misaligned is a memcpy. Either way each octet of the guest is read once.
 */
import type { Chain } from '../virtio/chain.ts';
import type { GuestAccess, HostMemory, Scratch } from './scratch.ts';

/** Up to here moving words is cheaper than calling memcpy. */
const MAX_WORDWISE = 320;

export class GuestBytes {
  readonly #host: HostMemory;
  readonly #guest: GuestAccess;

  constructor(host: HostMemory, guest: GuestAccess) {
    this.#host = host;
    this.#guest = guest;
  }

  /**
   * Copies readable octets `start`… of the chain to byte `at` of `to`, which may be written up to 3 bytes beyond.
   * The caller has checked that the chain has them.
   */
  readChain(chain: Chain, start: number, size: number, to: Scratch, at: number): void {
    let skip = start;
    let done = 0;
    for (let i = 0; done < size; i += 1) {
      const length = chain.length[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const piece = Math.min(length - skip, size - done);
      this.#read(to, at + done, chain.address[i]! + skip, piece);
      skip = 0;
      done += piece;
    }
  }

  /** Copies octets of scratch to the chain's writable octets `start`…. The caller has checked that there is room. */
  writeChain(chain: Chain, start: number, size: number, from: Scratch): void {
    let skip = start;
    let done = 0;
    for (let i = chain.readableCount; done < size; i += 1) {
      const length = chain.length[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const piece = Math.min(length - skip, size - done);
      this.write(chain.address[i]! + skip, from, done, piece);
      skip = 0;
      done += piece;
    }
  }

  /** Copies octets of scratch from byte `at` to host address `target` in guest memory. */
  write(target: number, from: Scratch, at: number, size: number): void {
    if (size <= MAX_WORDWISE && ((target | at | size) & 3) === 0) {
      const words = this.#guest.wordsAround(target);
      const first = (target - this.#guest.lastWordsAddress) / 4;
      const count = size / 4;
      if (first + count <= words.length) {
        const source = from.u32;
        const start = at / 4;
        for (let i = 0; i < count; i += 1) words[first + i] = source[start + i]!;
        return;
      }
    }
    this.#host.copy(target, from.address + at, size);
  }

  #read(to: Scratch, at: number, source: number, size: number): void {
    if (size <= MAX_WORDWISE && ((source | at) & 3) === 0) {
      const words = this.#guest.wordsAround(source);
      const first = (source - this.#guest.lastWordsAddress) / 4;
      const count = (size + 3) >>> 2; // the last word may hold octets that are not asked for
      if (first + count <= words.length) {
        const target = to.u32;
        const start = at / 4;
        for (let i = 0; i < count; i += 1) target[start + i] = words[first + i]!;
        return;
      }
    }
    this.#host.copy(to.address + at, source, size);
  }
}
