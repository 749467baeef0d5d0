/**
 * The host file systems that inodes of the share are on: the shared directory's own, and what is mounted below it.
 *
 * A mount is told by device and mount id. It owns one descriptor, which open_by_handle_at(2) needs, and is forgotten
 * with its last inode, so that the host can unmount it again. Under the lock, unless an inode on the mount is marked.
 */
import { StatxWord } from '../host/files-attributes.ts';
import { HeaderWord, MAX_MOUNTS, MOUNT_WORDS, type TableMemory } from './table-memory.ts';

/** File systems known to do nothing on close(2), so that FLUSH need not pretend one. `f_type`, linux/magic.h. */
const FLUSH_MEANS_NOTHING: ReadonlySet<number> = new Set([
  0xef53, // ext2, 3, 4
  0x58465342, // XFS
  0x9123683e, // btrfs
  0x01021994, // tmpfs
  0xf2f52010, // f2fs
]);

/** Words of a mount, after device and mount id. */
const INODES = 4;
const FD = 5; // and one, so that 0 is none
const FLAGS = 6;

const MountFlag = { USED: 1, CAN_HANDLE: 2, FLUSH_MATTERS: 4 } as const;

export class MountTable {
  readonly #header: Int32Array;
  readonly #words: Uint32Array;
  #last = 0;

  constructor({ header, mounts }: TableMemory) {
    this.#header = header;
    this.#words = mounts;
  }

  /** The mount that a `struct statx` names, or −1 if it is new. */
  find(stat: Uint32Array): number {
    if (this.#is(this.#last, stat)) return this.#last;
    for (let i = 0; i < this.#header[HeaderWord.MOUNT_TOP]!; i += 1)
      if (this.#is(i, stat)) {
        this.#last = i;
        return i;
      }
    return -1;
  }

  #is(mount: number, stat: Uint32Array): boolean {
    const words = this.#words;
    const at = mount * MOUNT_WORDS;
    return (
      words[at + 2] === stat[StatxWord.mntId] &&
      words[at + 1] === stat[StatxWord.devMinor] &&
      words[at] === stat[StatxWord.devMajor] &&
      words[at + 3] === stat[StatxWord.mntId + 1] &&
      words[at + FLAGS] !== 0
    );
  }

  /**
   * Notes the mount a `struct statx` names.
   *
   * @param type of the file system, as statfs(2) says
   * @returns its index, or −1 when there are too many
   */
  add(stat: Uint32Array, type: number, canHandle: boolean): number {
    let mount = 0;
    while (mount < MAX_MOUNTS && this.#words[mount * MOUNT_WORDS + FLAGS] !== 0) mount += 1;
    if (mount === MAX_MOUNTS) return -1;
    this.#header[HeaderWord.MOUNT_TOP] = Math.max(this.#header[HeaderWord.MOUNT_TOP]!, mount + 1);
    const at = mount * MOUNT_WORDS;
    const words = this.#words;
    words[at] = stat[StatxWord.devMajor]!;
    words[at + 1] = stat[StatxWord.devMinor]!;
    words[at + 2] = stat[StatxWord.mntId]!;
    words[at + 3] = stat[StatxWord.mntId + 1]!;
    words[at + INODES] = 0;
    words[at + FD] = 0;
    words[at + FLAGS] =
      MountFlag.USED |
      (canHandle ? MountFlag.CAN_HANDLE : 0) |
      (FLUSH_MEANS_NOTHING.has(type) ? 0 : MountFlag.FLUSH_MATTERS);
    return mount;
  }

  /** Descriptor for open_by_handle_at, or −1. */
  fdOf(mount: number): number {
    return this.#words[mount * MOUNT_WORDS + FD]! - 1;
  }

  /** Gives the mount its descriptor, open for real; owned and counted from here on. */
  setFd(mount: number, fd: number): void {
    this.#words[mount * MOUNT_WORDS + FD] = fd + 1;
  }

  /** Whether inodes there may be held by file handle, as far as is known. */
  canHandle(mount: number): boolean {
    return (this.#words[mount * MOUNT_WORDS + FLAGS]! & MountFlag.CAN_HANDLE) !== 0;
  }

  /** File handles do not work there. */
  giveUpHandles(mount: number): void {
    this.#words[mount * MOUNT_WORDS + FLAGS]! &= ~MountFlag.CAN_HANDLE;
  }

  /** Whether close(2) of a file there does something that can fail, such as writing back to a server. */
  flushMatters(mount: number): boolean {
    return (this.#words[mount * MOUNT_WORDS + FLAGS]! & MountFlag.FLUSH_MATTERS) !== 0;
  }

  /** One inode more on this mount. */
  hold(mount: number): void {
    this.#words[mount * MOUNT_WORDS + INODES]! += 1;
  }

  /** One inode less. @returns whether it was the last: then `forget` */
  release(mount: number): boolean {
    this.#words[mount * MOUNT_WORDS + INODES]! -= 1;
    return this.#words[mount * MOUNT_WORDS + INODES] === 0;
  }

  /** Noted, but no inode is on it. */
  isEmpty(mount: number): boolean {
    const at = mount * MOUNT_WORDS;
    return this.#words[at + INODES] === 0 && this.#words[at + FLAGS] !== 0;
  }

  /** @returns its descriptor, the caller's from here on; or −1 */
  forget(mount: number): number {
    const fd = this.fdOf(mount);
    this.#words.fill(0, mount * MOUNT_WORDS, (mount + 1) * MOUNT_WORDS);
    return fd;
  }
}
