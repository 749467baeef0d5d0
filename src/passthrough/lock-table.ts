/**
 * fcntl locks of the guest's processes, as locks on the host: seen by other guests and by the host's own programs.
 *
 * A process's locks on a file must be one another's, and end together when it closes any descriptor of the file. So
 * each (inode, lock owner) has one open file description of its own, whose OFD locks they are.
 *
 * An owner may also be an open file of the guest (its OFD locks; a request does not tell). Such locks end with that file,
 * and the guest's kernel says nothing but RELEASE. A process's own have ended by then: it sent FLUSH before.
 */
import { Errno } from '../../protocol/errno.ts';
import { findRangeLock, setRangeLock } from '../host/files-lock.ts';
import { closeFile, O_NONBLOCK, O_RDONLY, O_RDWR } from '../host/files-open.ts';
import type { FdBudget } from './fd-budget.ts';
import type { InodeStore } from './inode-store.ts';
import { type LockRange, LockRanges, type Owner } from './lock-ranges.ts';

/** What carries one owner's locks on a file. */
interface Carrier {
  readonly fd: number;
  /** Row of the open file that the owner locked through last. */
  handle: number;
}

interface FileLocks {
  readonly carriers: Map<Owner, Carrier>;
  readonly ranges: LockRanges;
}

export class LockTable {
  readonly #inodes: InodeStore;
  readonly #budget: FdBudget;
  /** By row of the inode, which is pinned while it is here. */
  readonly #files = new Map<number, FileLocks>();
  /** Whom an owner waits for. */
  readonly #waiting = new Map<Owner, Owner>();
  #count = 0;

  constructor(inodes: InodeStore, budget: FdBudget) {
    this.#inodes = inodes;
    this.#budget = budget;
  }

  /** (inode, owner) pairs with locks, or that had some. */
  get count(): number {
    return this.#count;
  }

  /**
   * A lock that the one wanted conflicts with: fills the `struct flock` at `lock` as F_OFD_GETLK does.
   *
   * @returns the process in the guest that holds it; 0 when it is not this guest's or there is none; or −errno
   */
  find(slot: number, wanted: LockRange, lock: number): number {
    const known = this.#files.get(slot)?.carriers.get(wanted.owner)?.fd;
    const fd = known ?? this.#open(slot);
    if (fd < 0) return fd;
    const result = findRangeLock(fd, lock);
    if (known === undefined) closeFile(fd);
    if (result < 0) return result;
    return this.#files.get(slot)?.ranges.conflict(wanted)?.pid ?? 0;
  }

  /**
   * Sets a lock, without waiting.
   *
   * @param handle row of the open file it is set through
   * @param lock address of the `struct flock` that says the same
   * @returns 0 or −errno; EAGAIN when another holds it
   */
  set(slot: number, wanted: LockRange, handle: number, lock: number): number {
    const fd = this.#fdFor(slot, wanted.owner, handle);
    if (fd < 0) return fd;
    const result = setRangeLock(fd, lock);
    if (result === 0) this.#files.get(slot)!.ranges.set(wanted);
    return result;
  }

  /** @param lock address of the `struct flock` that says the same. @returns 0 or −errno */
  clear(slot: number, owner: Owner, start: bigint, end: bigint, lock: number): number {
    const file = this.#files.get(slot);
    const fd = file?.carriers.get(owner)?.fd;
    if (file === undefined || fd === undefined) return 0; // it has none here
    const result = setRangeLock(fd, lock);
    if (result === 0) file.ranges.clear(owner, start, end);
    return result;
  }

  /**
   * Notes that an owner waits for what it wants.
   *
   * @returns false if whoever is in the way waits, by however many steps, for this owner: it would be for ever
   */
  mayWait(slot: number, wanted: LockRange): boolean {
    const blocker = this.#files.get(slot)?.ranges.conflict(wanted)?.owner;
    this.#waiting.delete(wanted.owner);
    if (blocker === undefined) return true;
    let next: Owner | undefined = blocker;
    for (let steps = this.#waiting.size; next !== undefined && steps >= 0; steps -= 1) {
      if (next === wanted.owner) return false;
      next = this.#waiting.get(next);
    }
    this.#waiting.set(wanted.owner, blocker);
    return true;
  }

  /** The owner does not wait any more. */
  stopWaiting(owner: Owner): void {
    if (this.#waiting.size > 0) this.#waiting.delete(owner);
  }

  /** Ends all locks an owner has on a file. */
  drop(slot: number, ownerLo: number, ownerHi: number): void {
    const file = this.#files.get(slot);
    if (file === undefined) return;
    const owner = ownerName(ownerLo, ownerHi);
    const carrier = file.carriers.get(owner);
    if (carrier !== undefined) this.#end(slot, file, owner, carrier);
  }

  /** An open file is no more: ends the locks set through it that no FLUSH has ended. */
  dropHandle(slot: number, handle: number): void {
    const file = this.#files.get(slot);
    if (file === undefined) return;
    for (const [owner, carrier] of file.carriers)
      if (carrier.handle === handle) this.#end(slot, file, owner, carrier);
  }

  #end(slot: number, file: FileLocks, owner: Owner, { fd }: Carrier): void {
    closeFile(fd); // and with it its locks
    this.#budget.giveBack();
    this.#count -= 1;
    file.carriers.delete(owner);
    file.ranges.clear(owner, 0n, 2n ** 64n);
    this.#waiting.delete(owner);
    if (file.carriers.size > 0) return;
    this.#files.delete(slot);
    this.#inodes.unpin(slot);
  }

  /** Ends all locks. */
  clearAll(): void {
    for (const { carriers } of this.#files.values())
      for (const { fd } of carriers.values()) {
        closeFile(fd);
        this.#budget.giveBack();
      }
    this.#files.clear();
    this.#waiting.clear();
    this.#count = 0;
  }

  #fdFor(slot: number, owner: Owner, handle: number): number {
    const known = this.#files.get(slot)?.carriers.get(owner);
    if (known !== undefined) {
      known.handle = handle;
      return known.fd;
    }
    const fd = this.#open(slot);
    if (fd < 0) return fd;
    let file = this.#files.get(slot);
    if (file === undefined) {
      file = { carriers: new Map(), ranges: new LockRanges() };
      this.#files.set(slot, file);
      this.#inodes.pin(slot);
    }
    file.carriers.set(owner, { fd, handle });
    this.#budget.take();
    this.#count += 1;
    return fd;
  }

  /** A write lock takes a descriptor open for writing; where that cannot be had, read locks still work. */
  #open(slot: number): number {
    const fd = this.#inodes.opener.open(slot, O_RDWR | O_NONBLOCK);
    const isRefused =
      fd === -Errno.EROFS || fd === -Errno.EPERM || fd === -Errno.ETXTBSY || fd === -Errno.EACCES;
    return isRefused ? this.#inodes.opener.open(slot, O_RDONLY | O_NONBLOCK) : fd;
  }
}

export function ownerName(lo: number, hi: number): Owner {
  return `${hi.toString(16)}.${lo.toString(16)}`;
}
