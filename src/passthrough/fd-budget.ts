/**
 * How many descriptors a share holds open, and how many it may: inodes, open files, locks, one a mount. What a call
 * opens and closes again is not counted; the limit leaves room for that, and for what several threads open at once.
 */
import { HeaderWord, type TableMemory } from './table-memory.ts';

/** Below this a share cannot walk a path. */
const LEAST = 32;

/** The limit a share has when so many are wished for. */
export const fdLimitOf = (wanted: number): number => Math.max(LEAST, Math.floor(wanted));

export class FdBudget {
  readonly limit: number;
  readonly #header: Int32Array;
  readonly #isShared: boolean;

  constructor(memory: TableMemory) {
    this.limit = memory.fdLimit;
    this.#header = memory.header;
    this.#isShared = memory.isShared;
  }

  get used(): number {
    return this.#header[HeaderWord.FDS_USED]!;
  }

  get isFull(): boolean {
    return this.used >= this.limit;
  }

  take(): void {
    if (this.#isShared) Atomics.add(this.#header, HeaderWord.FDS_USED, 1);
    else this.#header[HeaderWord.FDS_USED]! += 1;
  }

  giveBack(): void {
    if (this.#isShared) Atomics.sub(this.#header, HeaderWord.FDS_USED, 1);
    else this.#header[HeaderWord.FDS_USED]! -= 1;
  }
}
