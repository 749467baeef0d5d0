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
  /** The words of guest memory used last, and the host addresses they span. They are permanent, so never out of date. */
  #words: Uint32Array = new Uint32Array(0);
  #start = 0;
  #end = 0;

  constructor(host: HostMemory, guest: GuestAccess) {
    this.#host = host;
    this.#guest = guest;
  }

  /**
   * Copies readable octets `start`… of the chain to byte `at` of `to`, which may be written up to 3 bytes beyond.
   * The caller has checked that the chain has them.
   */
  readChain(chain: Chain, start: number, size: number, to: Scratch, at: number): void {
    const { address, length } = chain;
    let skip = start;
    let done = 0;
    for (let i = 0; done < size; i += 1) {
      const present = length[i]!;
      if (skip >= present) {
        skip -= present;
        continue;
      }
      const piece = Math.min(present - skip, size - done);
      this.#read(to, at + done, address[i]! + skip, piece);
      skip = 0;
      done += piece;
    }
  }

  /** Copies octets of scratch from byte `at` to the chain's writable octets `start`…. The caller has checked that there is room. */
  writeChain(chain: Chain, start: number, size: number, from: Scratch, at = 0): void {
    const { address, length } = chain;
    let skip = start;
    let done = 0;
    for (let i = chain.readableCount; done < size; i += 1) {
      const present = length[i]!;
      if (skip >= present) {
        skip -= present;
        continue;
      }
      const piece = Math.min(present - skip, size - done);
      this.write(address[i]! + skip, from, at + done, piece);
      skip = 0;
      done += piece;
    }
  }

  /** Copies octets of scratch from byte `at` to host address `target` in guest memory. */
  write(target: number, from: Scratch, at: number, size: number): void {
    if (size <= MAX_WORDWISE && this.#reaches(target, size)) {
      const offset = (target - this.#start) >>> 0;
      if (((offset | at | size) & 3) === 0) {
        const words = this.#words;
        const source = from.u32;
        const first = offset >>> 2;
        const start = at >>> 2;
        const count = size >>> 2;
        for (let i = 0; i < count; i += 1) words[first + i] = source[start + i]!;
        return;
      }
    }
    this.#host.copy(target, from.address + at, size);
  }

  #read(to: Scratch, at: number, source: number, size: number): void {
    if (size <= MAX_WORDWISE && this.#reaches(source, size)) {
      const offset = (source - this.#start) >>> 0;
      if (((offset | at) & 3) === 0) {
        const words = this.#words;
        const target = to.u32;
        const first = offset >>> 2;
        const start = at >>> 2;
        const count = (size + 3) >>> 2; // the last word may hold octets that are not asked for
        for (let i = 0; i < count; i += 1) target[start + i] = words[first + i]!;
        return;
      }
    }
    this.#host.copy(to.address + at, source, size);
  }

  /** Whether whole words around the range are in `#words`, after another look where they are. */
  #reaches(address: number, size: number): boolean {
    return (address >= this.#start && address + size <= this.#end) || this.#look(address, size);
  }

  #look(address: number, size: number): boolean {
    this.#words = this.#guest.wordsAround(address);
    this.#start = this.#guest.lastWordsAddress;
    this.#end = this.#start + this.#words.length * 4;
    return address + size <= this.#end;
  }
}
