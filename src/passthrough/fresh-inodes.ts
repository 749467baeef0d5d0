/**
 * Inodes of files just created: their descriptor is the one the file was created with, open for real.
 *
 * So they need neither file handle nor an O_PATH descriptor, and a file that is written and removed again never gets
 * one. Once the guest has closed the file, this ends after a moment, and the inode is as any other: a descriptor that
 * is open for writing would bar the host from executing the file.
 */
import {
  AT_EMPTY_PATH,
  closeFile,
  EMPTY_PATH,
  fdName,
  O_PATH,
  openFile,
  replaceFd,
} from '../host/files-open.ts';
import type { InodeParts } from './inode-opener.ts';
import type { InodeReferences } from './inode-references.ts';
import { InodeFlag } from './inode-row.ts';
import type { InodeTable } from './inode-table.ts';
import { HeaderWord } from './table-memory.ts';

export class FreshInodes {
  readonly #parts: InodeParts;
  readonly #table: InodeTable;
  readonly #references: InodeReferences;
  readonly #header: Int32Array;
  /** Rows that came out of the list and are to end, but not under the lock. */
  readonly #ending: number[] = [];

  constructor(parts: InodeParts, references: InodeReferences) {
    this.#parts = parts;
    this.#table = parts.table;
    this.#references = references;
    this.#header = parts.memory.header;
  }

  /** Whether there are any. Any time. */
  get any(): boolean {
    return this.#header[HeaderWord.FRESH_COUNT]! > 0;
  }

  /** Makes a row just inserted fresh: it owns `fd` from here on. Under the lock. @returns false if there is no place for it */
  begin(slot: number, fd: number): boolean {
    if (!this.#parts.ring.add(slot, fd)) return false;
    this.#table.setFlags(slot, InodeFlag.FRESH | InodeFlag.LENT);
    this.#header[HeaderWord.FRESH_COUNT]! += 1;
    return true;
  }

  is(slot: number): boolean {
    return (this.#table.flags(slot) & InodeFlag.FRESH) !== 0;
  }

  /** The guest has closed the file it created. Under the lock; `endSome` has to follow after it. */
  closed(slot: number): void {
    if (!this.is(slot)) return;
    this.#table.clearFlags(slot, InodeFlag.LENT);
    this.#makeRoom();
    this.#parts.lingering.addOwner(slot);
  }

  /** Keeps a descriptor of a closed file for the next OPEN. Under the lock; `endSome` has to follow after it. */
  keepReader(slot: number, fd: number): void {
    this.#makeRoom();
    this.#parts.lingering.addReader(slot, fd);
  }

  #makeRoom(): void {
    const { lingering } = this.#parts;
    if (lingering.isFull && lingering.takeOldest()) this.#end();
  }

  /** Of what was taken out of the list. */
  #end(): void {
    const { lingering, budget } = this.#parts;
    if (lingering.fd < 0) this.#ending.push(lingering.slot);
    else {
      this.#references.toClose.add(lingering.fd);
      budget.giveBack();
    }
  }

  /**
   * Ends what has lingered for long enough.
   *
   * @param now milliseconds of a clock that all threads share
   * @returns milliseconds until there may be more, or −1 when nothing is left
   */
  endDue(now: number): number {
    const { memory, lingering } = this.#parts;
    if (lingering.isEmpty && this.#ending.length === 0) return -1;
    memory.acquire();
    let wait = lingering.untilEnd(now);
    if (wait === 0) {
      while (lingering.takeDue()) this.#end();
      wait = lingering.beginPeriod(now);
    }
    this.#references.unlock();
    this.endSome();
    return wait;
  }

  /** Ends the oldest, to make room for a descriptor. Not under the lock. @returns false if none could be closed */
  shed(): boolean {
    const { memory, lingering, budget } = this.#parts;
    while (!lingering.isEmpty) {
      const { used } = budget;
      memory.acquire();
      if (lingering.takeOldest()) this.#end();
      this.#references.unlock();
      this.endSome();
      if (budget.used < used) return true;
    }
    return false;
  }

  /** Closes all that lingers and is nobody's: the mount is gone. */
  closeAll(): void {
    const { memory, lingering } = this.#parts;
    memory.acquire();
    while (lingering.takeOldest()) this.#end();
    this.#references.unlock();
    this.#ending.length = 0;
  }

  /** Ends what had to make room. Not under the lock. */
  endSome(): void {
    // Those that cannot end now come again.
    for (let count = this.#ending.length; count > 0; count -= 1) this.#endOne(this.#ending.shift()!);
  }

  #endOne(slot: number): void {
    const { memory, inUse, fileHandles, procSelfFd } = this.#parts;
    const table = this.#table;
    const marks = inUse.count;
    inUse.markInode(slot); // it may be given up meanwhile, but its descriptor stays
    const fd = this.#mayEnd(slot) ? table.fd(slot) : -1;
    const isLost = (table.flags(slot) & InodeFlag.KEEP_FD) !== 0;
    const hasHandle =
      fd >= 0 && !isLost && (table.hasHandle(slot) || fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) === 0);
    const path = fd < 0 || hasHandle ? -1 : openFile(procSelfFd, fdName(fd), O_PATH, 0);
    memory.acquire();
    inUse.dropTo(marks);
    const isDone = hasHandle
      ? this.#endWithHandle(slot)
      : path >= 0 && this.#mayEnd(slot) && this.#endWithPath(slot, path);
    if (!isDone && this.is(slot) && (table.flags(slot) & InodeFlag.LENT) === 0) this.#ending.push(slot);
    this.#references.unlock();
    if (path >= 0) closeFile(path);
  }

  /** A row may be listed more than once, and be another inode's by now. */
  #mayEnd(slot: number): boolean {
    const flags = this.#table.flags(slot);
    return (flags & (InodeFlag.FRESH | InodeFlag.LENT)) === InodeFlag.FRESH && this.#table.isLive(slot);
  }

  /** From here on it is found by its file handle. */
  #endWithHandle(slot: number): boolean {
    const { ring, fileHandles } = this.#parts;
    const table = this.#table;
    if (!this.#mayEnd(slot) || (table.flags(slot) & InodeFlag.KEEP_FD) !== 0) return false;
    if (!table.hasHandle(slot) && !table.setHandle(slot, fileHandles.words)) return false;
    table.setFlags(slot, InodeFlag.VERIFIED);
    const fd = ring.takeUnused(slot);
    if (fd < 0) return false;
    this.#references.toClose.add(fd);
    this.#forget(slot);
    return true;
  }

  /** It has no name any more, or no file handle: its descriptor stays, but is not open for real any more. */
  #endWithPath(slot: number, path: number): boolean {
    const table = this.#table;
    if (replaceFd(table.fd(slot), path) < 0) return false;
    table.setFlags(slot, InodeFlag.KEEP_FD);
    this.#forget(slot);
    return true;
  }

  #forget(slot: number): void {
    this.#table.clearFlags(slot, InodeFlag.FRESH);
    this.#header[HeaderWord.FRESH_COUNT]! -= 1;
  }
}
