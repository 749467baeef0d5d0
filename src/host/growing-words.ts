/**
 * Memory of a fixed largest size and address, seen through arrays that are as long as is needed so far: V8 counts all
 * that a view covers as memory in use, and collects garbage because of it.
 */
import { errnoName } from '../../protocol/errno.ts';
import { reserve, unmap, viewOf } from './mapping.ts';

const FIRST_BYTES = 2 ** 16;

export class GrowingWords implements Disposable {
  readonly address: number;
  /** Bytes there may ever be. */
  readonly size: number;
  /** Bytes the arrays cover. */
  bytes = 0;
  u8 = new Uint8Array();
  i32 = new Int32Array();
  u32 = new Uint32Array();
  f64 = new Float64Array();
  readonly #isOwner: boolean;

  private constructor(address: number, size: number, isOwner: boolean) {
    this.address = address;
    this.size = size;
    this.#isOwner = isOwner;
    this.ensure(1);
  }

  /** @throws {RangeError} if there is no address space */
  static reserve(size: number): GrowingWords {
    const address = reserve(size);
    if (address < 0) throw new RangeError(`no ${size} bytes of address space: ${errnoName(-address)}`);
    return new GrowingWords(address, size, true);
  }

  /** Another thread's; that one unmaps it. */
  static at(address: number, size: number): GrowingWords {
    return new GrowingWords(address, size, false);
  }

  /** Has the arrays cover so many bytes: they are others after it. */
  ensure(bytes: number): void {
    if (bytes > this.bytes) this.#grow(bytes);
  }

  #grow(bytes: number): void {
    this.bytes = Math.min(this.size, Math.max(FIRST_BYTES, 2 ** Math.ceil(Math.log2(bytes))));
    const buffer = viewOf(this.address, this.bytes);
    this.u8 = new Uint8Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f64 = new Float64Array(buffer);
  }

  [Symbol.dispose](): void {
    if (this.#isOwner) unmap(this.address, this.size);
  }
}
