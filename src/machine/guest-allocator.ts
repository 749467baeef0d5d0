/** Who gives guest memory to the guest's drivers: rings, request headers. */
import type { GuestBuffer } from './guest-ram.ts';
import type { HostRam } from './host-ram.ts';

export interface GuestAllocator {
  /** Memory nobody else has. @param align a power of two; default 64 */
  allocate(size: number, align?: number): GuestBuffer;
  /** Gives such memory back; nobody may use it any more. Absent: it is not used again. */
  release?(buffer: GuestBuffer): void;
}

/** Where the guest's drivers begin: below are what a PC keeps there. */
const FIRST = 0x10_0000;

/** RAM below 4 GiB, given away from 1 MiB on until the machine starts anew. What is given back is kept for memory of the same size. */
export class LowRam implements GuestAllocator {
  readonly #ram: HostRam;
  readonly #end: number;
  #next = FIRST;
  readonly #free = new Map<number, GuestBuffer[]>();

  /** @param end bytes of RAM there are from guest address 0 on */
  constructor(ram: HostRam, end: number) {
    this.#ram = ram;
    this.#end = end;
  }

  /** @throws {RangeError} if there is no such memory left */
  allocate(size: number, align = 64): GuestBuffer {
    const kept = this.#free.get(size)?.pop();
    if (kept !== undefined && kept.gpa % align === 0) return kept;
    const gpa = Math.ceil(this.#next / align) * align;
    if (gpa + size > this.#end) throw new RangeError(`guest RAM: no ${size} bytes left below ${this.#end}`);
    this.#next = gpa + size;
    return { gpa, bytes: this.#ram.view(gpa, size) };
  }

  release(buffer: GuestBuffer): void {
    const { length: size } = buffer.bytes;
    const kept = this.#free.get(size);
    if (kept === undefined) this.#free.set(size, [buffer]);
    else kept.push(buffer);
  }

  /** Where guest memory from `gpa` on is in this process. @returns bytes there are in one piece, at most `size`, and the address */
  translate(gpa: number, size: number): { readonly address: number; readonly size: number } {
    const left = gpa >= 0 && gpa < this.#end ? this.#end - gpa : 0;
    return { address: this.#ram.address + gpa, size: Math.min(left, size) };
  }

  /** All of it is free again: whoever had some has gone. What was written is still there, as after a reset of a machine. */
  reset(): void {
    this.#next = FIRST;
    this.#free.clear();
  }
}
