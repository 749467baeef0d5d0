/** A set of pages of a RAM block: sparse, as large blocks are written in few places. */

const CHUNK_PAGES = 1 << 15;

export class DirtyBitmap {
  readonly #chunks = new Map<number, Uint8Array>();

  /** Marks pages [first, first + count). */
  set(first: number, count: number): void {
    this.#forEach(first, count, true, (bytes, bit) => {
      bytes[bit >>> 3]! |= 1 << (bit & 7);
    });
  }

  /** Clears pages. @returns whether one was marked */
  clear(first: number, count: number): boolean {
    let wasSet = false;
    this.#forEach(first, count, false, (bytes, bit) => {
      const mask = 1 << (bit & 7);
      if ((bytes[bit >>> 3]! & mask) === 0) return;
      wasSet = true;
      bytes[bit >>> 3]! &= ~mask;
    });
    return wasSet;
  }

  /** Whether one of the pages is marked. */
  hasAny(first: number, count: number): boolean {
    let isSet = false;
    this.#forEach(first, count, false, (bytes, bit) => {
      isSet ||= (bytes[bit >>> 3]! & (1 << (bit & 7))) !== 0;
    });
    return isSet;
  }

  /** The marked ones of these pages, taken out. */
  take(first: number, count: number): DirtyBitmap {
    const taken = new DirtyBitmap();
    this.#forEach(first, count, false, (bytes, bit, chunk) => {
      if ((bytes[bit >>> 3]! & (1 << (bit & 7))) !== 0) taken.set(chunk * CHUNK_PAGES + bit, 1);
    });
    this.clear(first, count);
    return taken;
  }

  #forEach(
    first: number,
    count: number,
    creates: boolean,
    visit: (bytes: Uint8Array, bit: number, chunk: number) => void,
  ): void {
    const end = first + count;
    for (let page = first; page < end;) {
      const chunk = Math.floor(page / CHUNK_PAGES);
      const chunkEnd = Math.min(end, (chunk + 1) * CHUNK_PAGES);
      let bytes = this.#chunks.get(chunk);
      if (bytes === undefined && creates) {
        bytes = new Uint8Array(CHUNK_PAGES / 8);
        this.#chunks.set(chunk, bytes);
      }
      if (bytes !== undefined)
        for (; page < chunkEnd; page += 1) visit(bytes, page - chunk * CHUNK_PAGES, chunk);
      page = chunkEnd;
    }
  }
}
