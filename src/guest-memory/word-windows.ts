/**
 * Permanent words over a range of address space, made as they are asked for: how small tables in guest memory are read
 * without a view for each.
 *
 * A window is as long as a view may be. Each counts as memory in use for the garbage collector, but only once.
 */
import { viewOf } from '../host/mapping.ts';
import { GiB } from '../units.ts';

const WINDOW = 4 * GiB;

export class WordWindows {
  /** Address of the first word of the window that `around` answered last. */
  lastAddress = 0;
  #last: Uint32Array<ArrayBuffer> = new Uint32Array(0);
  readonly #windows = new Map<number, Uint32Array<ArrayBuffer>>();
  readonly #start: number;
  readonly #end: number;

  /** @param start page-aligned; the range must stay mapped, and readable, as long as the process lives */
  constructor(start: number, size: number) {
    this.#start = start;
    this.#end = start + size;
  }

  includes(address: number): boolean {
    return address >= this.#start && address < this.#end;
  }

  /** The words of the window with `address`, which is in the range. Sets `lastAddress`. */
  around(address: number): Uint32Array<ArrayBuffer> {
    const offset = address - this.lastAddress;
    if (offset >= 0 && offset < this.#last.byteLength) return this.#last;
    const index = Math.floor((address - this.#start) / WINDOW);
    const at = this.#start + index * WINDOW;
    let words = this.#windows.get(index);
    if (words === undefined) {
      words = new Uint32Array(viewOf(at, Math.min(WINDOW, this.#end - at)));
      this.#windows.set(index, words);
    }
    this.lastAddress = at;
    this.#last = words;
    return words;
  }
}
