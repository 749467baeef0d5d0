/**
 * Listing directories.
 *
 * The host's records are read into a buffer that is just so large that what is in it surely fits into the reply, so
 * that nothing read has to be given up and read again.
 */
import { Errno } from '../../protocol/errno.ts';
import { Dirent, Direntplus, EntryOut, recordAlign } from '../../protocol/fuse-attributes.ts';
import { ReadIn } from '../../protocol/fuse-requests.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { seekTo } from '../host/files-io.ts';
import {
  DIRENT_NAME,
  DIRENT_OFFSET,
  DIRENT_RECORD_SIZE,
  DIRENT_TYPE,
  readDirectory,
} from '../host/files-names.ts';
import { HandleFlag } from './handle-table.ts';
import { attrFlags } from './names.ts';
import { writeEntry } from './reply.ts';
import type { Share } from './share.ts';

const SEEK_SET = 0;
const DOT = 0x2e;
const ENTRY_WORDS = EntryOut.size / 4;
const OFFSET_ARGUMENT = ReadIn.offset.offset / 4;
/** A host record is at least this long, and then holds a name of up to 4 octets. */
const LEAST_RECORD = 24;
/** A host record of the longest name. */
const LONGEST_RECORD = 280;
/** What the shortest host record becomes, at most; longer ones grow by no larger factor. */
const WORST_DIRENT = Dirent.size + 8;
const WORST_DIRENTPLUS = Direntplus.size + 8;

/** Lists one directory at a time. There is one a share; what it holds is of the request being served. */
export class DirectoryReader {
  readonly #share: Share;
  #row = 0;
  #isPlus = false;
  /** Bytes the reply may have, and has. */
  #room = 0;
  #used = 0;

  constructor(share: Share) {
    this.#share = share;
  }

  /** READDIR and READDIRPLUS. */
  list(request: FuseRequest, isPlus: boolean): number {
    const { handles } = this.#share;
    const row = handles.find(request.u64(ReadIn.offset.fh));
    if (row < 0) return -Errno.EBADF;
    if ((handles.flags[row]! & HandleFlag.DIRECTORY) === 0) return -Errno.ENOTDIR;
    this.#row = row;
    this.#isPlus = isPlus;
    this.#used = 0;
    this.#room = Math.min(request.u32(ReadIn.offset.size), request.replyRoom, request.reply.size);
    const sought = this.#seek(request.arg[OFFSET_ARGUMENT]!, request.arg[OFFSET_ARGUMENT + 1]!);
    return sought < 0 ? sought : this.#fill(request);
  }

  /** Puts the descriptor where the guest wants to go on, which it nearly always is already. */
  #seek(lo: number, hi: number): number {
    const { handles } = this.#share;
    const row = this.#row;
    const isStarted = (handles.flags[row]! & HandleFlag.STARTED) !== 0;
    // Going back to the start is asked for even if nothing was read: the directory may have changed since.
    const isThere = lo === handles.positionLo[row] && hi === handles.positionHi[row];
    handles.flags[row]! |= HandleFlag.STARTED;
    if (isThere && (!isStarted || lo !== 0 || hi !== 0)) return 0;
    const offset =
      hi < 0x20_0000 ? hi * 0x1_0000_0000 + lo : BigInt.asIntN(64, (BigInt(hi) << 32n) | BigInt(lo));
    const result = Number(seekTo(handles.fd[row]!, offset, SEEK_SET));
    if (result < 0 && result >= -4095) return result;
    handles.positionLo[row] = lo;
    handles.positionHi[row] = hi;
    return 0;
  }

  #fill(request: FuseRequest): number {
    const { handles, records } = this.#share;
    const worst = this.#isPlus ? WORST_DIRENTPLUS : WORST_DIRENT;
    for (;;) {
      const fitting = Math.floor((this.#room - this.#used) / worst) * LEAST_RECORD;
      const wanted = Math.min(Math.max(fitting, LONGEST_RECORD), records.size);
      const size = readDirectory(handles.fd[this.#row]!, records.address, wanted);
      if (size <= 0) return this.#used > 0 ? this.#used : size;
      const isWhole = this.#emit(request, size);
      // A second helping while much room is left, not for the last few entries.
      if (!isWhole || this.#room - this.#used < this.#room / 4)
        return this.#used > 0 ? this.#used : -Errno.EINVAL;
    }
  }

  /** Turns `size` octets of host records into entries of the reply. @returns false if not all of them fitted */
  #emit(request: FuseRequest, size: number): boolean {
    const { handles, records } = this.#share;
    const words = records.u32;
    const head = this.#isPlus ? Direntplus.size : Dirent.size;
    let isWhole = true;
    let at = 0;
    while (at < size) {
      const recordSize = records.u16[(at + DIRENT_RECORD_SIZE) >>> 1]!;
      const nameLength = this.#nameLength(at, recordSize);
      if (isWhole && this.#used + recordAlign(head + nameLength) > this.#room) isWhole = false;
      if (isWhole) this.#emitOne(request, at, nameLength);
      handles.positionLo[this.#row] = words[(at + DIRENT_OFFSET) >>> 2]!;
      handles.positionHi[this.#row] = words[(at + DIRENT_OFFSET + 4) >>> 2]!;
      at += recordSize;
    }
    return isWhole;
  }

  /** The name ends with the first NUL among the last octets of the record; what follows is undefined. */
  #nameLength(at: number, recordSize: number): number {
    const { u8 } = this.#share.records;
    let end = at + Math.max(DIRENT_NAME + 1, recordSize - 8);
    while (u8[end] !== 0) end += 1;
    return end - at - DIRENT_NAME;
  }

  #emitOne(request: FuseRequest, at: number, nameLength: number): void {
    const { records } = this.#share;
    const { u8, u32 } = request.reply;
    let word = this.#used / 4;
    if (this.#isPlus) {
      this.#emitEntry(request, word, at, nameLength);
      word += ENTRY_WORDS;
    }
    const from = at >>> 2;
    u32[word] = records.u32[from]!; // d_ino and d_off
    u32[word + 1] = records.u32[from + 1]!;
    u32[word + 2] = records.u32[from + 2]!;
    u32[word + 3] = records.u32[from + 3]!;
    u32[word + 4] = nameLength;
    u32[word + 5] = records.u8[at + DIRENT_TYPE]!;
    const start = word * 4 + Dirent.size;
    const end = recordAlign(start + nameLength);
    u32[end / 4 - 1] = 0; // padding, before the name may cover it
    u32[end / 4 - 2] = 0;
    for (let i = 0; i < nameLength; i += 1) u8[start + i] = records.u8[at + DIRENT_NAME + i]!;
    this.#used = end;
  }

  /** What a LOOKUP of the name would answer. A name that cannot be looked up is listed all the same, with nodeid 0. */
  #emitEntry(request: FuseRequest, word: number, at: number, nameLength: number): void {
    const { handles, inodes, records, cacheSeconds } = this.#share;
    const { u32 } = request.reply;
    const name = at + DIRENT_NAME;
    let slot = -1;
    const parent = handles.inode[this.#row]!;
    if (!isDots(records.u8, name, nameLength))
      slot = inodes.lookup(
        parent,
        handles.fd[this.#row]!,
        records.address + name,
        records.u8,
        name,
        nameLength,
      );
    if (slot < 0) {
      u32.fill(0, word, word + ENTRY_WORDS);
      return;
    }
    const flags = attrFlags(this.#share, parent, slot);
    writeEntry(u32, word, slot, inodes.foundSerial, inodes.stat.words, cacheSeconds, flags);
  }
}

function isDots(octets: Uint8Array, at: number, length: number): boolean {
  if (octets[at] !== DOT) return false;
  return length === 1 || (length === 2 && octets[at + 1] === DOT);
}
