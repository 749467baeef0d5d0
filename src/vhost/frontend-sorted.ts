/** Items in the order of an address each has, found by bisection. No two have the same. */
export class SortedByAddress<T> {
  readonly #addressOf: (item: T) => bigint;
  readonly #items: T[] = [];

  constructor(addressOf: (item: T) => bigint) {
    this.#addressOf = addressOf;
  }

  get all(): readonly T[] {
    return this.#items;
  }

  at(index: number): T | undefined {
    return this.#items[index];
  }

  /** How many items have a lower address. */
  countBelow(address: bigint): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#addressOf(this.#items[middle]!) < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The last item whose address is not above. */
  atOrBelow(address: bigint): T | undefined {
    return this.#items[this.countBelow(address + 1n) - 1];
  }

  /** Items from `start` on, below `end`. */
  between(start: bigint, end: bigint): T[] {
    return this.#items.slice(this.countBelow(start), this.countBelow(end));
  }

  /** Puts an item in, instead of the one with its address if there is one. */
  set(item: T): void {
    const address = this.#addressOf(item);
    const index = this.countBelow(address);
    this.#items.splice(index, this.#has(index, address) ? 1 : 0, item);
  }

  delete(address: bigint): void {
    const index = this.countBelow(address);
    if (this.#has(index, address)) this.#items.splice(index, 1);
  }

  /** Puts `items` in the place of those from index `from` up to `to`. @returns what was there */
  replace(from: number, to: number, items: readonly T[]): T[] {
    return this.#items.splice(from, to - from, ...items);
  }

  has(address: bigint): boolean {
    return this.#has(this.countBelow(address), address);
  }

  #has(index: number, address: bigint): boolean {
    return index < this.#items.length && this.#addressOf(this.#items[index]!) === address;
  }
}
