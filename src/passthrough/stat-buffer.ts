/** The one `struct statx`, and the one `struct stat`, that attributes are read into: valid until the next is read. */
import {
  readAttributes,
  readFdAttributes,
  STATX_BASIC_STATS,
  STATX_BTIME,
  STATX_MNT_ID,
  STATX_WORDS,
  StatxWord,
} from '../host/files-attributes.ts';
import { AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, EMPTY_PATH } from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';

const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_IXGRP = 0o10;

const MASK = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;

export class StatBuffer {
  readonly words: Uint32Array;
  readonly address: number;
  /** The `struct stat` that `readFdShort` fills. */
  readonly short: Uint32Array;
  readonly #shortAddress: number;

  constructor() {
    const memory = NativeMemory.allocate(2 * STATX_WORDS * 4);
    this.words = memory.u32.subarray(0, STATX_WORDS);
    this.address = memory.address;
    this.short = memory.u32.subarray(STATX_WORDS, 2 * STATX_WORDS);
    this.#shortAddress = memory.address + STATX_WORDS * 4;
  }

  /** Reads into `short` what GETATTR answers. @returns 0 or −errno */
  readFdShort(fd: number): number {
    return readFdAttributes(fd, this.#shortAddress);
  }

  /** Reads the attributes of what `fd` is open on; O_PATH will do. @returns 0 or −errno */
  readFd(fd: number): number {
    return readAttributes(fd, EMPTY_PATH, AT_EMPTY_PATH, MASK, this.address);
  }

  /** Reads the attributes of one name in a directory; links are not followed. @returns 0 or −errno */
  readName(dirfd: number, name: number): number {
    return readAttributes(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, MASK, this.address);
  }

  /** The format bits of st_mode. */
  get format(): number {
    return this.words[StatxWord.mode]! & S_IFMT;
  }
}
