/** Memory outside V8's heap, whose address system calls can be given. */
import { errnoName } from '../../protocol/errno.ts';
import { bind } from './libc.ts';
import { mapAnonymous, PAGE_SIZE, reserve, unmap, viewOf } from './mapping.ts';

const memcpy = bind('memcpy', 'void', ['uintptr_t', 'uintptr_t', 'uint64_t']);

/**
 * Page-aligned zeroed memory that never moves, with a typed array of each width over all of it.
 *
 * Meant for scratch that lives as long as its thread. After `unmap` its views must not be touched any more: reading
 * one is SIGSEGV.
 */
export class NativeMemory implements Disposable {
  readonly address: number;
  /** Bytes asked for, rounded up to whole pages. */
  readonly size: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly view: DataView;
  #isMapped = true;
  readonly #isOwner: boolean;

  private constructor(address: number, size: number, isOwner: boolean) {
    this.#isOwner = isOwner;
    const buffer = viewOf(address, size);
    this.address = address;
    this.size = size;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.view = new DataView(buffer);
  }

  /** @throws {RangeError} if there is no memory */
  static allocate(bytes: number): NativeMemory {
    const size = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    const address = mapAnonymous(size);
    if (address < 0) throw new RangeError(`NativeMemory: no ${size} bytes of memory, ${errnoName(-address)}`);
    return new NativeMemory(address, size, true);
  }

  /**
   * Like `allocate`, for tables that may grow large: pages cost memory only once they are touched, and are not counted
   * before. Left out of core dumps.
   *
   * @param bytes up to 4 GiB
   * @throws {RangeError} if there is no address space
   */
  static reserve(bytes: number): NativeMemory {
    const size = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    const address = reserve(size);
    if (address < 0)
      throw new RangeError(`NativeMemory: no ${size} bytes of address space, ${errnoName(-address)}`);
    return new NativeMemory(address, size, true);
  }

  /**
   * Another view of memory that somebody else owns, another thread mostly. The owner unmaps it, after the last use here.
   *
   * @param address of the owner's
   * @param size of the owner's, or less
   */
  static at(address: number, size: number): NativeMemory {
    return new NativeMemory(address, size, false);
  }

  /** Idempotent. Does nothing to memory of somebody else. */
  unmap(): void {
    if (!this.#isMapped || !this.#isOwner) return;
    this.#isMapped = false;
    unmap(this.address, this.size);
  }

  [Symbol.dispose](): void {
    this.unmap();
  }
}

/** Copies `size` bytes from address to address; the ranges must not overlap, and both must be mapped. */
export function copyMemory(target: number, source: number, size: number): void {
  memcpy(target, source, size);
}

/**
 * Stores a number as the 64-bit little-endian value at word `index` and the one after: an address or size of an iovec.
 *
 * @param value 0 ≤ value < 2^53
 */
export function setU64(words: Uint32Array, index: number, value: number): void {
  words[index] = value; // modulo 2^32, as typed arrays store
  words[index + 1] = value / 0x1_0000_0000;
}
