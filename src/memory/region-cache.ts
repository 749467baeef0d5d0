/** A small range of an address space that is accessed again and again (a ring): translated once for each view. */
import type { AddressSpace } from './address-space.ts';
import { isDirect, readMemory, writeMemory } from './access.ts';
import { markDirty } from './dirty-log.ts';
import type { FlatView } from './flat-view.ts';
import { MemTxResult } from './region-ops.ts';
import { translate, type Translation } from './translate.ts';

export class MemoryRegionCache {
  readonly #space: AddressSpace;
  readonly #address: bigint;
  readonly #size: number;
  readonly #isWrite: boolean;
  #view: FlatView | undefined;
  #translation: Translation | undefined;

  constructor(space: AddressSpace, address: bigint, size: number, options: { readonly isWrite: boolean }) {
    this.#space = space;
    this.#address = address;
    this.#size = size;
    this.#isWrite = options.isWrite;
  }

  /** Reads bytes at `offset` of the range. @throws {RangeError} beyond it */
  read(offset: number, into: Uint8Array): MemTxResult {
    this.#check(offset, into.length);
    const direct = this.#direct(false);
    if (direct === undefined) return readMemory(this.#space, this.#address + BigInt(offset), into);
    direct.range!.region.block!.bytes!.read(Number(direct.offset) + offset, into);
    return MemTxResult.OK;
  }

  /** Writes bytes at `offset` of the range. @throws {RangeError} beyond it */
  write(offset: number, from: Uint8Array): MemTxResult {
    this.#check(offset, from.length);
    const direct = this.#isWrite ? this.#direct(true) : undefined;
    if (direct === undefined) return writeMemory(this.#space, this.#address + BigInt(offset), from);
    const { region } = direct.range!;
    region.block!.bytes!.write(Number(direct.offset) + offset, from);
    markDirty(region, direct.offset + BigInt(offset), BigInt(from.length));
    return MemTxResult.OK;
  }

  /** The translation, if all of the range is memory of this address space that needs no device. */
  #direct(isWrite: boolean): Translation | undefined {
    const { view } = this.#space;
    if (this.#view !== view) {
      this.#view = view;
      const translation = translate(this.#space, this.#address, BigInt(this.#size), {
        isWrite: this.#isWrite,
        attrs: {},
      });
      const { range, space, size } = translation;
      const isWhole = range !== undefined && space === this.#space && size === BigInt(this.#size);
      this.#translation = isWhole && range.region.block?.bytes !== undefined ? translation : undefined;
    }
    const translation = this.#translation;
    return translation?.range !== undefined && isDirect(translation.range, isWrite) ? translation : undefined;
  }

  #check(offset: number, size: number): void {
    if (offset < 0 || offset + size > this.#size) {
      throw new RangeError(`${size} bytes at ${offset} of a cached range of ${this.#size}`);
    }
  }
}
