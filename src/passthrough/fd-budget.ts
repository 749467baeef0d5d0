/**
 * How many descriptors a share holds open, and how many it may: inodes, open files, locks, one a mount. What a call
 * opens and closes again is not counted; the limit leaves room for that.
 */

/** Below this a share cannot walk a path. */
const LEAST = 32;

export class FdBudget {
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = Math.max(LEAST, Math.floor(limit));
  }

  get used(): number {
    return this.#used;
  }

  get isFull(): boolean {
    return this.#used >= this.limit;
  }

  take(): void {
    this.#used += 1;
  }

  giveBack(): void {
    this.#used -= 1;
  }
}
