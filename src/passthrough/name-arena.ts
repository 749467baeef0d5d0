/**
 * Names of inodes that can only be found again by name, in one growing array. Garbage is squeezed out by `compact`
 * when it has become more than half.
 */
export class NameArena {
  #octets = new Uint8Array(4096);
  #end = 0;
  #live = 0;

  /** Whether so much is garbage that the caller should `compact`. */
  get isWasteful(): boolean {
    return this.#end > 65536 && this.#live < this.#end / 2;
  }

  /** Stores the octets. @returns where */
  add(from: Uint8Array, start: number, length: number): number {
    if (this.#end + length > this.#octets.length) {
      const longer = new Uint8Array(Math.max(this.#octets.length * 2, this.#end + length));
      longer.set(this.#octets);
      this.#octets = longer;
    }
    const at = this.#end;
    for (let i = 0; i < length; i += 1) this.#octets[at + i] = from[start + i]!;
    this.#end += length;
    this.#live += length;
    return at;
  }

  /** The name is not needed any more. */
  drop(length: number): void {
    this.#live -= length;
  }

  /** Copies a name with its NUL to `to[start]`. */
  copy(at: number, length: number, to: Uint8Array, start: number): void {
    for (let i = 0; i < length; i += 1) to[start + i] = this.#octets[at + i]!;
    to[start + length] = 0;
  }

  equals(at: number, length: number, other: Uint8Array, start: number): boolean {
    for (let i = 0; i < length; i += 1) if (this.#octets[at + i] !== other[start + i]) return false;
    return true;
  }

  /** Starts anew; `visit` is given a function that moves one name and answers its new place. */
  compact(visit: (move: (at: number, length: number) => number) => void): void {
    const old = this.#octets;
    this.#octets = new Uint8Array(Math.max(4096, this.#live * 2));
    this.#end = 0;
    this.#live = 0;
    visit((at, length) => this.add(old, at, length));
  }
}
