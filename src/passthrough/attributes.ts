/** Operations on an inode's attributes. */
import { Errno } from '../../protocol/errno.ts';
import { Fattr, FUSE_GETATTR_FH } from '../../protocol/fuse-flags.ts';
import { AccessIn, GetattrIn, SetattrIn, StatfsOut, StatxIn } from '../../protocol/fuse-requests.ts';
import type { FuseRequest } from '../fuse/request.ts';
import {
  changeMode,
  changeModeOfPath,
  changeOwner,
  changeTimes,
  changeTimesOfPath,
  KEEP_ID,
  readAttributes,
  readFileSystem,
  StatfsWord,
  StatxWord,
  UTIME_NOW,
  UTIME_OMIT,
} from '../host/files-attributes.ts';
import { truncateAtPath, truncateFile } from '../host/files-io.ts';
import { readLink } from '../host/files-names.ts';
import { AT_EMPTY_PATH, EMPTY_PATH, fdName, fdPath } from '../host/files-open.ts';
import { S_IFDIR, S_IFREG } from './stat-buffer.ts';
import { keepPrivileges, losePrivileges } from './privileges.ts';
import { writeAttrOut, writeShortAttrOut, writeStatxOut } from './reply.ts';
import { offsetArgument, type Share } from './share.ts';

/** A link's target is shorter. linux/limits.h. */
const PATH_MAX = 4096;
const CHANGES = Fattr.MODE | Fattr.UID | Fattr.GID | Fattr.SIZE | Fattr.ATIME | Fattr.MTIME | Fattr.CTIME;
/** What a statx may ask the host's kernel to do: AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC. */
const STATX_SYNC_FLAGS = 0x6000;

export function getattr(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const slot = inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const row = handleOf(share, request, GetattrIn.offset.getattrFlags, GetattrIn.offset.fh);
  const fd = row >= 0 ? share.handles.fd[row]! : inodes.opener.fdOf(slot);
  if (fd < 0) return fd;
  const result = inodes.stat.readFdShort(fd);
  return result < 0 ? result : writeShortAttrOut(request.reply.u32, inodes.stat.short, share.cacheSeconds);
}

export function statx(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const slot = inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const row = handleOf(share, request, StatxIn.offset.getattrFlags, StatxIn.offset.fh);
  const fd = row >= 0 ? share.handles.fd[row]! : inodes.opener.fdOf(slot);
  if (fd < 0) return fd;
  const flags = AT_EMPTY_PATH | (request.u32(StatxIn.offset.sxFlags) & STATX_SYNC_FLAGS);
  // The highest bit is reserved by the kernel, which refuses it.
  const mask = request.u32(StatxIn.offset.sxMask) & 0x7fff_ffff;
  const result = readAttributes(fd, EMPTY_PATH, flags, mask, inodes.stat.address);
  return result < 0 ? result : writeStatxOut(request.reply.u32, inodes.stat.words, share.cacheSeconds);
}

export function setattr(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const slot = inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const valid = request.u32(SetattrIn.offset.valid);
  let openFd = -1;
  if ((valid & Fattr.FH) !== 0) {
    const row = share.handles.find(request.u64(SetattrIn.offset.fh));
    if (row < 0 || share.handles.inode[row] !== slot) return -Errno.EBADF;
    openFd = share.handles.fd[row]!;
  }
  const fd = openFd >= 0 ? openFd : inodes.opener.fdOf(slot);
  if (fd < 0) return fd;

  let result = 0;
  // To change nothing is how the guest's kernel has setuid, setgid and file capabilities removed, where it leaves that
  // to us: before fallocate and copy_file_range, and of a file whose owner is set to what it is. Such a chown does it.
  if ((valid & CHANGES) === 0 && share.hasKillpriv)
    result = changeOwner(fd, EMPTY_PATH, KEEP_ID, KEEP_ID, AT_EMPTY_PATH);
  if ((valid & Fattr.MODE) !== 0) {
    const mode = request.u32(SetattrIn.offset.mode) & 0o7777;
    result = openFd >= 0 ? changeMode(openFd, mode) : changeModeOfPath(share.procSelfFd, fdName(fd), mode);
  }
  if (result === 0 && (valid & (Fattr.UID | Fattr.GID)) !== 0) {
    const uid = (valid & Fattr.UID) !== 0 ? request.u32(SetattrIn.offset.uid) : KEEP_ID;
    const gid = (valid & Fattr.GID) !== 0 ? request.u32(SetattrIn.offset.gid) : KEEP_ID;
    result = changeOwner(fd, EMPTY_PATH, uid, gid, AT_EMPTY_PATH);
  }
  if (result === 0 && (valid & Fattr.SIZE) !== 0) result = truncate(share, request, slot, fd, openFd);
  if (result === 0 && (valid & (Fattr.ATIME | Fattr.MTIME)) !== 0) {
    const times = writeTimes(share, request, valid);
    result =
      openFd >= 0 ? changeTimes(openFd, times) : changeTimesOfPath(share.procSelfFd, fdName(fd), times);
  }
  if (result < 0) return result;
  result = inodes.stat.readFd(fd);
  return result < 0 ? result : writeAttrOut(request.reply.u32, inodes.stat.words, share.cacheSeconds, 0);
}

function truncate(share: Share, request: FuseRequest, slot: number, fd: number, openFd: number): number {
  const size = offsetArgument(request, SetattrIn.offset.size);
  if (size < 0) return -Errno.EINVAL;
  const format = share.inodes.table.format(slot);
  if (format !== S_IFREG) return format === S_IFDIR ? -Errno.EISDIR : -Errno.EINVAL;
  const killsPrivilege = (request.u32(SetattrIn.offset.valid) & Fattr.KILL_SUIDGID) !== 0;
  const dropped = killsPrivilege && losePrivileges(share, fd);
  const result = openFd >= 0 ? truncateFile(openFd, size) : truncateAtPath(fdPath(fd), size);
  if (killsPrivilege) keepPrivileges(share, dropped);
  return result;
}

/** @returns address of two `struct timespec` for access and modification */
function writeTimes(share: Share, request: FuseRequest, valid: number): number {
  const words = share.scratch.u32;
  writeTime(words, 0, request, SetattrIn.offset.atime, SetattrIn.offset.atimensec);
  writeTime(words, 4, request, SetattrIn.offset.mtime, SetattrIn.offset.mtimensec);
  if ((valid & Fattr.ATIME) === 0) words[2] = UTIME_OMIT;
  else if ((valid & Fattr.ATIME_NOW) !== 0) words[2] = UTIME_NOW;
  if ((valid & Fattr.MTIME) === 0) words[6] = UTIME_OMIT;
  else if ((valid & Fattr.MTIME_NOW) !== 0) words[6] = UTIME_NOW;
  return share.scratch.address;
}

function writeTime(
  words: Uint32Array,
  at: number,
  request: FuseRequest,
  seconds: number,
  nanoseconds: number,
): void {
  words[at] = request.arg[seconds >>> 2]!; // two's complement before 1970, copied as it is
  words[at + 1] = request.arg[(seconds >>> 2) + 1]!;
  words[at + 2] = request.u32(nanoseconds);
  words[at + 3] = 0;
}

/** Permission bits alone: the guest's kernel checks by itself, and asks only when mounted without that. */
export function access(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const slot = inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const result = inodes.readAttributes(slot);
  if (result < 0) return result;
  const wanted = request.u32(AccessIn.offset.mask) & 0o7;
  const mode = inodes.stat.words[StatxWord.mode]!;
  if (request.uid === 0) {
    const isRunnable = (mode & 0o111) !== 0 || inodes.table.format(slot) === S_IFDIR;
    return (wanted & 0o1) !== 0 && !isRunnable ? -Errno.EACCES : 0;
  }
  let granted = mode & 0o7;
  if (inodes.stat.words[StatxWord.uid] === request.uid) granted = (mode >>> 6) & 0o7;
  else if (inodes.stat.words[StatxWord.gid] === request.gid) granted = (mode >>> 3) & 0o7;
  return (wanted & ~granted) !== 0 ? -Errno.EACCES : 0;
}

export function readlink(share: Share, request: FuseRequest): number {
  const slot = share.inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const fd = share.inodes.opener.fdOf(slot);
  return fd < 0 ? fd : readLink(fd, EMPTY_PATH, request.reply.address, PATH_MAX);
}

export function statfs(share: Share, request: FuseRequest): number {
  const slot = share.inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const fd = share.inodes.opener.fdOf(slot);
  if (fd < 0) return fd;
  const result = readFileSystem(fd, share.scratch.address);
  if (result < 0) return result;
  const from = share.scratch.u32;
  const to = request.reply.u32;
  to.fill(0, 0, StatfsOut.size / 4);
  // blocks, bfree, bavail, files, ffree: five 64-bit fields in the order of both structs.
  for (let i = 0; i < 10; i += 1) to[i] = from[StatfsWord.blocks + i]!;
  to[10] = from[StatfsWord.bsize]!;
  to[11] = from[StatfsWord.namelen]!;
  to[12] = from[StatfsWord.frsize]!;
  return StatfsOut.size;
}

/** The open file a request names, when its flags say that it does; else −1, also when it is not this inode's. */
function handleOf(share: Share, request: FuseRequest, flags: number, fh: number): number {
  if ((request.u32(flags) & FUSE_GETATTR_FH) === 0) return -1;
  const row = share.handles.find(request.u64(fh));
  return row >= 0 && share.handles.inode[row] === share.inodes.table.slotOf(request.nodeid) ? row : -1;
}
