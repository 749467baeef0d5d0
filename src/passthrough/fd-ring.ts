/**
 * The O_PATH descriptors of inodes that are open, and which of them to close when there is no room for another.
 *
 * Second chance: a hand goes round; a descriptor used since it last came by is passed over once. So the ones in use
 * stay, and using one costs a single store. Under the lock; nothing is closed here.
 */
import type { FdBudget } from './fd-budget.ts';
import type { InUse } from './in-use.ts';
import { InodeFlag } from './inode-row.ts';
import type { InodeTable } from './inode-table.ts';
import { HeaderWord, type TableMemory } from './table-memory.ts';

/** Without its descriptor such an inode could not be reached. */
const STAYS = InodeFlag.KEEP_FD | InodeFlag.FRESH;

export class FdRing {
  readonly #header: Int32Array;
  readonly #slots: Int32Array;
  readonly #table: InodeTable;
  readonly #budget: FdBudget;
  readonly #inUse: InUse;

  constructor({ header, ring }: TableMemory, table: InodeTable, budget: FdBudget, inUse: InUse) {
    this.#header = header;
    this.#slots = ring;
    this.#table = table;
    this.#budget = budget;
    this.#inUse = inUse;
  }

  /** Gives the inode its descriptor, owned from here on and counted. @returns false if there is no place for it */
  add(slot: number, fd: number): boolean {
    const count = this.#header[HeaderWord.RING_COUNT]!;
    if (count === this.#slots.length) return false;
    this.#slots[count] = slot;
    this.#header[HeaderWord.RING_COUNT] = count + 1;
    this.#table.setRingAt(slot, count);
    this.#table.setRecent(slot, 1);
    this.#table.setFd(slot, fd);
    this.#budget.take();
    return true;
  }

  /** Takes the inode's descriptor away. @returns it, the caller's from here on */
  take(slot: number): number {
    const table = this.#table;
    const fd = table.fd(slot);
    table.setFd(slot, -1);
    this.#remove(slot);
    return fd;
  }

  /** The same, unless somebody uses it just now: then −1. */
  takeUnused(slot: number): number {
    const table = this.#table;
    const fd = table.fd(slot);
    // First nobody may find it any more, then nobody may be using it.
    table.setFd(slot, -1);
    if (this.#inUse.isInodeUsed(slot)) {
      table.setFd(slot, fd);
      return -1;
    }
    this.#remove(slot);
    return fd;
  }

  #remove(slot: number): void {
    const table = this.#table;
    const at = table.ringAt(slot);
    table.setRingAt(slot, -1);
    const last = this.#header[HeaderWord.RING_COUNT]! - 1;
    this.#header[HeaderWord.RING_COUNT] = last;
    const moved = this.#slots[last]!;
    if (moved !== slot) {
      this.#slots[at] = moved;
      table.setRingAt(moved, at);
    }
    this.#budget.giveBack();
  }

  /** Takes the descriptor away that was idle longest, more or less. @returns it, or −1 if every one must stay open */
  evict(): number {
    const table = this.#table;
    const header = this.#header;
    for (let steps = header[HeaderWord.RING_COUNT]! * 2; steps > 0; steps -= 1) {
      let hand = header[HeaderWord.RING_HAND]!;
      if (hand >= header[HeaderWord.RING_COUNT]!) hand = 0;
      const slot = this.#slots[hand]!;
      header[HeaderWord.RING_HAND] = hand;
      if ((table.flags(slot) & STAYS) === 0 && !table.isRecent(slot)) {
        const fd = this.takeUnused(slot);
        if (fd >= 0) return fd;
      }
      table.setRecent(slot, 0);
      header[HeaderWord.RING_HAND] = hand + 1;
    }
    return -1;
  }
}
