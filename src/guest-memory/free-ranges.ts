/** Which parts of an address range are free. Pure arithmetic over numbers: maps nothing. */

/** Where a placement may start: at `phase` modulo `alignment`, a power of two. */
export interface Placement {
  readonly size: number;
  readonly alignment: number;
  readonly phase: number;
}

/** Free ranges in address order; ranges that touch are one. */
export class FreeRanges {
  readonly #starts: number[] = [];
  readonly #sizes: number[] = [];

  /** How many separate free ranges there are. */
  get count(): number {
    return this.#starts.length;
  }

  /** Takes the lowest free range that fits. @returns its start, or −1 if none does */
  take({ size, alignment, phase }: Placement): number {
    for (let i = 0; i < this.#starts.length; i++) {
      const start = this.#starts[i]!;
      const end = start + this.#sizes[i]!;
      const at = start + modulo(phase - start, alignment);
      if (at + size > end) continue;
      const before = at - start;
      const after = end - (at + size);
      const rest = [
        { start, size: before },
        { start: at + size, size: after },
      ].filter((range) => range.size > 0);
      this.#starts.splice(i, 1, ...rest.map((range) => range.start));
      this.#sizes.splice(i, 1, ...rest.map((range) => range.size));
      return at;
    }
    return -1;
  }

  /** Gives a range back, or a new one; it overlaps no free one. */
  give(start: number, size: number): void {
    const next = this.#indexAfter(start);
    const previous = next - 1;
    const end = start + size;
    const touchesPrevious = next > 0 && start === this.#starts[previous]! + this.#sizes[previous]!;
    const touchesNext = end === this.#starts[next];
    const joinedStart = touchesPrevious ? this.#starts[previous]! : start;
    const joinedEnd = touchesNext ? end + this.#sizes[next]! : end;
    const first = touchesPrevious ? previous : next;
    const replaced = (touchesPrevious ? 1 : 0) + (touchesNext ? 1 : 0);
    this.#starts.splice(first, replaced, joinedStart);
    this.#sizes.splice(first, replaced, joinedEnd - joinedStart);
  }

  /** Index of the first free range that starts after `address`. */
  #indexAfter(address: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#starts[middle]! > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

const modulo = (value: number, divisor: number): number => ((value % divisor) + divisor) % divisor;
