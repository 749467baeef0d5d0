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
  O_NOFOLLOW,
  O_PATH,
  openFile,
  openHandle,
} from '../host/files-open.ts';
import type { FileHandles } from './file-handles.ts';
import { FreshInodes } from './fresh-inodes.ts';
import { InodeFinder } from './inode-finder.ts';
import { InodeOpener, type InodeParts } from './inode-opener.ts';
import { InodeReferences } from './inode-references.ts';
import { InodeFlag } from './inode-row.ts';
import { type InodeTable, ROOT_SLOT } from './inode-table.ts';
import type { Lingering } from './lingering.ts';
import type { MountTable } from './mount-table.ts';
import type { InodeFileHandles } from './options.ts';
import { S_IFDIR, type StatBuffer } from './stat-buffer.ts';

/** Rows with one of these can be reached without a name. */
const REACHABLE = InodeFlag.HAS_HANDLE | InodeFlag.FRESH;

/** Answer of `beforeUnlink` for the last name of a fresh inode, less its row; below it, any −errno. */
const FRESH = -0x1_0000;

export class InodeStore {
  readonly table: InodeTable;
  readonly mounts: MountTable;
  readonly opener: InodeOpener;
  readonly references: InodeReferences;
  readonly fresh: FreshInodes;
  readonly lingering: Lingering;
  /** Attributes of the file last looked up. */
  readonly stat: StatBuffer;
  /** What makes a nodeid of the inode last looked up. */
  foundSerial = 0;
  readonly #parts: InodeParts;
  readonly #fileHandles: FileHandles;
  readonly #finder: InodeFinder;

  constructor(parts: InodeParts) {
    this.#parts = parts;
    this.table = parts.table;
    this.mounts = parts.mounts;
    this.stat = parts.stat;
    this.lingering = parts.lingering;
    this.opener = new InodeOpener(parts, () => this.fresh.shed());
    this.references = new InodeReferences(parts);
    this.fresh = new FreshInodes(parts, this.references);
    this.#fileHandles = parts.fileHandles;
    this.#finder = new InodeFinder(parts, this.opener, this.references);
  }

  /** How inodes are held, after what was asked for was tried on the root. */
  get policy(): InodeFileHandles {
    return this.#finder.policy;
  }

  /**
   * Makes the directory `fd` is open on (O_PATH) the root. Takes the descriptor, also when it fails.
   *
   * @param policy how inodes are to be held
   * @returns 0 or −errno; EOPNOTSUPP when file handles are mandatory and do not work
   */
  setRoot(fd: number, policy: InodeFileHandles): number {
    this.#finder.policy = policy;
    const result = this.stat.readFd(fd);
    if (result < 0) {
      closeFile(fd);
      return result;
    }
    const mount = this.mounts.add(this.stat.words, this.#finder.typeOf(fd), this.policy !== 'never');
    const slot = this.#finder.insert(mount);
    this.#parts.ring.add(slot, fd);
    this.table.setFlags(slot, InodeFlag.KEEP_FD);
    this.table.addLookups(slot, 1); // the kernel never looks the root up, and never forgets it
    this.table.publish(slot);
    if (this.policy === 'never' || this.#doHandlesWork(fd, slot)) return 0;
    if (this.policy === 'mandatory') return -Errno.EOPNOTSUPP;
    this.#finder.policy = 'never';
    this.mounts.giveUpHandles(mount);
    return 0;
  }

  /** Tries on the root whether a file handle can be had, and opened (which takes CAP_DAC_READ_SEARCH). */
  #doHandlesWork(fd: number, slot: number): boolean {
    if (this.#fileHandles.read(fd, EMPTY_PATH, AT_EMPTY_PATH) < 0) return false;
    const mountFd = this.#finder.openMount(fd, S_IFDIR);
    if (mountFd < 0) return false;
    this.#finder.setMountFd(this.table.mount(slot), mountFd);
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
    let slot = this.#finder.known(false);
    const mayHandle = slot < 0 && this.#finder.mayHandle();
    if (slot >= 0) this.#count(slot, parent, octets, start, length);
    this.references.unlock();
    if (slot >= 0) return slot;
    slot = this.#finder.lockedNew(dirfd, name, mayHandle);
    if (slot >= 0) this.#count(slot, parent, octets, start, length);
    this.references.unlock();
    return slot;
  }

  /**
   * The inode a descriptor is open on (for real), counted as a lookup: what was just created. `fd` stays the caller's,
   * unless `fresh.is` the inode: then it is marked, and lends the descriptor to the file opened with it.
   * The name is as for `lookup`; length 0 when it has none.
   */
  lookupFd(fd: number, parent: number, octets: Uint8Array, start: number, length: number): number {
    const result = this.stat.readFd(fd);
    if (result < 0) return result;
    const { memory } = this.#parts;
    memory.acquire();
    let slot = this.#finder.known(false);
    if (slot < 0) slot = length > 0 ? this.#finder.insertFresh(fd, this.fresh) : -1;
    if (slot < 0) {
      const mayHandle = this.#finder.mayHandle();
      memory.release();
      slot = this.#finder.lockedNewOfFd(fd, mayHandle);
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
    if (length > 0 && (table.flags(slot) & REACHABLE) === 0)
      this.references.noteName(slot, parent, octets, start, length);
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

  /** The same for a file's name that is not to become another's: a fresh inode, which is marked, is told by it alone. */
  beforeUnlink(dirfd: number, name: number): number {
    if (!this.fresh.any || this.stat.readName(dirfd, name) < 0) return this.beforeRemoval(dirfd, name);
    const { memory, inUse } = this.#parts;
    memory.acquire();
    const slot = this.#finder.known(false);
    const isFresh = slot >= 0 && this.table.isLive(slot) && this.fresh.is(slot);
    if (isFresh) inUse.markInode(slot);
    memory.release();
    if (!isFresh) return this.beforeRemoval(dirfd, name);
    return this.stat.words[StatxWord.nlink] === 1 ? FRESH - slot : -Errno.EEXIST;
  }

  /**
   * The name is gone. If the inode behind it is known and cannot be found again, its descriptor is kept, so that the guest
   * can go on using it.
   *
   * @param fd what `beforeRemoval` or `beforeUnlink` answered
   * @param dirfd with `name`: what may still be the very name, since renaming to another name of the same file does nothing
   */
  afterRemoval(fd: number, dirfd: number, name: number): void {
    if (fd <= FRESH) this.keepOpen(FRESH - fd);
    if (fd < 0) return;
    const { words } = this.stat;
    if (this.stat.readFd(fd) < 0 || (words[StatxWord.nlink] !== 0 && this.#isStillThere(fd, dirfd, name))) {
      closeFile(fd);
      return;
    }
    const { ring, budget } = this.#parts;
    const room = budget.isFull ? this.opener.makeRoom() : 0;
    const slot = this.#finder.lockedKnown(fd, EMPTY_PATH, AT_EMPTY_PATH);
    let isTaken = false;
    if (slot >= 0 && this.table.isLive(slot)) {
      const isDirectory = this.table.format(slot) === S_IFDIR;
      if (isDirectory || words[StatxWord.nlink] === 0 || (this.table.flags(slot) & REACHABLE) === 0) {
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

  /** The inode has no name: its descriptor, which is open, is all there is. The row is marked. */
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
    const slot = this.#finder.lockedKnown(dirfd, name, 0);
    if (slot >= 0 && this.table.isLive(slot) && (this.table.flags(slot) & REACHABLE) === 0)
      this.references.noteName(slot, parent, octets, start, length);
    this.references.unlock();
  }
}
