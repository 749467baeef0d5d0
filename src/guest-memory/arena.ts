/**
 * The address space that guest memory is mapped into.
 *
 * It is reserved once and never given back. A memslot is mapped over a part of it; when the slot goes, reserved memory
 * is put in its place, so the slot's pages are released at once while a view somebody still holds reads zeros instead
 * of ending the process. The reserved parts between slots are one mapping each time they touch.
 *
 *     reserved │ slot │ slot │ reserved      │ slot │ reserved …          one mapping per piece in /proc/self/maps
 *
 * One per thread that maps guest memory, shared by everything that does so there: address space is finite, and sessions
 * follow one another. Other threads look into it (`adopt`).
 */
import {
  mapFixedAnonymous,
  mapFixedShared,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  reserve,
  viewOf,
} from '../host/mapping.ts';
import { GiB, MiB, TiB } from '../units.ts';
import { FreeRanges, type Placement } from './free-ranges.ts';
import { WordWindows } from './word-windows.ts';

/** Reserved at a time, or more if one slot needs it. It costs no memory: one mapping, no page tables. */
const RESERVATION = 1 * TiB;
/** All reservations of a thread: half of what a process has, or a peer's huge regions would leave none for V8. */
const MAX_RESERVED = 64 * TiB;
const HUGE_PAGE = 2 * MiB;

const ENOMEM = 12;

/** What to map: `size` bytes of the file from `offset`, both multiples of `pageSize`, the file's page size. */
export interface FileRange {
  readonly fd: number;
  readonly offset: number;
  readonly size: number;
  readonly pageSize: number;
}

export class Arena {
  readonly #free = new FreeRanges();
  readonly #reservations: { readonly address: number; readonly size: number; readonly words: WordWindows }[] =
    [];
  /** The windows that `wordsAround` used last. */
  #words = new WordWindows(0, 0);
  /** Protection of the reserved parts; writable unless the kernel counts every writable byte (overcommit_memory 2). */
  #protection = PROT_READ | PROT_WRITE;

  /** Free ranges, which are also the pieces of reserved memory: for tests and logs. */
  get freeRangeCount(): number {
    return this.#free.count;
  }

  /** What is reserved. */
  get reservations(): readonly { readonly address: number; readonly size: number }[] {
    return this.#reservations;
  }

  /**
   * Lets views be made of what another thread's arena has reserved. Only that one maps there.
   *
   * @param address of a reservation; one that is known already is left as it is
   */
  adopt(address: number, size: number): void {
    if (this.contains(address, size)) return;
    this.#reservations.push({ address, size, words: new WordWindows(address, size) });
  }

  /** Whether the whole range lies in the arena, mapped or reserved. */
  contains(address: number, size: number): boolean {
    return this.#reservations.some((r) => address >= r.address && address + size <= r.address + r.size);
  }

  /** @returns the address, which is the caller's until `unmap`, or −errno: nothing has changed then */
  map(range: FileRange): number {
    const placement = placementOf(range);
    let address = this.#free.take(placement);
    if (address < 0) {
      if (!this.#grow(placement)) return -ENOMEM;
      address = this.#free.take(placement);
    }
    const mapped = mapFixedShared(address, range.fd, range.offset, range.size);
    if (mapped < 0) this.#restore(address, range.size);
    return mapped;
  }

  /** Releases what `map` mapped, all of it. @returns 0, or −errno: it is still mapped then */
  unmap(address: number, size: number): number {
    const restored = this.#restore(address, size);
    return restored < 0 ? restored : 0;
  }

  /**
   * The bytes at `address`, not copied; safe for ever: what is mapped there may change, that something is does not.
   *
   * Almost always a part of the permanent words. A buffer of its own is never quite freed on a thread that does not
   * return to its event loop: Node puts off what is left of it until then.
   *
   * @throws {RangeError} if the range is not the arena's
   */
  view(address: number, size: number): DataView<ArrayBuffer> {
    if (!this.contains(address, size))
      throw new RangeError(`no view of ${size} bytes at ${address}: outside the arena`);
    const words = this.wordsAround(address);
    const offset = address - this.lastWordsAddress;
    return offset + size > words.byteLength
      ? new DataView(viewOf(address, size))
      : new DataView(words.buffer, words.byteOffset + offset, size);
  }

  /**
   * Permanent words that include `address`: as safe as `view`, and nothing is allocated once the place was seen before.
   * Sets `lastWordsAddress`, the address of the first of them.
   *
   * @param address within what `map` gave
   */
  wordsAround(address: number): Uint32Array<ArrayBuffer> {
    if (!this.#words.includes(address)) {
      const reservation = this.#reservations.find(({ words }) => words.includes(address));
      if (reservation === undefined) throw new RangeError(`no words at ${address}: outside the arena`);
      this.#words = reservation.words;
    }
    return this.#words.around(address);
  }

  get lastWordsAddress(): number {
    return this.#words.lastAddress;
  }

  /** Puts reserved memory back. If the kernel refuses even that, the range is never used again. */
  #restore(address: number, size: number): number {
    const restored = mapFixedAnonymous(address, size, this.#protection);
    if (restored >= 0) this.#free.give(address, size);
    return restored;
  }

  #grow({ size, alignment }: Placement): boolean {
    const needed = Math.ceil((size + alignment) / GiB) * GiB;
    const sizes = needed < RESERVATION ? [RESERVATION, needed] : [needed];
    const protections =
      this.#reservations.length === 0 ? [PROT_READ | PROT_WRITE, PROT_READ] : [this.#protection];
    const total = this.#reservations.reduce((sum, r) => sum + r.size, 0);
    for (const reserved of sizes) {
      if (total + reserved > MAX_RESERVED) continue;
      for (const protection of protections) {
        const address = reserve(reserved, protection);
        if (address < 0) continue;
        this.#protection = protection;
        this.#reservations.push({ address, size: reserved, words: new WordWindows(address, reserved) });
        this.#free.give(address, reserved);
        return true;
      }
    }
    return false;
  }
}

/** The arena of this thread. */
export const arena = new Arena();

/**
 * Large ranges lie at the same place within a huge page as in the file, or the kernel could not map them by huge pages;
 * ranges of huge-page files must.
 */
function placementOf({ offset, size, pageSize }: FileRange): Placement {
  const alignment = Math.max(PAGE_SIZE, pageSize, size >= HUGE_PAGE ? HUGE_PAGE : 0);
  return { size, alignment, phase: offset % alignment };
}
