/**
 * Inodes as the guest knows them, and how each is reached on the host.
 *
 * An inode is reached through an O_PATH descriptor. There may be more inodes than descriptors: idle ones are closed
 * and opened again when needed, by file handle where the file system has them, else by directory and name. Whatever
 * is opened again is checked to be the same inode; what is not answers ESTALE. So no request ever reaches a file that
 * no LOOKUP below the shared directory has found.
 *
 * Calls answer ≥ 0 or −errno.
 */
import { Errno } from '../../protocol/errno.ts';
import {
  readAttributes,
  STATX_BASIC_STATS,
  STATX_BTIME,
  STATX_MNT_ID,
  STATX_WORDS,
  StatxWord,
} from '../host/files-attributes.ts';
import {
  AT_EMPTY_PATH,
  AT_NO_AUTOMOUNT,
  AT_SYMLINK_NOFOLLOW,
  closeFile,
  EMPTY_PATH,
  fdName,
  FILE_HANDLE_HEADER,
  fileHandleOf,
  MAX_HANDLE_BYTES,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  openFile,
  openHandle,
} from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';
import type { FdBudget } from './fd-budget.ts';
import { FdRing } from './fd-ring.ts';
import { InodeFlag, InodeTable, ROOT_SLOT } from './inode-table.ts';
import { InodeNames } from './inode-names.ts';
import { MountTable } from './mount-table.ts';
import type { InodeFileHandles } from './options.ts';

const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;

const NAME_FLAGS = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
export const LOOKUP_MASK = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;

const HANDLE_WORD = STATX_WORDS;
const MOUNT_ID_WORD = HANDLE_WORD + (FILE_HANDLE_HEADER + MAX_HANDLE_BYTES) / 4;
const NAME_OCTET = 1024;

export class InodeStore {
  readonly table = new InodeTable();
  readonly mounts: MountTable;
  /** The `struct statx`, in words, of the last file looked up or read. */
  readonly stat: Uint32Array;
  readonly statAddress: number;
  readonly #scratch = NativeMemory.allocate(4096);
  readonly #names: InodeNames;
  readonly #ring: FdRing;
  readonly #budget: FdBudget;
  readonly #procSelfFd: number;
  #policy: InodeFileHandles;

  /**
   * @param procSelfFd a descriptor of /proc/self/fd, borrowed
   */
  constructor(budget: FdBudget, procSelfFd: number, policy: InodeFileHandles) {
    this.#budget = budget;
    this.#procSelfFd = procSelfFd;
    this.#policy = policy;
    this.mounts = new MountTable(budget);
    this.#ring = new FdRing(this.table, budget);
    this.#names = new InodeNames(this.table);
    this.stat = this.#scratch.u32.subarray(0, STATX_WORDS);
    this.statAddress = this.#scratch.address;
  }

  get policy(): InodeFileHandles {
    return this.#policy;
  }

  /**
   * Makes the directory `fd` is open on (O_PATH) the root. Takes the descriptor, also when it fails.
   *
   * @returns 0 or −errno; EOPNOTSUPP when file handles are mandatory and do not work
   */
  setRoot(fd: number): number {
    const result = this.#statFd(fd);
    if (result < 0) {
      closeFile(fd);
      return result;
    }
    const slot = this.#insert(this.mounts.add(this.stat, fd, this.#policy !== 'never'));
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
    if (this.#readHandle(fd, EMPTY_PATH, AT_EMPTY_PATH) < 0) return false;
    const mount = this.table.mount[slot]!;
    if (!this.#openMount(mount, fd, S_IFDIR)) return false;
    const opened = openHandle(this.mounts.fdOf(mount), this.#handleAddress, O_PATH);
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
   * @param dirfd  a descriptor of it
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
    const result = readAttributes(dirfd, name, NAME_FLAGS, LOOKUP_MASK, this.statAddress);
    if (result < 0) return result;
    let slot = this.#known(dirfd, name, 0);
    if (slot < 0) slot = this.#insertByName(dirfd, name);
    if (slot < 0) return slot;
    this.table.lookups[slot]! += 1;
    if (!this.table.hasHandle(slot)) this.#noteName(slot, parent, octets, start, length);
    return slot;
  }

  /**
   * The inode a descriptor is open on (for real, or O_PATH), counted as a lookup: what was just created. `fd` stays
   * the caller's. The name is as for `lookup`; length 0 when it has none.
   */
  lookupFd(fd: number, parent: number, octets: Uint8Array, start: number, length: number): number {
    const result = this.#statFd(fd);
    if (result < 0) return result;
    let slot = this.#known(fd, EMPTY_PATH, AT_EMPTY_PATH);
    if (slot < 0) slot = this.#insertByFd(fd);
    if (slot < 0) return slot;
    this.table.lookups[slot]! += 1;
    if (!this.table.hasHandle(slot) && length > 0) this.#noteName(slot, parent, octets, start, length);
    return slot;
  }

  /** The known inode that a name is of, without counting, or −1. `stat` then holds its attributes. */
  peek(dirfd: number, name: number): number {
    if (readAttributes(dirfd, name, NAME_FLAGS, LOOKUP_MASK, this.statAddress) < 0) return -1;
    return this.#known(dirfd, name, 0);
  }

  /** An O_PATH descriptor of the inode, lent until the next call that may open one (see `hold`). Or −errno. */
  fdOf(slot: number): number {
    const { table } = this;
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
    if (fd >= 0) this.table.flags[slot]! |= InodeFlag.HELD;
    return fd;
  }

  /** Harmless when the inode is not held. */
  unhold(slot: number): void {
    this.table.flags[slot]! &= ~InodeFlag.HELD;
  }

  /**
   * Opens the inode for real. Only regular files and directories: opening another kind would act on the host's
   * devices, pipes and sockets, which a guest opens on its own.
   *
   * @returns a descriptor the caller owns and has to count in the budget, or −errno
   */
  open(slot: number, flags: number): number {
    const { table } = this;
    const format = table.format[slot]!;
    if (format !== S_IFREG && format !== S_IFDIR) return -Errno.EBADF;
    if (this.#budget.isFull && !this.#ring.evict()) return -Errno.ENFILE;
    if ((table.flags[slot]! & InodeFlag.VERIFIED) !== 0 && table.hasHandle(slot)) {
      const mountFd = this.mounts.fdOf(table.mount[slot]!);
      const opened = openHandle(mountFd, this.#handleOf(slot), flags);
      if (opened !== -Errno.EMFILE || !this.#ring.evict()) return opened;
      return openHandle(mountFd, this.#handleOf(slot), flags);
    }
    const fd = this.fdOf(slot);
    if (fd < 0) return fd;
    if (this.#budget.isFull && !this.#evictBut(slot)) return -Errno.ENFILE;
    return openFile(this.#procSelfFd, fdName(fd), flags & ~O_NOFOLLOW, 0);
  }

  /** Makes room for one descriptor more. @returns 0 or −ENFILE */
  makeRoom(): number {
    return this.#budget.isFull && !this.#ring.evict() ? -Errno.ENFILE : 0;
  }

  /** Reads the inode's attributes into `stat`. @returns 0 or −errno */
  readAttributes(slot: number): number {
    const fd = this.fdOf(slot);
    return fd < 0 ? fd : this.#statFd(fd);
  }

  /** Reads the attributes of what `fd` is open on into `stat`. @returns 0 or −errno */
  readAttributesOfFd(fd: number): number {
    return this.#statFd(fd);
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
    const isLastName = this.table.format[slot] === S_IFDIR || this.stat[StatxWord.nlink]! <= 1;
    if (!isLastName && this.table.hasHandle(slot)) return -1;
    return this.fdOf(slot) < 0 ? -1 : slot;
  }

  /** The name is gone: the inode cannot be found again once its descriptor is closed. */
  nameRemoved(slot: number): void {
    if (slot >= 0) this.table.flags[slot]! |= InodeFlag.KEEP_FD;
  }

  /** The inode has a name (again). */
  nameAdded(slot: number): void {
    if (this.table.hasHandle(slot) && slot !== ROOT_SLOT) this.table.flags[slot]! &= ~InodeFlag.KEEP_FD;
  }

  /** A name now is of another inode (after RENAME): notes it for inodes that are found again by name. */
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
    this.#names.clear();
    for (let slot = 1; slot < table.top; slot += 1) {
      if (table.nodeid[slot] === 0) continue;
      if (table.fd[slot]! >= 0) this.#ring.close(slot);
      table.remove(slot);
    }
    table.reset();
    this.mounts.clear();
  }

  // --- who is who ------------------------------------------------------------------------------------------------

  /**
   * The row of the inode that `stat` and (`dirfd`, `path`) name, or −1.
   *
   * Inode numbers are reused, so the number alone proves nothing once we hold no descriptor: the time of birth then
   * decides, or the file handle where there is none. A wrong guess is found out when the inode is opened again.
   */
  #known(dirfd: number, path: number, flags: number): number {
    const { stat, table } = this;
    const mount = this.mounts.find(stat);
    if (mount < 0) return -1;
    let slot = table.find(mount, stat[StatxWord.ino]!, stat[StatxWord.ino + 1]!);
    while (slot >= 0) {
      if (table.fd[slot]! >= 0) return slot;
      if (
        table.birthSecond[slot] === stat[StatxWord.btime] &&
        table.birthNano[slot] === stat[StatxWord.btime + 2]
      ) {
        const hasBirth = table.birthNano[slot] !== 0 || table.birthSecond[slot] !== 0;
        if (hasBirth || !table.hasHandle(slot)) return slot;
        if (this.#readHandle(dirfd, path, flags) === 0 && this.#isHandleOf(slot)) return slot;
      }
      slot = table.findNext();
    }
    return -1;
  }

  #insertByName(dirfd: number, name: number): number {
    const format = this.stat[StatxWord.mode]! & S_IFMT;
    const mount = this.mounts.find(this.stat);
    if (mount >= 0 && this.mounts.canHandle(mount) && this.mounts.fdOf(mount) >= 0) {
      const result = this.#readHandle(dirfd, name, 0);
      if (result === 0) return this.#insertWithHandle(mount, 0);
      if (result !== -Errno.EOPNOTSUPP) return result;
      if (this.#policy === 'mandatory') return result;
      this.mounts.giveUpHandles(mount);
    }
    const room = this.makeRoom();
    if (room < 0) return room;
    const fd = openFile(dirfd, name, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) return fd;
    // The name may have become another file's since its attributes were read: from here on the descriptor counts.
    const result = this.#statFd(fd);
    const slot = result < 0 ? result : this.#known(fd, EMPTY_PATH, AT_EMPTY_PATH);
    if (result < 0 || slot >= 0) {
      closeFile(fd);
      return slot;
    }
    return this.#insertOwned(fd, format);
  }

  /** Takes `fd`, O_PATH: for a mount seen first, and for inodes without handle. */
  #insertOwned(fd: number, format: number): number {
    let mount = this.mounts.find(this.stat);
    if (mount < 0) mount = this.mounts.add(this.stat, fd, this.#policy !== 'never');
    const isByHandle =
      this.mounts.canHandle(mount) &&
      this.#readHandle(fd, EMPTY_PATH, AT_EMPTY_PATH) === 0 &&
      this.#openMount(mount, fd, format);
    if (!isByHandle && this.#policy === 'mandatory') {
      closeFile(fd);
      return -Errno.EOPNOTSUPP;
    }
    const slot = isByHandle ? this.#insertWithHandle(mount, InodeFlag.VERIFIED) : this.#insert(mount);
    if (slot < 0) closeFile(fd);
    else this.#ring.add(slot, fd);
    return slot;
  }

  #insertByFd(fd: number): number {
    const mount = this.mounts.find(this.stat);
    if (mount >= 0 && this.mounts.canHandle(mount) && this.mounts.fdOf(mount) >= 0) {
      const result = this.#readHandle(fd, EMPTY_PATH, AT_EMPTY_PATH);
      if (result === 0) return this.#insertWithHandle(mount, InodeFlag.VERIFIED);
    }
    const room = this.makeRoom();
    if (room < 0) return room;
    const path = openFile(this.#procSelfFd, fdName(fd), O_PATH, 0);
    return path < 0 ? path : this.#insertOwned(path, this.stat[StatxWord.mode]! & S_IFMT);
  }

  #insertWithHandle(mount: number, flags: number): number {
    const slot = this.#insert(mount);
    if (slot < 0) return slot;
    this.table.setHandle(slot, this.#scratch.u32, HANDLE_WORD);
    this.table.flags[slot] = flags;
    return slot;
  }

  #insert(mount: number): number {
    const { stat, table } = this;
    const format = stat[StatxWord.mode]! & S_IFMT;
    const slot = table.insert(mount, stat[StatxWord.ino]!, stat[StatxWord.ino + 1]!, format);
    if (slot < 0) return -Errno.ENFILE;
    table.birthSecond[slot] = stat[StatxWord.btime]!;
    table.birthNano[slot] = stat[StatxWord.btime + 2]!;
    this.mounts.hold(mount);
    return slot;
  }

  #free(slot: number): void {
    if (this.table.fd[slot]! >= 0) this.#ring.close(slot);
    this.mounts.release(this.table.mount[slot]!);
    const parent = this.#names.drop(slot);
    this.table.remove(slot);
    if (parent > 0) this.unpin(parent);
  }

  #noteName(slot: number, parent: number, octets: Uint8Array, start: number, length: number): void {
    if (this.#names.is(slot, parent, octets, start, length)) return;
    this.pin(parent);
    const before = this.#names.set(slot, parent, octets, start, length);
    if (before > 0) this.unpin(before);
  }

  // --- opening again ---------------------------------------------------------------------------------------------

  #reopenByHandle(slot: number): number {
    if (this.#budget.isFull && !this.#ring.evict()) return -Errno.ENFILE;
    const mountFd = this.mounts.fdOf(this.table.mount[slot]!);
    let fd = openHandle(mountFd, this.#handleOf(slot), O_PATH);
    if (fd === -Errno.EMFILE && this.#ring.evict()) fd = openHandle(mountFd, this.#handleOf(slot), O_PATH);
    if (fd === -Errno.ESTALE) this.table.unindex(slot); // its number may be a new file's: that one is another inode
    if (fd < 0) return fd;
    if ((this.table.flags[slot]! & InodeFlag.VERIFIED) === 0) {
      // The handle was read by name, after the attributes were: only now is it sure that both are of one file.
      if (!this.#isSame(fd, slot)) {
        closeFile(fd);
        this.table.unindex(slot);
        return -Errno.ESTALE;
      }
      this.table.flags[slot]! |= InodeFlag.VERIFIED;
    }
    this.#ring.add(slot, fd);
    return fd;
  }

  /** Walks up to the first directory that is open, then down again by the names noted. */
  #reopenByName(slot: number): number {
    const { table } = this;
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

  #reopenChild(slot: number): number {
    const parent = this.table.parent[slot]!;
    const dirfd = this.fdOf(parent);
    if (dirfd < 0) return dirfd;
    if (this.#budget.isFull && !this.#evictBut(parent)) return -Errno.ENFILE;
    this.#names.copy(slot, this.#scratch.u8, NAME_OCTET);
    const fd = openFile(dirfd, this.#scratch.address + NAME_OCTET, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) return fd === -Errno.ENOENT || fd === -Errno.ENOTDIR ? -Errno.ESTALE : fd;
    if (!this.#isSame(fd, slot)) {
      closeFile(fd);
      return -Errno.ESTALE;
    }
    this.#ring.add(slot, fd);
    return fd;
  }

  #evictBut(slot: number): boolean {
    const wasHeld = this.table.flags[slot]! & InodeFlag.HELD;
    this.table.flags[slot]! |= InodeFlag.HELD;
    const hasRoom = this.#ring.evict();
    if (!wasHeld) this.table.flags[slot]! &= ~InodeFlag.HELD;
    return hasRoom;
  }

  /** Whether `fd` is open on the inode of this row. Leaves its attributes in `stat`. */
  #isSame(fd: number, slot: number): boolean {
    const { stat, table } = this;
    return (
      this.#statFd(fd) === 0 &&
      stat[StatxWord.ino] === table.inoLo[slot] &&
      stat[StatxWord.ino + 1] === table.inoHi[slot] &&
      stat[StatxWord.btime] === table.birthSecond[slot] &&
      stat[StatxWord.btime + 2] === table.birthNano[slot] &&
      this.mounts.find(stat) === table.mount[slot]
    );
  }

  #statFd(fd: number): number {
    return readAttributes(fd, EMPTY_PATH, AT_EMPTY_PATH, LOOKUP_MASK, this.statAddress);
  }

  // --- file handles ----------------------------------------------------------------------------------------------

  get #handleAddress(): number {
    return this.#scratch.address + HANDLE_WORD * 4;
  }

  #handleOf(slot: number): number {
    this.table.copyHandle(slot, this.#scratch.u32, HANDLE_WORD);
    return this.#handleAddress;
  }

  #isHandleOf(slot: number): boolean {
    return this.table.isHandle(slot, this.#scratch.u32, HANDLE_WORD);
  }

  /** Reads a file handle into scratch, its last word padded with zeros. @returns 0 or −errno */
  #readHandle(dirfd: number, path: number, flags: number): number {
    const words = this.#scratch.u32;
    words[HANDLE_WORD] = MAX_HANDLE_BYTES;
    const result = fileHandleOf(
      dirfd,
      path,
      this.#handleAddress,
      this.#scratch.address + MOUNT_ID_WORD * 4,
      flags,
    );
    if (result < 0) return result === -Errno.EOVERFLOW ? -Errno.EOPNOTSUPP : result;
    const octets = words[HANDLE_WORD];
    if (octets === 0) return -Errno.EOPNOTSUPP;
    if (octets % 4 !== 0) words[HANDLE_WORD + 2 + (octets >>> 2)]! &= (1 << ((octets % 4) * 8)) - 1;
    return 0;
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
}
