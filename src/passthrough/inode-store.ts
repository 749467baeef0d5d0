/**
 * Inodes as the guest knows them: found by name, counted, and let go.
 *
 * There may be more inodes than descriptors. One is known by its row in the table; how it is reached on the host is
 * `inode-opener.ts`'s matter. No request ever reaches a file that no lookup below the shared directory has found.
 *
 * Calls answer ≥ 0 or −errno.
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
  openHandle,
} from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';
import type { FileHandles } from './file-handles.ts';
import { InodeOpener, type InodeParts } from './inode-opener.ts';
import { InodeReferences } from './inode-references.ts';
import { InodeFlag, type InodeTable, ROOT_SLOT } from './inode-table.ts';
import type { MountTable } from './mount-table.ts';
import type { InodeFileHandles } from './options.ts';
import { S_IFDIR, S_IFREG, type StatBuffer } from './stat-buffer.ts';
import { HeaderWord } from './table-memory.ts';

/** As the tables' header says it. */
const POLICIES: readonly InodeFileHandles[] = ['never', 'prefer', 'mandatory'];

/** Answer for "there is one, if its file handle is the same", which was not read yet. */
const AMBIGUOUS = -2;

export class InodeStore {
  readonly table: InodeTable;
  readonly mounts: MountTable;
  readonly opener: InodeOpener;
  readonly references: InodeReferences;
  /** Attributes of the file last looked up. */
  readonly stat: StatBuffer;
  /** What makes a nodeid of the inode last looked up. */
  foundSerial = 0;
  readonly #parts: InodeParts;
  readonly #fileHandles: FileHandles;
  /** A `struct statfs`. */
  readonly #statfs = NativeMemory.allocate(4096);

  constructor(parts: InodeParts) {
    this.#parts = parts;
    this.table = parts.table;
    this.mounts = parts.mounts;
    this.stat = parts.stat;
    this.opener = new InodeOpener(parts);
    this.references = new InodeReferences(parts);
    this.#fileHandles = parts.fileHandles;
  }

  /** How inodes are held, after what was asked for was tried on the root. */
  get policy(): InodeFileHandles {
    return POLICIES[this.#parts.memory.header[HeaderWord.HELD_BY]!]!;
  }

  #setPolicy(policy: InodeFileHandles): void {
    this.#parts.memory.header[HeaderWord.HELD_BY] = POLICIES.indexOf(policy);
  }

  /**
   * Makes the directory `fd` is open on (O_PATH) the root. Takes the descriptor, also when it fails.
   *
   * @param policy how inodes are to be held
   * @returns 0 or −errno; EOPNOTSUPP when file handles are mandatory and do not work
   */
  setRoot(fd: number, policy: InodeFileHandles): number {
    this.#setPolicy(policy);
    const result = this.stat.readFd(fd);
    if (result < 0) {
      closeFile(fd);
      return result;
    }
    const mount = this.mounts.add(this.stat.words, this.#typeOf(fd), this.policy !== 'never');
    const slot = this.#insert(mount);
    this.#parts.ring.add(slot, fd);
    this.table.setFlags(slot, InodeFlag.KEEP_FD);
    this.table.addLookups(slot, 1); // the kernel never looks the root up, and never forgets it
    this.table.publish(slot);
    if (this.policy === 'never' || this.#doHandlesWork(fd, slot)) return 0;
    if (this.policy === 'mandatory') return -Errno.EOPNOTSUPP;
    this.#setPolicy('never');
    this.mounts.giveUpHandles(mount);
    return 0;
  }

  /** Tries on the root whether a file handle can be had, and opened (which takes CAP_DAC_READ_SEARCH). */
  #doHandlesWork(fd: number, slot: number): boolean {
    if (this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) < 0) return false;
    const mountFd = this.#openMount(fd, S_IFDIR);
    if (mountFd < 0) return false;
    this.#setMountFd(this.table.mount(slot), mountFd);
    const opened = openHandle(mountFd, this.#fileHandles.address, O_PATH);
    if (opened < 0) return false;
    closeFile(opened);
    return true;
  }

  /** @returns the row of a nodeid the guest sent, marked as in use; or −ESTALE */
  slotOf(nodeid: number): number {
    const slot = this.table.slotIn(nodeid);
    if (slot < 0) return -Errno.ESTALE;
    this.#parts.inUse.markInode(slot);
    return this.table.isNodeid(slot, nodeid) ? slot : -Errno.ESTALE;
  }

  /**
   * Looks up one name and counts the lookup. `stat` then holds its attributes.
   *
   * @param parent row of the directory
   * @param dirfd  a descriptor of it, which no eviction may close: of a marked inode, or an open file's
   * @param name   address of the name: one component, never "." or ".."
   * @param octets where to read the name's `length` octets, from `start`
   */
  lookup(
    parent: number,
    dirfd: number,
    name: number,
    octets: Uint8Array,
    start: number,
    length: number,
  ): number {
    const result = this.stat.readName(dirfd, name);
    if (result < 0) return result;
    const { memory } = this.#parts;
    memory.acquire();
    let slot = this.#known(false);
    const mayHandle = slot < 0 && this.#mayHandle();
    if (slot >= 0) this.#count(slot, parent, octets, start, length);
    this.references.unlock();
    if (slot >= 0) return slot;
    slot = this.#lockedNew(dirfd, name, mayHandle);
    if (slot >= 0) this.#count(slot, parent, octets, start, length);
    this.references.unlock();
    return slot;
  }

  /**
   * The inode a descriptor is open on (for real), counted as a lookup: what was just created. `fd` stays the caller's.
   * The name is as for `lookup`; length 0 when it has none.
   */
  lookupFd(fd: number, parent: number, octets: Uint8Array, start: number, length: number): number {
    const result = this.stat.readFd(fd);
    if (result < 0) return result;
    const { memory } = this.#parts;
    memory.acquire();
    let slot = this.#known(false);
    if (slot < 0) {
      const mayHandle = this.#mayHandle();
      memory.release();
      slot = this.#lockedNewOfFd(fd, mayHandle);
    }
    if (slot >= 0) this.#count(slot, parent, octets, start, length);
    this.references.unlock();
    return slot;
  }

  /** Under the lock. */
  #count(slot: number, parent: number, octets: Uint8Array, start: number, length: number): void {
    const { table } = this;
    if (!table.isLive(slot)) this.references.revive(slot);
    table.addLookups(slot, 1);
    this.foundSerial = table.serial(slot);
    if (length > 0 && !table.hasHandle(slot)) this.references.noteName(slot, parent, octets, start, length);
  }

  /** Reads the inode's attributes into `stat`. @returns 0 or −errno */
  readAttributes(slot: number): number {
    const fd = this.opener.fdOf(slot);
    return fd < 0 ? fd : this.stat.readFd(fd);
  }

  /**
   * A name is about to be removed or replaced.
   *
   * @returns what `afterRemoval` takes, or −errno
   */
  beforeRemoval(dirfd: number, name: number): number {
    return openFile(dirfd, name, O_PATH | O_NOFOLLOW, 0);
  }

  /**
   * The name is gone. If the inode behind it is known and cannot be found again, its descriptor is kept, so that the guest
   * can go on using it.
   *
   * @param fd what `beforeRemoval` answered
   * @param dirfd with `name`: what may still be the very name, since renaming to another name of the same file does nothing
   */
  afterRemoval(fd: number, dirfd: number, name: number): void {
    if (fd < 0) return;
    const { words } = this.stat;
    if (this.stat.readFd(fd) < 0 || (words[StatxWord.nlink] !== 0 && this.#isStillThere(fd, dirfd, name))) {
      closeFile(fd);
      return;
    }
    const { ring, budget } = this.#parts;
    const room = budget.isFull ? this.opener.makeRoom() : 0;
    const slot = this.#lockedKnown(fd, EMPTY_PATH, AT_EMPTY_PATH);
    let isTaken = false;
    if (slot >= 0 && this.table.isLive(slot)) {
      const isDirectory = this.table.format(slot) === S_IFDIR;
      if (isDirectory || words[StatxWord.nlink] === 0 || !this.table.hasHandle(slot)) {
        isTaken = this.table.fd(slot) < 0 && room === 0 && ring.add(slot, fd);
        this.table.setFlags(slot, InodeFlag.KEEP_FD);
      }
    }
    this.references.unlock();
    if (!isTaken) closeFile(fd);
  }

  /** Whether the name is of what `fd` is open on, whose attributes are in `stat`, and will be again. */
  #isStillThere(fd: number, dirfd: number, name: number): boolean {
    if (dirfd < 0) return false;
    const { words } = this.stat;
    const inoLo = words[StatxWord.ino];
    const inoHi = words[StatxWord.ino + 1];
    const mount = words[StatxWord.mntId];
    const isSame =
      this.stat.readName(dirfd, name) === 0 &&
      words[StatxWord.ino] === inoLo &&
      words[StatxWord.ino + 1] === inoHi &&
      words[StatxWord.mntId] === mount;
    return isSame || this.stat.readFd(fd) < 0;
  }

  /** The inode has no name: its descriptor, which is open, is all there is. */
  keepOpen(slot: number): void {
    const { memory } = this.#parts;
    memory.acquire();
    this.table.setFlags(slot, InodeFlag.KEEP_FD);
    memory.release();
  }

  /** The inode has a name (again). */
  nameAdded(slot: number): void {
    if (!this.table.hasHandle(slot) || slot === ROOT_SLOT) return;
    const { memory } = this.#parts;
    memory.acquire();
    this.table.clearFlags(slot, InodeFlag.KEEP_FD);
    memory.release();
  }

  /** A name now is of another inode (after RENAME): noted for inodes that are found again by name. */
  nameMoved(
    parent: number,
    dirfd: number,
    name: number,
    octets: Uint8Array,
    start: number,
    length: number,
  ): void {
    if (this.#parts.names.count === 0 || this.stat.readName(dirfd, name) < 0) return;
    const slot = this.#lockedKnown(dirfd, name, 0);
    if (slot >= 0 && this.table.isLive(slot) && !this.table.hasHandle(slot))
      this.references.noteName(slot, parent, octets, start, length);
    this.references.unlock();
  }

  /** The known inode that `stat` and (`dirfd`, `path`) name, or −1. Takes the lock. */
  #lockedKnown(dirfd: number, path: number, flags: number): number {
    const { memory } = this.#parts;
    memory.acquire();
    const slot = this.#known(false);
    if (slot !== AMBIGUOUS) return slot;
    memory.release();
    const hasRead = this.#fileHandles.read(dirfd, path, flags) === 0;
    memory.acquire();
    return hasRead ? this.#known(true) : -1;
  }

  /**
   * The row, live or not, of the inode that `stat` is of; or −1, or AMBIGUOUS. Under the lock.
   *
   * Inode numbers are reused, so the number alone proves nothing once we hold no descriptor: the time of birth then
   * decides, or the file handle where there is none. A wrong guess is found out when the inode is opened again.
   *
   * @param hasRead the file handle was read too
   */
  #known(hasRead: boolean): number {
    const { table } = this;
    const { words } = this.stat;
    const mount = this.mounts.find(words);
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
  #mayHandle(): boolean {
    const mount = this.mounts.find(this.stat.words);
    return mount >= 0 && this.mounts.canHandle(mount) && this.mounts.fdOf(mount) >= 0;
  }

  /** Finds or inserts the inode of a name that was not known. Takes the lock, whatever it answers. */
  #lockedNew(dirfd: number, name: number, mayHandle: boolean): number {
    const { memory } = this.#parts;
    if (mayHandle) {
      const result = this.#fileHandles.read(dirfd, name, 0);
      memory.acquire();
      if (result === 0 && this.#mayHandle()) return this.#knownOrInserted(0);
      if (result !== 0 && (result !== -Errno.EOPNOTSUPP || this.policy === 'mandatory')) return result;
      const mount = this.mounts.find(this.stat.words);
      if (result !== 0 && mount >= 0) this.mounts.giveUpHandles(mount);
      memory.release();
    }
    const room = this.opener.makeRoom();
    const fd = room < 0 ? room : openFile(dirfd, name, O_PATH | O_NOFOLLOW, 0);
    // The name may have become another file's since its attributes were read: from here on the descriptor counts.
    const result = fd < 0 ? fd : this.stat.readFd(fd);
    if (result >= 0) return this.#lockedOwned(fd);
    if (fd >= 0) closeFile(fd);
    memory.acquire();
    return result;
  }

  #lockedNewOfFd(fd: number, mayHandle: boolean): number {
    const { memory, procSelfFd } = this.#parts;
    if (mayHandle && this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) === 0) {
      memory.acquire();
      if (this.#mayHandle()) return this.#knownOrInserted(InodeFlag.VERIFIED);
      memory.release();
    }
    const room = this.opener.makeRoom();
    const path = room < 0 ? room : openFile(procSelfFd, fdName(fd), O_PATH, 0);
    if (path >= 0) return this.#lockedOwned(path);
    memory.acquire();
    return path;
  }

  /** Takes `fd`, O_PATH, of what `stat` is of: for a mount seen first, and for inodes without handle. Takes the lock. */
  #lockedOwned(fd: number): number {
    const { memory, ring } = this.#parts;
    // Only looked at: what is done about it comes under the lock, and looks again.
    let mount = this.mounts.find(this.stat.words);
    const type = mount < 0 ? this.#typeOf(fd) : 0;
    const hasHandle =
      this.policy !== 'never' &&
      (mount < 0 || this.mounts.canHandle(mount)) &&
      this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) === 0;
    const wantsMountFd = hasHandle && (mount < 0 || this.mounts.fdOf(mount) < 0);
    const mountFd = wantsMountFd ? this.#openMount(fd, this.stat.format) : -1;

    memory.acquire();
    let slot = this.#known(hasHandle);
    let isTaken = false;
    mount = this.mounts.find(this.stat.words);
    if (slot < 0) {
      if (mount < 0) mount = this.mounts.add(this.stat.words, type, this.policy !== 'never');
      const isNeeded =
        mountFd >= 0 && mount >= 0 && this.mounts.canHandle(mount) && this.mounts.fdOf(mount) < 0;
      if (isNeeded) this.#setMountFd(mount, mountFd);
      else if (mountFd >= 0) this.references.toClose.add(mountFd);
      const isByHandle =
        hasHandle && mount >= 0 && this.mounts.canHandle(mount) && this.mounts.fdOf(mount) >= 0;
      if (!isByHandle && this.policy === 'mandatory') slot = -Errno.EOPNOTSUPP;
      else slot = isByHandle ? this.#insertWithHandle(mount, InodeFlag.VERIFIED) : this.#insert(mount);
      isTaken = slot >= 0 && ring.add(slot, fd);
      if (mount >= 0) this.references.forgetEmptyMount(mount);
    } else if (mountFd >= 0) this.references.toClose.add(mountFd);
    if (!isTaken) this.references.toClose.add(fd);
    return slot;
  }

  /** With the handle read. Under the lock. */
  #knownOrInserted(flags: number): number {
    const known = this.#known(true);
    return known >= 0 ? known : this.#insertWithHandle(this.mounts.find(this.stat.words), flags);
  }

  #insertWithHandle(mount: number, flags: number): number {
    const slot = this.#insert(mount);
    if (slot < 0) return slot;
    this.table.setFlags(slot, flags);
    if (this.table.setHandle(slot, this.#fileHandles.words)) return slot;
    this.mounts.release(mount);
    this.table.recycle(slot);
    return -Errno.ENFILE;
  }

  /** Without a nodeid: not live before it is counted. */
  #insert(mount: number): number {
    if (mount < 0) return -Errno.ENFILE;
    const { table, stat } = this;
    const { words } = stat;
    const slot = table.insert(mount, words[StatxWord.ino]!, words[StatxWord.ino + 1]!, stat.format);
    if (slot < 0) return -Errno.ENFILE;
    table.setBirth(slot, words[StatxWord.btime]!, words[StatxWord.btime + 2]!);
    this.mounts.hold(mount);
    return slot;
  }

  /** @returns a descriptor that open_by_handle_at takes, from `fd` on the mount, O_PATH; or −errno */
  #openMount(fd: number, format: number): number {
    if (format !== S_IFDIR && format !== S_IFREG) return -Errno.EBADF;
    const flags = O_RDONLY | O_NONBLOCK | (format === S_IFDIR ? O_DIRECTORY : 0);
    return openFile(this.#parts.procSelfFd, fdName(fd), flags, 0);
  }

  #setMountFd(mount: number, fd: number): void {
    this.mounts.setFd(mount, fd);
    this.#parts.budget.take();
  }

  #typeOf(fd: number): number {
    return readFileSystem(fd, this.#statfs.address) < 0 ? 0 : this.#statfs.u32[StatfsWord.type]!;
  }
}
