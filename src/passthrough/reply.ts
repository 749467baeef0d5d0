/** Replies built from a `struct statx`, word by word: no 64-bit value ever becomes a JavaScript number. */
import { AttrOut, EntryOut, StatxOut } from '../../protocol/fuse-attributes.ts';
import { STATX_WORDS, StatWord, StatxWord } from '../host/files-attributes.ts';
import { nodeidHigh, nodeidLow } from './inode-table.ts';

const ATTR_IN_ATTR_OUT = AttrOut.offset.attr / 4;
const ATTR_IN_ENTRY_OUT = EntryOut.offset.attr / 4;
const STAT_IN_STATX_OUT = StatxOut.offset.stat / 4;

/** `struct fuse_attr` at word `at`. @param flags FuseAttrFlag */
export function writeAttr(words: Uint32Array, at: number, stat: Uint32Array, flags: number): void {
  words[at] = stat[StatxWord.ino]!;
  words[at + 1] = stat[StatxWord.ino + 1]!;
  words[at + 2] = stat[StatxWord.size]!;
  words[at + 3] = stat[StatxWord.size + 1]!;
  words[at + 4] = stat[StatxWord.blocks]!;
  words[at + 5] = stat[StatxWord.blocks + 1]!;
  words[at + 6] = stat[StatxWord.atime]!;
  words[at + 7] = stat[StatxWord.atime + 1]!;
  words[at + 8] = stat[StatxWord.mtime]!;
  words[at + 9] = stat[StatxWord.mtime + 1]!;
  words[at + 10] = stat[StatxWord.ctime]!;
  words[at + 11] = stat[StatxWord.ctime + 1]!;
  words[at + 12] = stat[StatxWord.atime + 2]!;
  words[at + 13] = stat[StatxWord.mtime + 2]!;
  words[at + 14] = stat[StatxWord.ctime + 2]!;
  words[at + 15] = stat[StatxWord.mode]! & 0xffff;
  words[at + 16] = stat[StatxWord.nlink]!;
  words[at + 17] = stat[StatxWord.uid]!;
  words[at + 18] = stat[StatxWord.gid]!;
  words[at + 19] = encodeDevice(stat[StatxWord.rdevMajor]!, stat[StatxWord.rdevMinor]!);
  words[at + 20] = stat[StatxWord.blksize]!;
  words[at + 21] = flags;
}

/** `struct fuse_attr_out` at word 0. @param seconds how long the attributes may be cached. @returns its size */
export function writeAttrOut(words: Uint32Array, stat: Uint32Array, seconds: number, flags: number): number {
  words[0] = seconds;
  words[1] = 0;
  words[2] = 0;
  words[3] = 0;
  writeAttr(words, ATTR_IN_ATTR_OUT, stat, flags);
  return AttrOut.size;
}

/** The same of a `struct stat`. */
export function writeShortAttrOut(words: Uint32Array, stat: Uint32Array, seconds: number): number {
  words[0] = seconds;
  words[1] = 0;
  words[2] = 0;
  words[3] = 0;
  const at = ATTR_IN_ATTR_OUT;
  words[at] = stat[StatWord.ino]!;
  words[at + 1] = stat[StatWord.ino + 1]!;
  words[at + 2] = stat[StatWord.size]!;
  words[at + 3] = stat[StatWord.size + 1]!;
  words[at + 4] = stat[StatWord.blocks]!;
  words[at + 5] = stat[StatWord.blocks + 1]!;
  words[at + 6] = stat[StatWord.atime]!;
  words[at + 7] = stat[StatWord.atime + 1]!;
  words[at + 8] = stat[StatWord.mtime]!;
  words[at + 9] = stat[StatWord.mtime + 1]!;
  words[at + 10] = stat[StatWord.ctime]!;
  words[at + 11] = stat[StatWord.ctime + 1]!;
  words[at + 12] = stat[StatWord.atime + 2]!;
  words[at + 13] = stat[StatWord.mtime + 2]!;
  words[at + 14] = stat[StatWord.ctime + 2]!;
  words[at + 15] = stat[StatWord.mode]!;
  words[at + 16] = stat[StatWord.nlink]!;
  words[at + 17] = stat[StatWord.uid]!;
  words[at + 18] = stat[StatWord.gid]!;
  words[at + 19] = stat[StatWord.rdev]!;
  words[at + 20] = stat[StatWord.blksize]!;
  words[at + 21] = 0;
  return AttrOut.size;
}

/**
 * `struct fuse_entry_out` at word `at`.
 *
 * @param slot    with `serial`: the nodeid
 * @param seconds how long name and attributes may be cached
 */
export function writeEntry(
  words: Uint32Array,
  at: number,
  slot: number,
  serial: number,
  stat: Uint32Array,
  seconds: number,
  flags: number,
): void {
  words[at] = nodeidLow(slot, serial);
  words[at + 1] = nodeidHigh(serial);
  words[at + 2] = 0; // generation: a nodeid never comes twice
  words[at + 3] = 0;
  words[at + 4] = seconds;
  words[at + 5] = 0;
  words[at + 6] = seconds;
  words[at + 7] = 0;
  words[at + 8] = 0;
  words[at + 9] = 0;
  writeAttr(words, at + ATTR_IN_ENTRY_OUT, stat, flags);
}

/** `struct fuse_statx_out` at word 0. @returns its size */
export function writeStatxOut(words: Uint32Array, stat: Uint32Array, seconds: number): number {
  words.fill(0, 0, STAT_IN_STATX_OUT);
  words[0] = seconds;
  // Bit for bit the same struct, up to the device numbers; what follows (mount id…) is the host's business.
  for (let i = 0; i < STATX_WORDS; i += 1) words[STAT_IN_STATX_OUT + i] = i < StatxWord.mntId ? stat[i]! : 0;
  return StatxOut.size;
}

/** Of a device number: as the kernel packs it into 32 bits (`new_encode_dev`). */
export function encodeDevice(major: number, minor: number): number {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}
