/**
 * Descriptors of inodes: the O_PATH one by which an inode is reached, and those of files opened for real.
 *
 * Idle O_PATH descriptors are closed when there is no room, and opened again by file handle, else by directory and
 * name. What was opened again is checked to be the same inode; otherwise the answer is ESTALE.
 *
 * Calls answer ≥ 0 or −errno.
 */
import { Errno } from '../../protocol/errno.ts';
import { StatxWord } from '../host/files-attributes.ts';
import { closeFile, fdName, O_NOFOLLOW, O_PATH, openFile, openHandle } from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';
import type { FdBudget } from './fd-budget.ts';
import type { FdRing } from './fd-ring.ts';
import type { FileHandles } from './file-handles.ts';
import type { InodeNames } from './inode-names.ts';
import { InodeFlag, type InodeTable } from './inode-table.ts';
import type { MountTable } from './mount-table.ts';
import { S_IFDIR, S_IFREG, type StatBuffer } from './stat-buffer.ts';

/** What the store shares with its opener. */
export interface InodeParts {
  readonly table: InodeTable;
  readonly mounts: MountTable;
  readonly ring: FdRing;
  readonly names: InodeNames;
  readonly fileHandles: FileHandles;
  readonly budget: FdBudget;
  readonly stat: StatBuffer;
  /** A descriptor of /proc/self/fd, borrowed. */
  readonly procSelfFd: number;
}

export class InodeOpener {
  readonly #parts: InodeParts;
  /** A name, NUL-terminated, for openat. */
  readonly #name = NativeMemory.allocate(256);

  constructor(parts: InodeParts) {
    this.#parts = parts;
  }

  /** An O_PATH descriptor of the inode, lent until the next call that may open one (see `hold`). Or −errno. */
  fdOf(slot: number): number {
    const { table } = this.#parts;
    const fd = table.fd[slot]!;
    if (fd >= 0) {
      table.isRecent[slot] = 1;
      return fd;
    }
    return table.hasHandle(slot) ? this.#reopenByHandle(slot) : this.#reopenByName(slot);
  }

  /** `fdOf`, and the descriptor stays open until `unhold`. */
  hold(slot: number): number {
    const fd = this.fdOf(slot);
    if (fd >= 0) this.#parts.table.flags[slot]! |= InodeFlag.HELD;
    return fd;
  }

  /** Harmless when the inode is not held. */
  unhold(slot: number): void {
    this.#parts.table.flags[slot]! &= ~InodeFlag.HELD;
  }

  /** Makes room for one descriptor more. @returns 0 or −ENFILE */
  makeRoom(): number {
    const { budget, ring } = this.#parts;
    return budget.isFull && !ring.evict() ? -Errno.ENFILE : 0;
  }

  /**
   * Opens the inode for real. Only regular files and directories: opening another kind would act on the host's
   * devices, pipes and sockets, which a guest opens on its own.
   *
   * @returns a descriptor the caller owns and has to count in the budget, or −errno
   */
  open(slot: number, flags: number): number {
    const { table, procSelfFd } = this.#parts;
    const format = table.format[slot]!;
    if (format !== S_IFREG && format !== S_IFDIR) return -Errno.EBADF;
    // By handle only what was seen to be the handle's: O_TRUNC must not hit another file.
    if ((table.flags[slot]! & InodeFlag.VERIFIED) !== 0 && table.hasHandle(slot))
      return this.#openHandle(slot, flags);
    const fd = this.hold(slot);
    if (fd < 0) return fd;
    let result = this.makeRoom();
    if (result === 0) result = openFile(procSelfFd, fdName(fd), flags & ~O_NOFOLLOW, 0);
    this.unhold(slot);
    return result;
  }

  /** Opens by file handle, within the budget. @returns a descriptor that is nobody's yet, or −errno */
  #openHandle(slot: number, flags: number): number {
    const { table, mounts, fileHandles, ring } = this.#parts;
    const room = this.makeRoom();
    if (room < 0) return room;
    const mountFd = mounts.fdOf(table.mount[slot]!);
    const fd = openHandle(mountFd, fileHandles.load(slot), flags);
    // The process has other descriptors too: the limit may be reached before the budget is.
    if (fd !== -Errno.EMFILE || !ring.evict()) return fd;
    return openHandle(mountFd, fileHandles.load(slot), flags);
  }

  #reopenByHandle(slot: number): number {
    const { table, ring } = this.#parts;
    const fd = this.#openHandle(slot, O_PATH);
    if (fd === -Errno.ESTALE) table.unindex(slot); // its number may be a new file's: that one is another inode
    if (fd < 0) return fd;
    if ((table.flags[slot]! & InodeFlag.VERIFIED) === 0) {
      // The handle was read by name, after the attributes were: only now is it sure that both are of one file.
      if (!this.#isSame(fd, slot)) {
        closeFile(fd);
        table.unindex(slot);
        return -Errno.ESTALE;
      }
      table.flags[slot]! |= InodeFlag.VERIFIED;
    }
    ring.add(slot, fd);
    return fd;
  }

  /** Walks up to the first directory that is open, then down again by the names noted. */
  #reopenByName(slot: number): number {
    const { table } = this.#parts;
    const path: number[] = []; // rare, and as long as the path is deep: the one list made while serving
    for (let at = slot; table.fd[at]! < 0 && !table.hasHandle(at); at = table.parent[at]!) {
      if (table.parent[at] === 0 || path.length > table.count) return -Errno.ESTALE;
      path.push(at);
    }
    for (let i = path.length - 1; i >= 0; i -= 1) {
      const result = this.#reopenChild(path[i]!);
      if (result < 0) return result;
    }
    return table.fd[slot]!;
  }

  /** Opens an inode by its name in a directory that is open, or has a file handle. */
  #reopenChild(slot: number): number {
    const { table, names, ring } = this.#parts;
    const parent = table.parent[slot]!;
    const wasHeld = table.flags[parent]! & InodeFlag.HELD;
    const dirfd = this.hold(parent);
    if (dirfd < 0) return dirfd;
    let fd = this.makeRoom();
    if (fd === 0) {
      names.copy(slot, this.#name.u8, 0);
      fd = openFile(dirfd, this.#name.address, O_PATH | O_NOFOLLOW, 0);
    }
    if (wasHeld === 0) this.unhold(parent);
    if (fd < 0) return fd === -Errno.ENOENT || fd === -Errno.ENOTDIR ? -Errno.ESTALE : fd;
    if (!this.#isSame(fd, slot)) {
      closeFile(fd);
      return -Errno.ESTALE;
    }
    ring.add(slot, fd);
    return fd;
  }

  /** Whether `fd` is open on the inode of this row. Leaves its attributes in `stat`. */
  #isSame(fd: number, slot: number): boolean {
    const { stat, table, mounts } = this.#parts;
    const { words } = stat;
    return (
      stat.readFd(fd) === 0 &&
      words[StatxWord.ino] === table.inoLo[slot] &&
      words[StatxWord.ino + 1] === table.inoHi[slot] &&
      words[StatxWord.btime] === table.birthSecond[slot] &&
      words[StatxWord.btime + 2] === table.birthNano[slot] &&
      mounts.find(words) === table.mount[slot]
    );
  }
}
