/**
 * The host file systems that inodes of the share are on: the shared directory's own, and what is mounted below it.
 *
 * A mount is told by device and mount id. It owns one descriptor, which open_by_handle_at(2) needs, and is forgotten
 * with its last inode, so that the host can unmount it again.
 */
import { readFileSystem, StatfsWord, StatxWord } from '../host/files-attributes.ts';
import { closeFile } from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';
import type { FdBudget } from './fd-budget.ts';

/** File systems known to do nothing on close(2), so that FLUSH need not pretend one. `f_type`, linux/magic.h. */
const FLUSH_MEANS_NOTHING: ReadonlySet<number> = new Set([
  0xef53, // ext2, 3, 4
  0x58465342, // XFS
  0x9123683e, // btrfs
  0x01021994, // tmpfs
  0xf2f52010, // f2fs
]);

const answer = NativeMemory.allocate(4096);

export class MountTable {
  /** Words of the identity: device major, minor, mount id low, high. Four a mount. */
  #identity: number[] = [];
  #inodes: number[] = [];
  #fd: number[] = [];
  #canHandle: boolean[] = [];
  #flushMatters: boolean[] = [];
  #last = 0;
  readonly #budget: FdBudget;

  constructor(budget: FdBudget) {
    this.#budget = budget;
  }

  /** The mount that a `struct statx` names, or −1 if it is new. */
  find(stat: Uint32Array): number {
    if (this.#is(this.#last, stat)) return this.#last;
    for (let i = 0; i < this.#inodes.length; i += 1)
      if (this.#is(i, stat)) {
        this.#last = i;
        return i;
      }
    return -1;
  }

  #is(mount: number, stat: Uint32Array): boolean {
    const words = this.#identity;
    const at = mount * 4;
    return (
      words[at + 2] === stat[StatxWord.mntId] &&
      words[at + 1] === stat[StatxWord.devMinor] &&
      words[at] === stat[StatxWord.devMajor] &&
      words[at + 3] === stat[StatxWord.mntId + 1]
    );
  }

  /** Notes the mount a `struct statx` names. @param fd on it, borrowed; O_PATH will do */
  add(stat: Uint32Array, fd: number, canHandle: boolean): number {
    const free = this.#inodes.findIndex((inodes) => inodes < 0);
    const mount = free < 0 ? this.#inodes.length : free;
    this.#identity[mount * 4] = stat[StatxWord.devMajor]!;
    this.#identity[mount * 4 + 1] = stat[StatxWord.devMinor]!;
    this.#identity[mount * 4 + 2] = stat[StatxWord.mntId]!;
    this.#identity[mount * 4 + 3] = stat[StatxWord.mntId + 1]!;
    this.#inodes[mount] = 0;
    this.#fd[mount] = -1;
    this.#canHandle[mount] = canHandle;
    const type = readFileSystem(fd, answer.address) < 0 ? 0 : answer.u32[StatfsWord.type]!;
    this.#flushMatters[mount] = !FLUSH_MEANS_NOTHING.has(type);
    return mount;
  }

  /** Descriptor for open_by_handle_at, or −1. */
  fdOf(mount: number): number {
    return this.#fd[mount]!;
  }

  /** Gives the mount its descriptor, open for real; owned from here on. */
  setFd(mount: number, fd: number): void {
    this.#budget.take();
    this.#fd[mount] = fd;
  }

  /** Whether inodes there may be held by file handle, as far as is known. */
  canHandle(mount: number): boolean {
    return this.#canHandle[mount]!;
  }

  /** File handles do not work there. */
  giveUpHandles(mount: number): void {
    this.#canHandle[mount] = false;
  }

  /** Whether close(2) of a file there does something that can fail, such as writing back to a server. */
  flushMatters(mount: number): boolean {
    return this.#flushMatters[mount]!;
  }

  /** One inode more on this mount. */
  hold(mount: number): void {
    this.#inodes[mount]! += 1;
  }

  /** One inode less; the last closes the descriptor and forgets the mount. */
  release(mount: number): void {
    this.#inodes[mount]! -= 1;
    if (this.#inodes[mount] === 0) this.#forget(mount);
  }

  clear(): void {
    for (let i = 0; i < this.#inodes.length; i += 1) if (this.#inodes[i]! >= 0) this.#forget(i);
    this.#identity = [];
    this.#inodes = [];
    this.#last = 0;
  }

  #forget(mount: number): void {
    if (this.#fd[mount]! >= 0) {
      closeFile(this.#fd[mount]!);
      this.#budget.giveBack();
    }
    this.#fd[mount] = -1;
    this.#inodes[mount] = -1;
    this.#identity.fill(-1, mount * 4, mount * 4 + 4);
  }
}
