/** Operations on file data. It moves straight between the file and guest memory: not one octet passes through here. */
import { Errno } from '../../protocol/errno.ts';
import { FuseWrite } from '../../protocol/fuse-flags.ts';
import {
  CopyFileRangeIn,
  CopyFileRangeOut,
  FallocateIn,
  LseekIn,
  LseekOut,
  ReadIn,
  WriteIn,
  WriteOut,
} from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import type { FuseRequest } from '../fuse/request.ts';
import {
  allocateRange,
  append,
  copyFileRange as copyRange,
  seekTo,
  syncAll,
  writeAt,
  writeFrom,
} from '../host/files-io.ts';
import { closeFile, O_APPEND, O_DIRECT, O_NONBLOCK, O_RDONLY, setDirect } from '../host/files-open.ts';
import { readWaiting } from './cold-data.ts';
import { HandleFlag } from './handle-table.ts';
import { keepPrivileges, losePrivileges } from './privileges.ts';
import { offsetArgument, type Share } from './share.ts';

const TWO_32 = 0x1_0000_0000;
/** Most bytes one call copies, as the kernel limits it: so that a WriteOut can say how many. */
const MAX_COPY = 0x7fff_f000;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const SEEK_MAX = SEEK_HOLE;

/**
 * Makes the host's descriptor direct as the guest's file is at this request: its process may have set or cleared O_DIRECT
 * since; and pages written back, which carry no flags, end where the file ends, not where a block does.
 */
function followDirect(share: Share, row: number, flags: number): void {
  const { handles } = share;
  const isDirect = (flags & O_DIRECT) !== 0;
  if (((handles.flags[row]! & HandleFlag.DIRECT) !== 0) === isDirect) return;
  // Where the host's file system has no direct I/O the file stays as it is.
  if (setDirect(handles.fd[row]!, isDirect) === 0) Atomics.xor(handles.flags, row, HandleFlag.DIRECT);
}

/** @returns row of an open file, not a directory; or −EBADF */
function fileRow(share: Share, request: FuseRequest, fhOffset: number): number {
  const row = share.handles.find(request.u64(fhOffset));
  return row < 0 || (share.handles.flags[row]! & HandleFlag.DIRECTORY) !== 0 ? -Errno.EBADF : row;
}

export function read(share: Share, request: FuseRequest): number {
  const row = fileRow(share, request, ReadIn.offset.fh);
  if (row < 0) return row;
  const offset = offsetArgument(request, ReadIn.offset.offset);
  if (offset < 0) return -Errno.EINVAL;
  const fd = share.handles.fd[row]!;
  const size = request.u32(ReadIn.offset.size);
  const covered = request.prepareDataOut(size);
  if (covered === 0) return 0;
  if (share.options.allowDirectIo) followDirect(share, row, request.u32(ReadIn.offset.flags));
  const { cold, inodes } = share;
  const done =
    cold === undefined || covered < size
      ? readWaiting(request, fd, offset, covered)
      : cold.read(request, fd, inodes.table.mount(share.handles.inode[row]!), offset, covered);
  // More segments than one call takes; a short read is the end of the file.
  return done === covered && done < size ? readRest(request, fd, offset, done, size) : done;
}

function readRest(
  request: FuseRequest,
  fd: number,
  offset: number | bigint,
  first: number,
  size: number,
): number {
  let done = first;
  while (done < size) {
    const covered = request.prepareDataOut(size - done, done);
    if (covered === 0) break;
    const part = readWaiting(request, fd, plus(offset, done), covered);
    if (part > 0) done += part;
    if (part !== covered) break;
  }
  return done;
}

/**
 * The host's descriptor never has O_APPEND, since pages that the guest writes back through it belong where they are;
 * a write that is to be appended says so by the flags its file has in the guest.
 */
export function write(share: Share, request: FuseRequest): number {
  const row = fileRow(share, request, WriteIn.offset.fh);
  if (row < 0) return row;
  const offset = offsetArgument(request, WriteIn.offset.offset);
  if (offset < 0) return -Errno.EINVAL;
  const writeFlags = request.u32(WriteIn.offset.writeFlags);
  const isAppend =
    (request.u32(WriteIn.offset.flags) & O_APPEND) !== 0 && (writeFlags & FuseWrite.CACHE) === 0;
  const fd = share.handles.fd[row]!;
  if (share.options.allowDirectIo) followDirect(share, row, request.u32(WriteIn.offset.flags));
  const killsPrivilege = (writeFlags & FuseWrite.KILL_SUIDGID) !== 0 && share.hasKillpriv;
  const dropped = killsPrivilege && losePrivileges(share, fd);
  const done = writeAll(request, fd, isAppend ? -1 : offset);
  if (killsPrivilege) keepPrivileges(share, dropped);
  if (done < 0) return done;
  request.reply.u32[0] = done;
  request.reply.u32[1] = 0;
  return WriteOut.size;
}

function writeCovered(request: FuseRequest, fd: number, offset: number | bigint, covered: number): number {
  return request.iovecCount === 1
    ? writeFrom(fd, request.dataAddress, covered, offset)
    : writeAt(fd, request.iovecAddress, request.iovecCount, offset);
}

/** @param offset −1 appends */
function writeAll(request: FuseRequest, fd: number, offset: number | bigint): number {
  const size = request.u32(WriteIn.offset.size);
  let done = 0;
  while (done < size) {
    const covered = request.prepareDataIn(size - done, done);
    if (covered === 0) break;
    const part =
      offset === -1
        ? append(fd, request.iovecAddress, request.iovecCount)
        : writeCovered(request, fd, done === 0 ? offset : plus(offset, done), covered);
    if (part < 0) return done > 0 ? done : part;
    done += part;
    if (part !== covered) break;
  }
  return done;
}

const plus = (offset: number | bigint, size: number): number | bigint =>
  typeof offset === 'number' && offset + size <= Number.MAX_SAFE_INTEGER
    ? offset + size
    : BigInt(offset) + BigInt(size);

export function fallocate(share: Share, request: FuseRequest): number {
  const row = fileRow(share, request, FallocateIn.offset.fh);
  if (row < 0) return row;
  const offset = offsetArgument(request, FallocateIn.offset.offset);
  const length = offsetArgument(request, FallocateIn.offset.length);
  if (offset < 0 || length < 0) return -Errno.EINVAL;
  return allocateRange(share.handles.fd[row]!, request.u32(FallocateIn.offset.mode), offset, length);
}

export function lseek(share: Share, request: FuseRequest): number {
  const row = fileRow(share, request, LseekIn.offset.fh);
  if (row < 0) return row;
  const whence = request.u32(LseekIn.offset.whence);
  const offset = offsetArgument(request, LseekIn.offset.offset);
  if (whence > SEEK_MAX) return -Errno.EINVAL;
  if (offset < 0) return whence === SEEK_DATA || whence === SEEK_HOLE ? -Errno.ENXIO : -Errno.EINVAL;
  const found = seekTo(share.handles.fd[row]!, offset, whence);
  if (found < 0) return Number(found);
  const words = request.reply.u32;
  if (typeof found === 'number') {
    words[0] = found; // stores modulo 2^32
    words[1] = found / TWO_32;
  } else {
    words[0] = Number(found & 0xffff_ffffn);
    words[1] = Number(found >> 32n);
  }
  return LseekOut.size;
}

export function copyFileRange(share: Share, request: FuseRequest): number {
  const from = fileRow(share, request, CopyFileRangeIn.offset.fhIn);
  const to = fileRow(share, request, CopyFileRangeIn.offset.fhOut);
  if (from < 0 || to < 0) return -Errno.EBADF;
  if (request.u64(CopyFileRangeIn.offset.flags) !== 0) return -Errno.EINVAL;
  const { scratch, handles } = share;
  copyWords(scratch.u32, 0, request, CopyFileRangeIn.offset.offIn);
  copyWords(scratch.u32, 2, request, CopyFileRangeIn.offset.offOut);
  const size = Math.min(request.u64(CopyFileRangeIn.offset.len), MAX_COPY);
  const { address } = scratch;
  const done = copyRange(handles.fd[from]!, address, handles.fd[to]!, address + 8, size);
  if (done < 0) return done;
  request.reply.u32[0] = done;
  request.reply.u32[1] = 0;
  return request.opcode === FuseOpcode.COPY_FILE_RANGE_64 ? CopyFileRangeOut.size : WriteOut.size;
}

function copyWords(to: Uint32Array, at: number, request: FuseRequest, offset: number): void {
  to[at] = request.u32(offset);
  to[at + 1] = request.u32(offset + 4);
}

/** Writes back the whole host file system that holds the inode. */
export function syncfs(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const slot = inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const mountFd = inodes.mounts.fdOf(inodes.table.mount(slot));
  if (mountFd >= 0) return syncAll(mountFd);
  const fd = inodes.opener.open(slot, O_RDONLY | O_NONBLOCK);
  if (fd < 0) return fd;
  const result = syncAll(fd);
  closeFile(fd);
  return result;
}
