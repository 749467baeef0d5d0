/**
 * Descriptors of inodes: the O_PATH one by which an inode is reached, and those of files opened for real.
 *
 * Idle O_PATH descriptors are closed when there is no room, and opened again by file handle, else by directory and
 * name. What was opened again is checked to be the same inode; otherwise the answer is ESTALE.
 *
 * Callers have marked the inodes they name (`in-use.ts`). Calls answer ≥ 0 or −errno; none is made under the lock.
 */
import { Errno } from '../../protocol/errno.ts';
import { StatxWord } from '../host/files-attributes.ts';
import { closeFile, fdName, O_NOFOLLOW, O_PATH, openFile, openHandle } from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';
import type { FdBudget } from './fd-budget.ts';
import type { FdRing } from './fd-ring.ts';
import type { FileHandles } from './file-handles.ts';
import type { InUse } from './in-use.ts';
import type { InodeNames } from './inode-names.ts';
import { InodeFlag } from './inode-row.ts';
import type { InodeTable } from './inode-table.ts';
import type { Lingering } from './lingering.ts';
import type { MountTable } from './mount-table.ts';
import { S_IFDIR, S_IFREG, type StatBuffer } from './stat-buffer.ts';
import type { TableMemory } from './table-memory.ts';

/** What the store shares with its opener. */
export interface InodeParts {
  readonly memory: TableMemory;
  readonly inUse: InUse;
  readonly table: InodeTable;
  readonly mounts: MountTable;
  readonly ring: FdRing;
  readonly lingering: Lingering;
  readonly names: InodeNames;
  readonly fileHandles: FileHandles;
  readonly budget: FdBudget;
  readonly stat: StatBuffer;
  /** A descriptor of /proc/self/fd, borrowed. */
  readonly procSelfFd: number;
}

export class InodeOpener {
  readonly #parts: InodeParts;
  readonly #table: InodeTable;
  /** A name, NUL-terminated, for openat. */
  readonly #name = NativeMemory.allocate(256);

  /** Closes what is open though nobody needs it. @returns false if there was nothing */
  readonly #shed: () => boolean;

  constructor(parts: InodeParts, shed: () => boolean) {
    this.#parts = parts;
    this.#table = parts.table;
    this.#shed = shed;
  }

  /** An O_PATH descriptor of the inode, lent while it is marked. Or −errno. */
  fdOf(slot: number): number {
    const fd = this.#table.fd(slot);
    if (fd < 0) return this.#table.hasHandle(slot) ? this.#reopenByHandle(slot) : this.#reopenByName(slot);
    this.#table.setRecent(slot, 1);
    return fd;
  }

  /** Makes room for one descriptor more. @returns 0 or −ENFILE */
  makeRoom(): number {
    return this.#parts.budget.isFull && !this.#evict() ? -Errno.ENFILE : 0;
  }

  #evict(): boolean {
    if (this.#shed()) return true;
    const { memory, ring } = this.#parts;
    memory.acquire();
    const fd = ring.evict();
    memory.release();
    if (fd >= 0) closeFile(fd);
    return fd >= 0;
  }

  /**
   * Opens the inode for real. Only regular files and directories: opening another kind would act on the host's
   * devices, pipes and sockets, which a guest opens on its own.
   *
   * @returns a descriptor the caller owns and has to count in the budget, or −errno
   */
  open(slot: number, flags: number): number {
    const table = this.#table;
    const { procSelfFd, inUse } = this.#parts;
    const format = table.format(slot);
    if (format !== S_IFREG && format !== S_IFDIR) return -Errno.EBADF;
    // By handle only what was seen to be the handle's: O_TRUNC must not hit another file.
    if ((table.flags(slot) & InodeFlag.VERIFIED) !== 0 && table.hasHandle(slot))
      return this.#openHandle(slot, flags);
    const marks = inUse.count;
    inUse.markInode(slot);
    const fd = this.fdOf(slot);
    let result = fd < 0 ? fd : this.makeRoom();
    if (result === 0) result = openFile(procSelfFd, fdName(fd), flags & ~O_NOFOLLOW, 0);
    inUse.dropTo(marks);
    return result;
  }

  /** Opens by file handle, within the budget. @returns a descriptor that is nobody's yet, or −errno */
  #openHandle(slot: number, flags: number): number {
    const table = this.#table;
    const room = this.makeRoom();
    if (room < 0) return room;
    const mountFd = this.#parts.mounts.fdOf(table.mount(slot));
    const handle = table.handleAddress(slot);
    const fd = openHandle(mountFd, handle, flags);
    // The process has other descriptors too: the limit may be reached before the budget is.
    if (fd !== -Errno.EMFILE || !this.#evict()) return fd;
    return openHandle(mountFd, handle, flags);
  }

  #reopenByHandle(slot: number): number {
    const fd = this.#openHandle(slot, O_PATH);
    if (fd === -Errno.ESTALE) this.#unindex(slot); // its number may be a new file's: that one is another inode
    if (fd < 0) return fd;
    if ((this.#table.flags(slot) & InodeFlag.VERIFIED) === 0 && !this.#isSame(fd, slot)) {
      // The handle was read by name, after the attributes were: only now is it sure that both are of one file.
      closeFile(fd);
      this.#unindex(slot);
      return -Errno.ESTALE;
    }
    return this.#give(slot, fd, InodeFlag.VERIFIED);
  }

  #unindex(slot: number): void {
    this.#parts.memory.acquire();
    this.#table.unindex(slot);
    this.#parts.memory.release();
  }

  /** Gives the inode a descriptor just opened, unless another thread was faster. @returns the one it has, or −ENFILE */
  #give(slot: number, fd: number, flags: number): number {
    const { memory, ring } = this.#parts;
    memory.acquire();
    const known = this.#table.fd(slot);
    const isAdded = known < 0 && ring.add(slot, fd);
    this.#table.setFlags(slot, flags);
    memory.release();
    if (isAdded) return fd;
    closeFile(fd);
    return known < 0 ? -Errno.ENFILE : known;
  }

  /**
   * Opens the first directory above whose own directory is open or has a file handle, then the one below it, and so on
   * by the names noted. Other threads may rename and evict meanwhile: each step looks anew, and there are not many.
   */
  #reopenByName(slot: number): number {
    const { inUse, memory } = this.#parts;
    for (let steps = -1; steps !== 0; steps -= 1) {
      const marks = inUse.count;
      memory.acquire();
      const above = this.#firstToOpen(slot);
      if (above >= 0) inUse.markInode(above);
      if (above >= 0) inUse.markInode(this.#table.parent(above));
      memory.release();
      if (steps < 0) steps = 2 * this.#depth + 8;
      const result = above < 0 ? -Errno.ESTALE : this.#reopenChild(above, this.#parent);
      inUse.dropTo(marks);
      if (result < 0) return result;
      const fd = this.#table.fd(slot);
      if (fd >= 0) return fd;
    }
    return -Errno.ENFILE;
  }

  #depth = 0;
  #parent = 0;

  /** Copies its name too. Under the lock. @returns −1 if the way up is not known */
  #firstToOpen(slot: number): number {
    const table = this.#table;
    let at = slot;
    for (this.#depth = 0; this.#depth <= table.count; this.#depth += 1) {
      const parent = table.parent(at);
      if (parent === 0) return -1;
      if (table.fd(parent) >= 0 || table.hasHandle(parent)) {
        this.#parent = parent;
        this.#parts.names.copy(at, this.#name.u8);
        return at;
      }
      at = parent;
    }
    return -1;
  }

  /** Opens an inode by its name, which is copied, in a directory that is open, or has a file handle. */
  #reopenChild(slot: number, parent: number): number {
    // Closed again by another thread: the next step finds another way.
    if (this.#table.fd(parent) < 0 && !this.#table.hasHandle(parent)) return 0;
    const dirfd = this.fdOf(parent);
    if (dirfd < 0) return dirfd;
    const room = this.makeRoom();
    if (room < 0) return room;
    const fd = openFile(dirfd, this.#name.address, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) return fd === -Errno.ENOENT || fd === -Errno.ENOTDIR ? -Errno.ESTALE : fd;
    if (!this.#isSame(fd, slot)) {
      closeFile(fd);
      return -Errno.ESTALE;
    }
    return this.#give(slot, fd, 0);
  }

  /** Whether `fd` is open on the inode of this row. Leaves its attributes in `stat`. */
  #isSame(fd: number, slot: number): boolean {
    const { stat, mounts } = this.#parts;
    const { words } = stat;
    const table = this.#table;
    return (
      stat.readFd(fd) === 0 &&
      table.isInode(slot, table.mount(slot), words[StatxWord.ino]!, words[StatxWord.ino + 1]!) &&
      table.isBorn(slot, words[StatxWord.btime]!, words[StatxWord.btime + 2]!) &&
      mounts.find(words) === table.mount(slot)
    );
  }
}
