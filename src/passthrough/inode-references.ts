/**
 * Who still needs an inode: the guest's lookups, and our own pins. What nobody needs is given up: its descriptor is
 * closed, its row goes cold or free, and so do the directories that only it kept.
 *
 * All of it happens under the tables' lock. What another thread is using just now is left to that one.
 */
import { InodeFlag } from './inode-row.ts';
import { type InodeTable, ROOT_SLOT } from './inode-table.ts';
import type { InodeParts } from './inode-opener.ts';
import { COLD_ROWS, HeaderWord } from './table-memory.ts';
import { ToClose } from './to-close.ts';

export class InodeReferences {
  /** Closed by `unlock`. */
  readonly toClose = new ToClose();
  readonly #parts: InodeParts;
  readonly #table: InodeTable;

  constructor(parts: InodeParts) {
    this.#parts = parts;
    this.#table = parts.table;
  }

  /** Gives the lock back, then closes what there is to close. */
  unlock(): void {
    this.#parts.memory.release();
    this.toClose.closeAll();
  }

  /** The guest drops `count` references to a nodeid, which may be any number. Takes the lock, and gives it back. */
  forget(nodeid: number, count: number): void {
    this.#parts.memory.acquire();
    const slot = this.#table.slotOf(nodeid);
    if (slot > ROOT_SLOT) this.#drop(slot, count);
    this.unlock();
  }

  /** One lookup less. Takes the lock, and gives it back. */
  unlook(slot: number): void {
    this.#parts.memory.acquire();
    if (slot > ROOT_SLOT && this.#table.isLive(slot)) this.#drop(slot, 1);
    this.unlock();
  }

  #drop(slot: number, count: number): void {
    this.#table.addLookups(slot, -count);
    if (this.#isUnneeded(slot)) this.#giveUp(slot);
  }

  pin(slot: number): void {
    this.#table.addPins(slot, 1);
  }

  unpin(slot: number): void {
    this.#table.addPins(slot, -1);
    if (this.#isUnneeded(slot)) this.#giveUp(slot);
  }

  #isUnneeded(slot: number): boolean {
    const table = this.#table;
    return table.pins(slot) === 0 && table.lookups(slot) === 0 && table.isLive(slot);
  }

  /** Gives a nodeid to a row that has none: new, cold, or left to another thread. */
  revive(slot: number): void {
    const table = this.#table;
    if ((table.flags(slot) & InodeFlag.COLD) !== 0) {
      this.#parts.mounts.hold(table.mount(slot));
      table.warm(slot);
    } else table.publish(slot);
  }

  /** A loop, since paths may be very deep. */
  #giveUp(slot: number): void {
    const table = this.#table;
    let at = slot;
    while (at > 0) {
      table.unpublish(at);
      if ((table.flags(at) & InodeFlag.LEFT) !== 0) return;
      if (this.#parts.inUse.leaveInode(at)) {
        table.setFlags(at, InodeFlag.LEFT);
        return;
      }
      at = this.#settle(at);
    }
  }

  /** Nobody uses any more what was left. */
  settleLeft(slot: number): void {
    const table = this.#table;
    table.clearFlags(slot, InodeFlag.LEFT);
    if (table.isLive(slot)) return; // looked up again meanwhile
    if ((table.flags(slot) & InodeFlag.BARE) !== 0) {
      table.recycle(slot);
      return;
    }
    const parent = this.#settle(slot);
    if (parent > 0) this.#giveUp(parent);
  }

  /** @returns the directory that nobody needs now either, or 0 */
  #settle(slot: number): number {
    const { memory, ring, lingering, names, mounts, budget } = this.#parts;
    const table = this.#table;
    if (table.fd(slot) >= 0) this.toClose.add(ring.take(slot));
    if (!lingering.isEmpty)
      for (let fd = lingering.takeReader(slot); fd >= 0; fd = lingering.takeReader(slot)) {
        this.toClose.add(fd);
        budget.giveBack();
      }
    if ((table.flags(slot) & InodeFlag.FRESH) !== 0) {
      memory.header[HeaderWord.FRESH_COUNT]! -= 1;
      table.clearFlags(slot, InodeFlag.FRESH | InodeFlag.LENT);
      lingering.dropOwner(slot);
    }
    const mount = table.mount(slot);
    const isMountGone = mounts.release(mount);
    const parent = names.drop(slot);
    const isLost = (table.flags(slot) & (InodeFlag.KEEP_FD | InodeFlag.UNINDEXED)) !== 0;
    if (isLost || isMountGone || !table.hasHandle(slot) || !table.canWarm(slot)) this.#recycle(slot);
    else {
      const before = table.chill(slot);
      if (before !== 0) this.#recycle(before);
    }
    if (isMountGone) this.#forgetMount(mount);
    if (parent === 0) return 0;
    table.addPins(parent, -1);
    return this.#isUnneeded(parent) ? parent : 0;
  }

  #recycle(slot: number): void {
    const table = this.#table;
    table.setFlags(slot, InodeFlag.BARE);
    table.unindex(slot);
    if (this.#parts.inUse.leaveInode(slot)) table.setFlags(slot, InodeFlag.LEFT);
    else table.recycle(slot);
  }

  /** Forgets a mount that no inode is on: one that was noted for an inode that then could not be. */
  forgetEmptyMount(mount: number): void {
    if (this.#parts.mounts.isEmpty(mount)) this.#forgetMount(mount);
  }

  #forgetMount(mount: number): void {
    const { mounts, budget } = this.#parts;
    this.#dropCold(mount);
    const fd = mounts.forget(mount);
    if (fd < 0) return;
    this.toClose.add(fd);
    budget.giveBack();
  }

  #dropCold(mount: number): void {
    for (let place = 0; place < COLD_ROWS; place += 1) {
      const slot = this.#table.takeCold(place, mount);
      if (slot !== 0) this.#recycle(slot);
    }
  }

  /** Notes where an inode without file handle was seen, if its directory is still known. */
  noteName(slot: number, parent: number, octets: Uint8Array, start: number, length: number): void {
    const { names } = this.#parts;
    const table = this.#table;
    if (names.is(slot, parent, octets, start, length)) return;
    const before = names.drop(slot);
    if (table.isLive(parent) && names.set(slot, parent, octets, start, length)) this.pin(parent);
    else table.setFlags(slot, InodeFlag.KEEP_FD);
    if (before > 0) this.unpin(before);
  }

  /** The guest has let go of all but the root. Takes the lock, and gives it back. */
  forgetAll(): void {
    const table = this.#table;
    this.#parts.memory.acquire();
    for (let slot = ROOT_SLOT + 1; slot < table.top; slot += 1)
      if (table.isLive(slot)) this.#drop(slot, Infinity);
    this.#dropCold(-1);
    this.unlock();
  }

  /** For good. No other thread serves the share any more. */
  forgetRoot(): void {
    if (!this.#table.isLive(ROOT_SLOT)) return;
    this.#table.unpublish(ROOT_SLOT);
    this.#settle(ROOT_SLOT);
    this.toClose.closeAll();
  }
}
