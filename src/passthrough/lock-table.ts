/**
 * fcntl locks of the guest's processes, as locks on the host: seen by other guests and by the host's own programs.
 *
 * A process's locks on a file must be one another's, and end together when it closes any descriptor of the file. So
 * each (inode, lock owner) has one open file description of its own, whose OFD locks they are.
 *
 * An owner may also be an open file of the guest (its OFD locks; a request does not tell). Such locks end with that file,
 * and the guest's kernel says nothing but RELEASE. A process's own have ended by then: it sent FLUSH before.
 *
 * The lock that threads share around these tables is held across fcntl(2), which does not wait; where it might (a file system
 * of the network), only those wait that have to do with locks.
 */
import { Errno } from '../../protocol/errno.ts';
import { findRangeLock, setRangeLock } from '../host/files-lock.ts';
import { closeFile, O_NONBLOCK, O_RDONLY, O_RDWR } from '../host/files-open.ts';
import type { FdBudget } from './fd-budget.ts';
import type { InodeStore } from './inode-store.ts';
import { type LockOwner, type LockRange, LockRows } from './lock-rows.ts';
import type { TableMemory } from './table-memory.ts';

export class LockTable {
  readonly #memory: TableMemory;
  readonly #rows: LockRows;
  readonly #inodes: InodeStore;
  readonly #budget: FdBudget;

  constructor(memory: TableMemory, inodes: InodeStore, budget: FdBudget) {
    this.#memory = memory;
    this.#rows = new LockRows(memory);
    this.#inodes = inodes;
    this.#budget = budget;
  }

  /** (inode, owner) pairs with locks, or that had some. */
  get count(): number {
    return this.#rows.count;
  }

  /**
   * A lock that the one wanted conflicts with: fills the `struct flock` at `lock` as F_OFD_GETLK does.
   *
   * @param slot of a file that is open
   * @returns the process in the guest that holds it; 0 when it is not this guest's or there is none; or −errno
   */
  find(slot: number, wanted: LockRange, lock: number): number {
    this.#memory.acquireLocks();
    const result = this.#find(slot, wanted, lock);
    this.#memory.releaseLocks();
    return result;
  }

  #find(slot: number, wanted: LockRange, lock: number): number {
    const rows = this.#rows;
    const row = rows.find(slot, wanted);
    const fd = row === 0 ? this.#open(slot) : rows.fd(row);
    if (fd < 0) return fd;
    const result = findRangeLock(fd, lock);
    if (row === 0) closeFile(fd);
    if (result < 0) return result;
    return rows.conflict(slot, wanted) === 0 ? 0 : rows.conflictPid;
  }

  /**
   * Sets a lock, without waiting.
   *
   * @param handle row of the open file it is set through
   * @param lock address of the `struct flock` that says the same
   * @returns 0 or −errno; EAGAIN when another holds it
   */
  set(slot: number, wanted: LockRange, handle: number, lock: number): number {
    this.#memory.acquireLocks();
    const row = this.#rowFor(slot, wanted, handle);
    let result = row;
    if (row > 0) {
      result = setRangeLock(this.#rows.fd(row), lock);
      if (result === 0 && !this.#rows.setRange(row, wanted)) result = -Errno.ENOLCK;
    }
    this.#memory.releaseLocks();
    return result;
  }

  /** @param lock address of the `struct flock` that says the same. @returns 0 or −errno */
  clear(slot: number, owner: LockOwner, start: bigint, end: bigint, lock: number): number {
    this.#memory.acquireLocks();
    const row = this.#rows.find(slot, owner);
    const result = row === 0 ? 0 : setRangeLock(this.#rows.fd(row), lock);
    if (row !== 0 && result === 0) this.#rows.clearRange(row, start, end);
    this.#memory.releaseLocks();
    return result;
  }

  /**
   * Notes that an owner waits for what it wants, which `set` has just refused.
   *
   * @returns false if whoever is in the way waits, by however many steps, for this owner: it would be for ever
   */
  mayWait(slot: number, wanted: LockRange): boolean {
    this.#memory.acquireLocks();
    const mayWait = this.#mayWait(slot, wanted);
    this.#memory.releaseLocks();
    return mayWait;
  }

  #mayWait(slot: number, wanted: LockRange): boolean {
    const rows = this.#rows;
    const row = rows.find(slot, wanted);
    if (row === 0) return true;
    const blocker = rows.conflict(slot, wanted);
    // A circle is closed by what is noted last, so what is noted already closes none.
    if (blocker !== 0 && rows.isWaiting(row, blocker)) return true;
    rows.stopWaiting(wanted);
    if (blocker === 0) return true;
    if (rows.isCircle(row, blocker)) return false;
    rows.setWaiting(row, blocker);
    return true;
  }

  /** The owner does not wait any more. */
  stopWaiting(owner: LockOwner): void {
    if (this.#rows.waiterCount === 0) return;
    this.#memory.acquireLocks();
    this.#rows.stopWaiting(owner);
    this.#memory.releaseLocks();
  }

  /** Ends all locks an owner has on a file. */
  drop(slot: number, owner: LockOwner): void {
    this.#memory.acquireLocks();
    const row = this.#rows.find(slot, owner);
    if (row !== 0) this.#end(row);
    this.#memory.releaseLocks();
  }

  /** An open file is no more: ends the locks set through it that no FLUSH has ended. */
  dropHandle(slot: number, handle: number): void {
    this.#memory.acquireLocks();
    let next = 0;
    for (let row = this.#rows.first(slot); row !== 0; row = next) {
      next = this.#rows.next(row);
      if (this.#rows.handle(row) === handle) this.#end(row);
    }
    this.#memory.releaseLocks();
  }

  /** Ends all locks. */
  dropAll(): void {
    this.#memory.acquireLocks();
    for (let row = 1; row < this.#rows.top; row += 1) if (this.#rows.slot(row) !== 0) this.#end(row);
    this.#memory.releaseLocks();
  }

  #end(row: number): void {
    const slot = this.#rows.slot(row);
    closeFile(this.#rows.fd(row)); // and with it its locks
    this.#budget.giveBack();
    this.#rows.remove(row);
    this.#memory.acquire();
    this.#inodes.references.unpin(slot);
    this.#inodes.references.unlock();
  }

  #rowFor(slot: number, owner: LockOwner, handle: number): number {
    const known = this.#rows.find(slot, owner);
    if (known !== 0) {
      this.#rows.setHandle(known, handle);
      return known;
    }
    const fd = this.#open(slot);
    if (fd < 0) return fd;
    const row = this.#rows.add(slot, owner, fd, handle);
    if (row === 0) {
      closeFile(fd);
      return -Errno.ENOLCK;
    }
    this.#budget.take();
    this.#memory.acquire();
    this.#inodes.references.pin(slot);
    this.#memory.release();
    return row;
  }

  /** A write lock takes a descriptor open for writing; where that cannot be had, read locks still work. */
  #open(slot: number): number {
    const fd = this.#inodes.opener.open(slot, O_RDWR | O_NONBLOCK);
    const isRefused =
      fd === -Errno.EROFS || fd === -Errno.EPERM || fd === -Errno.ETXTBSY || fd === -Errno.EACCES;
    return isRefused ? this.#inodes.opener.open(slot, O_RDONLY | O_NONBLOCK) : fd;
  }
}
