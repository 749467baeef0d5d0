/**
 * The guest's RAM, as the machine has it: one sparse memfd, cut into a base region and slots of one size.
 *
 *     guest physical   0 ── base ──┤            4 GiB ── slot 0 ─┬─ slot 1 ─┬─ … ─┤
 *     memfd            0 ── base ──┼─ slot 0 ─┬─ slot 1 ─┬─ … ─┤
 *
 * Slots are neighbours, so a buffer may cross from one into the next. The machine has all of it mapped for as long as
 * it lives; what a back-end has is decided by the memory table it is sent.
 */
import { errnoName } from '../../protocol/errno.ts';
import type { MemoryRegionDescription } from '../../protocol/vhost-user-payloads.ts';
import { mapShared, PAGE_SIZE, unmap, viewOf } from '../host/mapping.ts';
import { createMemfd } from '../host/memfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { GiB } from '../units.ts';

const SLOTS_AT = 4 * GiB;

/** Some guest memory, as the guest's drivers see it. The view must not be touched after the machine is closed. */
export interface GuestBuffer {
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

export interface RamLayout {
  /** Bytes of the base region: rings and request headers lie there. */
  readonly baseSize: number;
  readonly slotSize: number;
  readonly slots: number;
}

export class GuestRam implements Disposable {
  readonly layout: RamLayout;
  readonly #fd: OwnedFd;
  readonly #address: number;
  readonly #base: Uint8Array;
  #allocated = 0;
  #isMapped = true;

  /** @throws {RangeError} if a size is not whole pages, or there is no address space */
  constructor(layout: RamLayout) {
    const { baseSize, slotSize, slots } = layout;
    if (baseSize % PAGE_SIZE !== 0 || slotSize % PAGE_SIZE !== 0 || baseSize > SLOTS_AT)
      throw new RangeError(
        `guest RAM: base ${baseSize}, slots of ${slotSize}; allowed whole pages, base up to 4 GiB`,
      );
    this.layout = layout;
    const size = baseSize + slots * slotSize;
    const fd = createMemfd('guest-ram', size);
    if (fd < 0) throw new RangeError(`guest RAM of ${size} bytes: ${errnoName(-fd)}`);
    this.#fd = new OwnedFd(fd);
    this.#address = mapShared(fd, 0, size);
    if (this.#address < 0) {
      this.#fd.close();
      throw new RangeError(`guest RAM of ${size} bytes: ${errnoName(-this.#address)}`);
    }
    this.#base = new Uint8Array(viewOf(this.#address, baseSize));
  }

  /** The memfd, lent. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** The base region, as the memory table names it. */
  get baseRegion(): MemoryRegionDescription {
    return this.#describe(0, 0, this.layout.baseSize);
  }

  /** One slot, as the memory table names it. */
  slotRegion(slot: number): MemoryRegionDescription {
    const { slotSize } = this.layout;
    return this.#describe(this.slotGpa(slot), this.#slotOffset(slot), slotSize);
  }

  slotGpa(slot: number): number {
    return SLOTS_AT + slot * this.layout.slotSize;
  }

  /** The front-end's address of guest physical memory in the base region: what SET_VRING_ADDR names. */
  userAddress(gpa: number): bigint {
    return BigInt(this.#address + gpa);
  }

  /** Memory in a slot; it may reach into the next ones. Makes a view: keep it. */
  slotBuffer(slot: number, offset: number, size: number): GuestBuffer {
    const { slotSize, slots } = this.layout;
    if (slot < 0 || slot * slotSize + offset + size > slots * slotSize)
      throw new RangeError(`no ${size} bytes at ${offset} of slot ${slot}`);
    const view = viewOf(this.#address + this.#slotOffset(slot) + offset, size);
    return { gpa: this.slotGpa(slot) + offset, bytes: new Uint8Array(view) };
  }

  /** Memory in the base region that nobody else has, for good. @param align a power of two */
  allocate(size: number, align = 64): GuestBuffer {
    const gpa = Math.ceil(this.#allocated / align) * align;
    if (gpa + size > this.layout.baseSize)
      throw new RangeError(`base region: no ${size} bytes left of ${this.layout.baseSize}`);
    this.#allocated = gpa + size;
    return { gpa, bytes: this.#base.subarray(gpa, gpa + size) };
  }

  /** Gives the memory back. No buffer may be touched any more. Idempotent. */
  unmap(): void {
    if (!this.#isMapped) return;
    this.#isMapped = false;
    const { baseSize, slotSize, slots } = this.layout;
    unmap(this.#address, baseSize + slots * slotSize);
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.unmap();
  }

  #slotOffset(slot: number): number {
    return this.layout.baseSize + slot * this.layout.slotSize;
  }

  #describe(gpa: number, offset: number, size: number): MemoryRegionDescription {
    return {
      guestPhysAddr: BigInt(gpa),
      memorySize: BigInt(size),
      userspaceAddr: BigInt(this.#address + offset),
      mmapOffset: BigInt(offset),
    };
  }
}
