/**
 * Inodes as the guest knows them: found by name, counted, and let go.
 *
 * There may be more inodes than descriptors. One is known by its row in the table; how it is reached on the host is
 * `inode-opener.ts`'s matter. No request ever reaches a file that no lookup below the shared directory has found.
 *
 * Calls answer ≥ 0 or −errno.
 */
import { Errno } from '../../protocol/errno.ts';
import { StatxWord } from '../host/files-attributes.ts';
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
import type { FdBudget } from './fd-budget.ts';
import { FdRing } from './fd-ring.ts';
import { FileHandles } from './file-handles.ts';
import { InodeNames } from './inode-names.ts';
import { InodeOpener, type InodeParts } from './inode-opener.ts';
import { InodeFlag, InodeTable, ROOT_SLOT } from './inode-table.ts';
import { MountTable } from './mount-table.ts';
import type { InodeFileHandles } from './options.ts';
import { S_IFDIR, S_IFREG, StatBuffer } from './stat-buffer.ts';

export class InodeStore {
  readonly table = new InodeTable();
  readonly mounts: MountTable;
  readonly opener: InodeOpener;
  /** Attributes of the file last looked up. */
  readonly stat = new StatBuffer();
  readonly #names: InodeNames;
  readonly #ring: FdRing;
  readonly #fileHandles: FileHandles;
  readonly #procSelfFd: number;
  #policy: InodeFileHandles;

  /** @param procSelfFd a descriptor of /proc/self/fd, borrowed */
  constructor(budget: FdBudget, procSelfFd: number, policy: InodeFileHandles) {
    const { table, stat } = this;
    const parts: InodeParts = {
      table,
      mounts: new MountTable(budget),
      ring: new FdRing(table, budget),
      names: new InodeNames(table),
      fileHandles: new FileHandles(table),
      budget,
      stat,
      procSelfFd,
    };
    this.mounts = parts.mounts;
    this.opener = new InodeOpener(parts);
    this.#ring = parts.ring;
    this.#names = parts.names;
    this.#fileHandles = parts.fileHandles;
    this.#procSelfFd = procSelfFd;
    this.#policy = policy;
  }

  /** How inodes are held, after what was asked for was tried on the root. */
  get policy(): InodeFileHandles {
    return this.#policy;
  }

  /**
   * Makes the directory `fd` is open on (O_PATH) the root. Takes the descriptor, also when it fails.
   *
   * @returns 0 or −errno; EOPNOTSUPP when file handles are mandatory and do not work
   */
  setRoot(fd: number): number {
    const result = this.stat.readFd(fd);
    if (result < 0) {
      closeFile(fd);
      return result;
    }
    const slot = this.#insert(this.mounts.add(this.stat.words, fd, this.#policy !== 'never'));
    this.#ring.add(slot, fd);
    this.table.flags[slot]! |= InodeFlag.KEEP_FD;
    this.table.lookups[slot] = 1; // the kernel never looks the root up, and never forgets it
    if (this.#policy === 'never' || this.#doHandlesWork(fd, slot)) return 0;
    if (this.#policy === 'mandatory') return -Errno.EOPNOTSUPP;
    this.#policy = 'never';
    this.mounts.giveUpHandles(this.table.mount[slot]!);
    return 0;
  }

  /** Tries on the root whether a file handle can be had, and opened (which takes CAP_DAC_READ_SEARCH). */
  #doHandlesWork(fd: number, slot: number): boolean {
    if (this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) < 0) return false;
    const mount = this.table.mount[slot]!;
    if (!this.#openMount(mount, fd, S_IFDIR)) return false;
    const opened = openHandle(this.mounts.fdOf(mount), this.#fileHandles.address, O_PATH);
    if (opened < 0) return false;
    closeFile(opened);
    return true;
  }

  /** @returns the row of a nodeid the guest sent, or −ESTALE */
  slotOf(nodeid: number): number {
    const slot = this.table.slotOf(nodeid);
    return slot < 0 ? -Errno.ESTALE : slot;
  }

  /**
   * Looks up one name and counts the lookup. `stat` then holds its attributes.
   *
   * @param parent row of the directory
   * @param dirfd  a descriptor of it, which no eviction may close: held, or an open file's
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
    let slot = this.#known(dirfd, name, 0);
    if (slot < 0) slot = this.#insertByName(dirfd, name);
    return slot < 0 ? slot : this.#count(slot, parent, octets, start, length);
  }

  /**
   * The inode a descriptor is open on (for real), counted as a lookup: what was just created. `fd` stays the caller's.
   * The name is as for `lookup`; length 0 when it has none.
   */
  lookupFd(fd: number, parent: number, octets: Uint8Array, start: number, length: number): number {
    const result = this.stat.readFd(fd);
    if (result < 0) return result;
    let slot = this.#known(fd, EMPTY_PATH, AT_EMPTY_PATH);
    if (slot < 0) slot = this.#insertByFd(fd);
    return slot < 0 ? slot : this.#count(slot, parent, octets, start, length);
  }

  #count(slot: number, parent: number, octets: Uint8Array, start: number, length: number): number {
    this.table.lookups[slot]! += 1;
    if (length > 0 && !this.table.hasHandle(slot)) this.#noteName(slot, parent, octets, start, length);
    return slot;
  }

  /** The known inode that a name is of, without counting, or −1. `stat` then holds its attributes. */
  peek(dirfd: number, name: number): number {
    return this.stat.readName(dirfd, name) < 0 ? -1 : this.#known(dirfd, name, 0);
  }

  /** Reads the inode's attributes into `stat`. @returns 0 or −errno */
  readAttributes(slot: number): number {
    const fd = this.opener.fdOf(slot);
    return fd < 0 ? fd : this.stat.readFd(fd);
  }

  /**
   * A name is about to be removed or replaced. If the inode behind it is known and would be lost with that name, its
   * descriptor is opened, so that the guest can go on using it.
   *
   * @returns its row, to be passed to `nameRemoved`; or −1
   */
  beforeRemoval(dirfd: number, name: number): number {
    const slot = this.peek(dirfd, name);
    if (slot < 0) return -1;
    const isLastName = this.table.format[slot] === S_IFDIR || this.stat.words[StatxWord.nlink]! <= 1;
    if (!isLastName && this.table.hasHandle(slot)) return -1;
    return this.opener.fdOf(slot) < 0 ? -1 : slot;
  }

  /** The name is gone: the inode cannot be found again once its descriptor is closed. */
  nameRemoved(slot: number): void {
    if (slot >= 0) this.table.flags[slot]! |= InodeFlag.KEEP_FD;
  }

  /** The inode has a name (again). */
  nameAdded(slot: number): void {
    if (this.table.hasHandle(slot) && slot !== ROOT_SLOT) this.table.flags[slot]! &= ~InodeFlag.KEEP_FD;
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
    if (this.#names.count === 0) return;
    const slot = this.peek(dirfd, name);
    if (slot >= 0 && !this.table.hasHandle(slot)) this.#noteName(slot, parent, octets, start, length);
  }

  /** The guest drops `count` references. */
  forget(slot: number, count: number): void {
    if (slot === ROOT_SLOT) return;
    const { lookups } = this.table;
    lookups[slot] = Math.max(0, lookups[slot]! - count);
    if (lookups[slot] === 0 && this.table.pins[slot] === 0) this.#free(slot);
  }

  pin(slot: number): void {
    this.table.pins[slot]! += 1;
  }

  unpin(slot: number): void {
    this.table.pins[slot]! -= 1;
    if (this.table.pins[slot] === 0 && this.table.lookups[slot] === 0) this.#free(slot);
  }

  /** Forgets everything, the root included. */
  clear(): void {
    const { table } = this;
    for (let slot = 1; slot < table.top; slot += 1)
      if (table.nodeid[slot] !== 0 && table.fd[slot]! >= 0) this.#ring.close(slot);
    this.#names.clear();
    table.reset();
    this.mounts.clear();
  }

  /**
   * The row of the inode that `stat` and (`dirfd`, `path`) name, or −1.
   *
   * Inode numbers are reused, so the number alone proves nothing once we hold no descriptor: the time of birth then
   * decides, or the file handle where there is none. A wrong guess is found out when the inode is opened again.
   */
  #known(dirfd: number, path: number, flags: number): number {
    const { table } = this;
    const { words } = this.stat;
    const mount = this.mounts.find(words);
    if (mount < 0) return -1;
    let slot = table.find(mount, words[StatxWord.ino]!, words[StatxWord.ino + 1]!);
    for (; slot >= 0; slot = table.findNext()) {
      if (table.fd[slot]! >= 0) return slot;
      const birthSecond = table.birthSecond[slot]!;
      const birthNano = table.birthNano[slot]!;
      if (birthSecond !== words[StatxWord.btime] || birthNano !== words[StatxWord.btime + 2]) continue;
      if (birthSecond !== 0 || birthNano !== 0 || !table.hasHandle(slot)) return slot;
      if (this.#fileHandles.read(dirfd, path, flags) === 0 && this.#fileHandles.isOf(slot)) return slot;
    }
    return -1;
  }

  #insertByName(dirfd: number, name: number): number {
    const mount = this.mounts.find(this.stat.words);
    if (mount >= 0 && this.mounts.canHandle(mount) && this.mounts.fdOf(mount) >= 0) {
      const result = this.#fileHandles.read(dirfd, name, 0);
      if (result === 0) return this.#insertWithHandle(mount, 0);
      if (result !== -Errno.EOPNOTSUPP || this.#policy === 'mandatory') return result;
      this.mounts.giveUpHandles(mount);
    }
    const room = this.opener.makeRoom();
    if (room < 0) return room;
    const fd = openFile(dirfd, name, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) return fd;
    // The name may have become another file's since its attributes were read: from here on the descriptor counts.
    const result = this.stat.readFd(fd);
    const slot = result < 0 ? result : this.#known(fd, EMPTY_PATH, AT_EMPTY_PATH);
    if (result < 0 || slot >= 0) {
      closeFile(fd);
      return slot;
    }
    return this.#insertOwned(fd);
  }

  #insertByFd(fd: number): number {
    const mount = this.mounts.find(this.stat.words);
    if (mount >= 0 && this.mounts.canHandle(mount) && this.mounts.fdOf(mount) >= 0) {
      const result = this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH);
      if (result === 0) return this.#insertWithHandle(mount, InodeFlag.VERIFIED);
    }
    const room = this.opener.makeRoom();
    if (room < 0) return room;
    const path = openFile(this.#procSelfFd, fdName(fd), O_PATH, 0);
    return path < 0 ? path : this.#insertOwned(path);
  }

  /** Takes `fd`, O_PATH: for a mount seen first, and for inodes without handle. */
  #insertOwned(fd: number): number {
    let mount = this.mounts.find(this.stat.words);
    if (mount < 0) mount = this.mounts.add(this.stat.words, fd, this.#policy !== 'never');
    const isByHandle =
      this.mounts.canHandle(mount) &&
      this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) === 0 &&
      this.#openMount(mount, fd, this.stat.format);
    if (!isByHandle && this.#policy === 'mandatory') {
      closeFile(fd);
      return -Errno.EOPNOTSUPP;
    }
    const slot = isByHandle ? this.#insertWithHandle(mount, InodeFlag.VERIFIED) : this.#insert(mount);
    if (slot < 0) closeFile(fd);
    else this.#ring.add(slot, fd);
    return slot;
  }

  #insertWithHandle(mount: number, flags: number): number {
    const slot = this.#insert(mount);
    if (slot < 0) return slot;
    this.#fileHandles.store(slot);
    this.table.flags[slot] = flags;
    return slot;
  }

  #insert(mount: number): number {
    const { table, stat } = this;
    const { words } = stat;
    const slot = table.insert(mount, words[StatxWord.ino]!, words[StatxWord.ino + 1]!, stat.format);
    if (slot < 0) return -Errno.ENFILE;
    table.birthSecond[slot] = words[StatxWord.btime]!;
    table.birthNano[slot] = words[StatxWord.btime + 2]!;
    this.mounts.hold(mount);
    return slot;
  }

  /** Gets the mount the descriptor open_by_handle_at wants, from `fd` on it, O_PATH. */
  #openMount(mount: number, fd: number, format: number): boolean {
    if (this.mounts.fdOf(mount) >= 0) return true;
    if (format !== S_IFDIR && format !== S_IFREG) return false;
    const flags = O_RDONLY | O_NONBLOCK | (format === S_IFDIR ? O_DIRECTORY : 0);
    const opened = openFile(this.#procSelfFd, fdName(fd), flags, 0);
    if (opened < 0) return false;
    this.mounts.setFd(mount, opened);
    return true;
  }

  /** Takes the inode out, and with it the directories that only it kept: a loop, since paths may be very deep. */
  #free(slot: number): void {
    const { table } = this;
    let at = slot;
    while (at > 0) {
      if (table.fd[at]! >= 0) this.#ring.close(at);
      this.mounts.release(table.mount[at]!);
      const parent = this.#names.drop(at);
      table.remove(at);
      if (parent === 0) return;
      table.pins[parent]! -= 1;
      at = table.pins[parent] === 0 && table.lookups[parent] === 0 ? parent : 0;
    }
  }

  #noteName(slot: number, parent: number, octets: Uint8Array, start: number, length: number): void {
    if (this.#names.is(slot, parent, octets, start, length)) return;
    this.pin(parent);
    const before = this.#names.set(slot, parent, octets, start, length);
    if (before > 0) this.unpin(before);
  }
}
