/**
 * Descriptors of files that the guest has closed, kept open for a moment: guests open the same file again and again, and
 * what they create they often change or remove at once. A few, oldest first, and for a few milliseconds, so that the
 * host hardly notices. Under the tables' lock unless said otherwise.
 *
 * One that was open for reading serves the next OPEN of its inode. One that a file was created with is the inode's own
 * (`fresh-inodes.ts`) and is only listed here, so that it ends in time.
 */
import { HeaderWord, MAX_LINGERING, type TableMemory } from './table-memory.ts';

/** Milliseconds. An entry is kept for at least one such period, and hardly more than two. */
const PERIOD_MS = 10;

/** Words of an entry: the inode's row, 0 where there is none any more; and the descriptor. */
const WORDS = 2;
const FD = 1;
/** In place of a descriptor: it is the inode's own. */
const OWN = -1;

export class Lingering {
  /** What was taken last: row of the inode, and the descriptor, the caller's from then on; or −1 where the inode owns it. */
  slot = 0;
  fd = OWN;
  readonly #header: Int32Array;
  readonly #words: Int32Array;

  constructor({ header, lingering }: TableMemory) {
    this.#header = header;
    this.#words = lingering;
  }

  // Both count up for ever, modulo 2^32.
  #head(): number {
    return this.#header[HeaderWord.LINGER_HEAD]!;
  }

  #tail(): number {
    return this.#header[HeaderWord.LINGER_TAIL]!;
  }

  /** Any time. */
  get isEmpty(): boolean {
    return this.#head() === this.#tail();
  }

  /** Holes at the front take no room after this was looked at. */
  get isFull(): boolean {
    const tail = this.#tail();
    let head = this.#head();
    if (((tail - head) | 0) < MAX_LINGERING) return false;
    while (head !== tail && this.#words[placeOf(head)] === 0) head = (head + 1) | 0;
    this.#header[HeaderWord.LINGER_HEAD] = head;
    return ((tail - head) | 0) >= MAX_LINGERING;
  }

  /** Adds a descriptor open for reading, which is owned from here on. There is room. */
  addReader(slot: number, fd: number): void {
    this.#add(slot, fd);
  }

  /** Adds an inode that owns its descriptor. There is room. */
  addOwner(slot: number): void {
    this.#add(slot, OWN);
  }

  #add(slot: number, fd: number): void {
    const tail = this.#tail();
    const at = placeOf(tail);
    this.#words[at] = slot;
    this.#words[at + FD] = fd;
    this.#header[HeaderWord.LINGER_TAIL] = (tail + 1) | 0;
  }

  /** Takes out the descriptor of this inode that was added last. @returns it, the caller's; or −1 */
  takeReader(slot: number): number {
    const at = this.#find(slot, false);
    return at < 0 ? -1 : this.#take(at);
  }

  /** The inode, if it is listed as owner, is given up. */
  dropOwner(slot: number): void {
    const at = this.#find(slot, true);
    if (at >= 0) this.#take(at);
  }

  /** The newest first: what is looked for is mostly among them. */
  #find(slot: number, isOwner: boolean): number {
    const head = this.#head();
    for (let i = (this.#tail() - 1) | 0; ((i - head) | 0) >= 0; i = (i - 1) | 0) {
      const at = placeOf(i);
      if (this.#words[at] === slot && (this.#words[at + FD] === OWN) === isOwner) return at;
    }
    return -1;
  }

  #take(at: number): number {
    this.#words[at] = 0;
    this.#trim(this.#head());
    return this.#words[at + FD]!;
  }

  /** Holes at the end are none. */
  #trim(head: number): void {
    let tail = this.#tail();
    while (tail !== head && this.#words[placeOf((tail - 1) | 0)] === 0) tail = (tail - 1) | 0;
    this.#header[HeaderWord.LINGER_TAIL] = tail;
    if (((this.#header[HeaderWord.LINGER_MARK]! - tail) | 0) > 0) this.#header[HeaderWord.LINGER_MARK] = tail;
  }

  /** Takes the oldest out, into `slot` and `fd`. @returns false if there is none */
  takeOldest(): boolean {
    return this.#takeBefore(this.#tail());
  }

  /** The same if it has been here for a period. */
  takeDue(): boolean {
    return this.#takeBefore(this.#header[HeaderWord.LINGER_MARK]!);
  }

  #takeBefore(end: number): boolean {
    for (let head = this.#head(); ((end - head) | 0) > 0;) {
      const at = placeOf(head);
      head = (head + 1) | 0;
      this.#header[HeaderWord.LINGER_HEAD] = head;
      if (this.#words[at] === 0) continue;
      this.slot = this.#words[at]!;
      this.fd = this.#words[at + FD]!;
      return true;
    }
    return false;
  }

  /**
   * Whether a period is over: then `takeDue` gives what was here when it began, and `beginPeriod` has to follow.
   *
   * @param now milliseconds of a clock that all threads share
   * @returns 0, or milliseconds until the end
   */
  untilEnd(now: number): number {
    const since = (now - this.#header[HeaderWord.LINGER_SINCE]!) | 0;
    return since >= 0 && since < PERIOD_MS ? PERIOD_MS - since : 0;
  }

  /** @returns milliseconds until its end */
  beginPeriod(now: number): number {
    this.#header[HeaderWord.LINGER_SINCE] = now | 0;
    this.#header[HeaderWord.LINGER_MARK] = this.#tail();
    return PERIOD_MS;
  }
}

const placeOf = (index: number): number => (index & (MAX_LINGERING - 1)) * WORDS;
