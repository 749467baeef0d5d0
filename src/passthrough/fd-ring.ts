/**
 * The O_PATH descriptors of inodes that are open, and which of them to close when there is no room for another.
 *
 * Second chance: a hand goes round; a descriptor used since it last came by is passed over once. So the ones in use
 * stay, and using one costs a single store.
 */
import { closeFile } from '../host/files-open.ts';
import type { FdBudget } from './fd-budget.ts';
import { InodeFlag, type InodeTable } from './inode-table.ts';

const STAYS = InodeFlag.KEEP_FD | InodeFlag.HELD;

export class FdRing {
  #slots = new Int32Array(256);
  #count = 0;
  #hand = 0;
  readonly #table: InodeTable;
  readonly #budget: FdBudget;

  constructor(table: InodeTable, budget: FdBudget) {
    this.#table = table;
    this.#budget = budget;
  }

  /** Gives the inode its descriptor, owned from here on and counted. */
  add(slot: number, fd: number): void {
    if (this.#count === this.#slots.length) {
      const longer = new Int32Array(this.#count * 2);
      longer.set(this.#slots);
      this.#slots = longer;
    }
    this.#slots[this.#count] = slot;
    this.#table.ringAt[slot] = this.#count;
    this.#table.fd[slot] = fd;
    this.#table.isRecent[slot] = 1;
    this.#count += 1;
    this.#budget.take();
  }

  /** Closes the inode's descriptor. */
  close(slot: number): void {
    const table = this.#table;
    closeFile(table.fd[slot]!);
    table.fd[slot] = -1;
    const at = table.ringAt[slot]!;
    table.ringAt[slot] = -1;
    this.#count -= 1;
    const last = this.#slots[this.#count]!;
    if (last !== slot) {
      this.#slots[at] = last;
      table.ringAt[last] = at;
    }
    this.#budget.giveBack();
  }

  /** Closes the descriptor that was idle longest, more or less. @returns false if every one must stay open */
  evict(): boolean {
    const table = this.#table;
    for (let steps = this.#count * 2; steps > 0; steps -= 1) {
      if (this.#hand >= this.#count) this.#hand = 0;
      const slot = this.#slots[this.#hand]!;
      if ((table.flags[slot]! & STAYS) === 0 && table.isRecent[slot] === 0) {
        this.close(slot);
        return true;
      }
      table.isRecent[slot] = 0;
      this.#hand += 1;
    }
    return false;
  }
}
