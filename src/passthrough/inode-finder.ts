/**
 * Finds the row of what is on the host, or makes one. What the host calls the inode is in `stat`; all that follows is
 * under the tables' lock, except for the system calls, after which things are looked at anew.
 *
 * Calls answer ≥ 0 or −errno. Those that say so return with the lock taken, whatever they answer.
 */
import { Errno } from '../../protocol/errno.ts';
import { readFileSystem, StatfsWord, StatxWord } from '../host/files-attributes.ts';
import {
  AT_EMPTY_PATH,
  closeFile,
  EMPTY_PATH,
  fdName,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  openFile,
} from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';
import type { FileHandles } from './file-handles.ts';
import type { FreshInodes } from './fresh-inodes.ts';
import type { InodeOpener, InodeParts } from './inode-opener.ts';
import type { InodeReferences } from './inode-references.ts';
import { InodeFlag } from './inode-row.ts';
import type { InodeTable } from './inode-table.ts';
import type { MountTable } from './mount-table.ts';
import type { InodeFileHandles } from './options.ts';
import { S_IFDIR, S_IFREG, type StatBuffer } from './stat-buffer.ts';
import { HeaderWord } from './table-memory.ts';

/** As the tables' header says it. */
const POLICIES: readonly InodeFileHandles[] = ['never', 'prefer', 'mandatory'];

/** Answer of `known` for "there is one, if its file handle is the same", which was not read yet. */
const AMBIGUOUS = -2;

export class InodeFinder {
  readonly #parts: InodeParts;
  readonly #table: InodeTable;
  readonly #mounts: MountTable;
  readonly #stat: StatBuffer;
  readonly #fileHandles: FileHandles;
  readonly #opener: InodeOpener;
  readonly #references: InodeReferences;
  /** A `struct statfs`. */
  readonly #statfs = NativeMemory.allocate(4096);

  constructor(parts: InodeParts, opener: InodeOpener, references: InodeReferences) {
    this.#parts = parts;
    this.#table = parts.table;
    this.#mounts = parts.mounts;
    this.#stat = parts.stat;
    this.#fileHandles = parts.fileHandles;
    this.#opener = opener;
    this.#references = references;
  }

  get policy(): InodeFileHandles {
    return POLICIES[this.#parts.memory.header[HeaderWord.HELD_BY]!]!;
  }

  set policy(policy: InodeFileHandles) {
    this.#parts.memory.header[HeaderWord.HELD_BY] = POLICIES.indexOf(policy);
  }

  /** The known inode that `stat` and (`dirfd`, `path`) name, or −1. Takes the lock. */
  lockedKnown(dirfd: number, path: number, flags: number): number {
    const { memory } = this.#parts;
    memory.acquire();
    const slot = this.known(false);
    if (slot !== AMBIGUOUS) return slot;
    memory.release();
    const hasRead = this.#fileHandles.read(dirfd, path, flags) === 0;
    memory.acquire();
    return hasRead ? this.known(true) : -1;
  }

  /**
   * The row, live or not, of the inode that `stat` is of; or −1, or AMBIGUOUS. Under the lock.
   *
   * Inode numbers are reused, so the number alone proves nothing once we hold no descriptor: the time of birth then
   * decides, or the file handle where there is none. A wrong guess is found out when the inode is opened again.
   *
   * @param hasRead the file handle was read too
   */
  known(hasRead: boolean): number {
    const table = this.#table;
    const { words } = this.#stat;
    const mount = this.#mounts.find(words);
    if (mount < 0) return -1;
    const second = words[StatxWord.btime]!;
    const nano = words[StatxWord.btime + 2]!;
    let answer = -1;
    let slot = table.find(mount, words[StatxWord.ino]!, words[StatxWord.ino + 1]!);
    for (; slot >= 0; slot = table.findNext(slot)) {
      if (!table.isLive(slot) && !table.canWarm(slot)) continue;
      if (table.fd(slot) >= 0) return slot;
      if (!table.isBorn(slot, second, nano)) continue;
      if (second !== 0 || nano !== 0 || !table.hasHandle(slot)) return slot;
      if (!hasRead) answer = AMBIGUOUS;
      else if (table.isHandle(slot, this.#fileHandles.words)) return slot;
    }
    return answer;
  }

  /** Whether a file handle alone will do to hold the inode that `stat` is of. Under the lock. */
  mayHandle(): boolean {
    const mount = this.#mounts.find(this.#stat.words);
    return mount >= 0 && this.#mounts.canHandle(mount) && this.#mounts.fdOf(mount) >= 0;
  }

  /** Finds or inserts the inode of a name that was not known. Takes the lock, whatever it answers. */
  lockedNew(dirfd: number, name: number, mayHandle: boolean): number {
    const { memory } = this.#parts;
    if (mayHandle) {
      const result = this.#fileHandles.read(dirfd, name, 0);
      memory.acquire();
      if (result === 0 && this.mayHandle()) return this.#knownOrInserted(0);
      if (result !== 0 && (result !== -Errno.EOPNOTSUPP || this.policy === 'mandatory')) return result;
      const mount = this.#mounts.find(this.#stat.words);
      if (result !== 0 && mount >= 0) this.#mounts.giveUpHandles(mount);
      memory.release();
    }
    const room = this.#opener.makeRoom();
    const fd = room < 0 ? room : openFile(dirfd, name, O_PATH | O_NOFOLLOW, 0);
    // The name may have become another file's since its attributes were read: from here on the descriptor counts.
    const result = fd < 0 ? fd : this.#stat.readFd(fd);
    if (result >= 0) return this.#lockedOwned(fd);
    if (fd >= 0) closeFile(fd);
    memory.acquire();
    return result;
  }

  lockedNewOfFd(fd: number, mayHandle: boolean): number {
    const { memory, procSelfFd } = this.#parts;
    if (mayHandle && this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) === 0) {
      memory.acquire();
      if (this.mayHandle()) return this.#knownOrInserted(InodeFlag.VERIFIED);
      memory.release();
    }
    const room = this.#opener.makeRoom();
    const path = room < 0 ? room : openFile(procSelfFd, fdName(fd), O_PATH, 0);
    if (path >= 0) return this.#lockedOwned(path);
    memory.acquire();
    return path;
  }

  /** Takes `fd`, O_PATH, of what `stat` is of: for a mount seen first, and for inodes without handle. Takes the lock. */
  #lockedOwned(fd: number): number {
    const { memory, ring } = this.#parts;
    // Only looked at: what is done about it comes under the lock, and looks again.
    let mount = this.#mounts.find(this.#stat.words);
    const type = mount < 0 ? this.typeOf(fd) : 0;
    const hasHandle =
      this.policy !== 'never' &&
      (mount < 0 || this.#mounts.canHandle(mount)) &&
      this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) === 0;
    const wantsMountFd = hasHandle && (mount < 0 || this.#mounts.fdOf(mount) < 0);
    const mountFd = wantsMountFd ? this.openMount(fd, this.#stat.format) : -1;

    memory.acquire();
    let slot = this.known(hasHandle);
    let isTaken = false;
    mount = this.#mounts.find(this.#stat.words);
    if (slot < 0) {
      if (mount < 0) mount = this.#mounts.add(this.#stat.words, type, this.policy !== 'never');
      const isNeeded =
        mountFd >= 0 && mount >= 0 && this.#mounts.canHandle(mount) && this.#mounts.fdOf(mount) < 0;
      if (isNeeded) this.setMountFd(mount, mountFd);
      else if (mountFd >= 0) this.#references.toClose.add(mountFd);
      const isByHandle =
        hasHandle && mount >= 0 && this.#mounts.canHandle(mount) && this.#mounts.fdOf(mount) >= 0;
      if (!isByHandle && this.policy === 'mandatory') slot = -Errno.EOPNOTSUPP;
      else slot = isByHandle ? this.#insertWithHandle(mount, InodeFlag.VERIFIED) : this.insert(mount);
      isTaken = slot >= 0 && ring.add(slot, fd);
      if (mount >= 0) this.#references.forgetEmptyMount(mount);
    } else if (mountFd >= 0) this.#references.toClose.add(mountFd);
    if (!isTaken) this.#references.toClose.add(fd);
    return slot;
  }

  /**
   * Inserts the inode that `fd` was just created as, and marks it. Only where a file handle will do later, and where
   * closing a file means nothing to its file system. Under the lock.
   *
   * @returns its row, which owns the descriptor; or −1
   */
  insertFresh(fd: number, fresh: FreshInodes): number {
    const mount = this.#mounts.find(this.#stat.words);
    if (mount < 0 || !this.mayHandle() || this.#mounts.flushMatters(mount)) return -1;
    const slot = this.insert(mount);
    if (slot < 0) return -1;
    // From here on another thread may be told to forget it.
    this.#parts.inUse.markInode(slot);
    if (fresh.begin(slot, fd)) return slot;
    this.#mounts.release(mount);
    this.#table.recycle(slot);
    return -1;
  }

  /** With the handle read. Under the lock. */
  #knownOrInserted(flags: number): number {
    const known = this.known(true);
    return known >= 0 ? known : this.#insertWithHandle(this.#mounts.find(this.#stat.words), flags);
  }

  #insertWithHandle(mount: number, flags: number): number {
    const slot = this.insert(mount);
    if (slot < 0) return slot;
    this.#table.setFlags(slot, flags);
    if (this.#table.setHandle(slot, this.#fileHandles.words)) return slot;
    this.#mounts.release(mount);
    this.#table.recycle(slot);
    return -Errno.ENFILE;
  }

  /** Without a nodeid: not live before it is counted. */
  insert(mount: number): number {
    if (mount < 0) return -Errno.ENFILE;
    const table = this.#table;
    const stat = this.#stat;
    const { words } = stat;
    const slot = table.insert(mount, words[StatxWord.ino]!, words[StatxWord.ino + 1]!, stat.format);
    if (slot < 0) return -Errno.ENFILE;
    table.setBirth(slot, words[StatxWord.btime]!, words[StatxWord.btime + 2]!);
    this.#mounts.hold(mount);
    return slot;
  }

  /** @returns a descriptor that open_by_handle_at takes, from `fd` on the mount, O_PATH; or −errno */
  openMount(fd: number, format: number): number {
    if (format !== S_IFDIR && format !== S_IFREG) return -Errno.EBADF;
    const flags = O_RDONLY | O_NONBLOCK | (format === S_IFDIR ? O_DIRECTORY : 0);
    return openFile(this.#parts.procSelfFd, fdName(fd), flags, 0);
  }

  setMountFd(mount: number, fd: number): void {
    this.#mounts.setFd(mount, fd);
    this.#parts.budget.take();
  }

  typeOf(fd: number): number {
    return readFileSystem(fd, this.#statfs.address) < 0 ? 0 : this.#statfs.u32[StatfsWord.type]!;
  }
}
