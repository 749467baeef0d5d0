/** Opening and closing: the guest's open files, and the flags they are opened with. */
import { Errno } from '../../protocol/errno.ts';
import { OpenOut } from '../../protocol/fuse-attributes.ts';
import { Fopen, FUSE_OPEN_KILL_SUIDGID, FuseRelease } from '../../protocol/fuse-flags.ts';
import { FlushIn, FsyncIn, OpenIn, ReleaseIn } from '../../protocol/fuse-requests.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { syncFile } from '../host/files-io.ts';
import { LOCK_UN, lockFile } from '../host/files-lock.ts';
import {
  closeFile,
  duplicateFd,
  O_ACCMODE,
  O_APPEND,
  O_DIRECT,
  O_DIRECTORY,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_SYNC,
  O_TRUNC,
  O_WRONLY,
} from '../host/files-open.ts';
import { HandleFlag } from './handle-table.ts';
import type { CachePolicy } from './options.ts';
import { keepPrivileges, losePrivileges } from './privileges.ts';
import type { Share } from './share.ts';
import { S_IFREG } from './stat-buffer.ts';

/** Answer of `reopen`, outside the range of errnos. */
const NOT_LINGERING = -0x1_0000;

/** Flags of the guest that mean something on the host too. O_APPEND is not one: see `write`. */
const PASSED = O_ACCMODE | O_TRUNC | O_NONBLOCK | O_SYNC;

/** FOPEN_… flags of files and of directories. As virtiofsd answers. */
const FILE_ANSWER: { readonly [policy in CachePolicy]: number } = {
  never: Fopen.DIRECT_IO,
  metadata: Fopen.DIRECT_IO,
  auto: 0,
  always: Fopen.KEEP_CACHE,
};
const DIRECTORY_ANSWER: { readonly [policy in CachePolicy]: number } = {
  never: 0,
  metadata: Fopen.CACHE_DIR | Fopen.KEEP_CACHE,
  auto: 0,
  always: Fopen.CACHE_DIR | Fopen.KEEP_CACHE,
};

/**
 * Open flags for the host, from the guest's.
 *
 * With a writeback cache the guest reads to fill pages it writes part of, so a file it opens for writing must be
 * readable. O_DIRECT counts only when the operator allows it: it demands an alignment that guest buffers need not have.
 */
export function hostFlags(share: Share, flags: number): number {
  let passed = flags & (share.options.allowDirectIo ? PASSED | O_DIRECT : PASSED);
  if (share.isWriteback && (flags & O_ACCMODE) === O_WRONLY) passed = (passed & ~O_ACCMODE) | O_RDWR;
  return passed;
}

export function open(share: Share, request: FuseRequest): number {
  const slot = share.inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const flags = request.u32(OpenIn.offset.flags);
  const killsPrivilege = (request.u32(OpenIn.offset.openFlags) & FUSE_OPEN_KILL_SUIDGID) !== 0;
  const row = openInode(share, slot, flags, killsPrivilege);
  return row < 0 ? row : answerOpen(share, request, 0, row, flags);
}

export function opendir(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const slot = inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const fd = inodes.opener.open(slot, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return fd;
  const row = addHandle(share, fd, slot, HandleFlag.DIRECTORY);
  return row < 0 ? row : answerOpen(share, request, 0, row, 0);
}

/** Opens an inode with the guest's flags. @returns row of the handle, or −errno */
export function openInode(share: Share, slot: number, flags: number, killsPrivilege: boolean): number {
  const { inodes } = share;
  const wanted = hostFlags(share, flags);
  const isReader = wanted === O_RDONLY && !killsPrivilege && inodes.table.format(slot) === S_IFREG;
  if (isReader && !inodes.lingering.isEmpty) {
    const row = reopen(share, slot);
    if (row !== NOT_LINGERING) return row;
  }
  const dropped = killsPrivilege && losePrivileges(share, inodes.opener.fdOf(slot));
  let fd = inodes.opener.open(slot, wanted);
  // A file that the host lets nobody but append to.
  if (fd === -Errno.EPERM && (flags & O_APPEND) !== 0) fd = inodes.opener.open(slot, wanted | O_APPEND);
  if (killsPrivilege) keepPrivileges(share, dropped);
  if (fd < 0) return fd;
  const mark = isReader ? HandleFlag.READER : (wanted & O_DIRECT) === 0 ? 0 : HandleFlag.DIRECT;
  return addHandle(share, fd, slot, mark);
}

/** Opens a file anew by a descriptor that was not closed yet. @returns row of the handle, −errno, or NOT_LINGERING */
function reopen({ memory, inodes, handles, budget }: Share, slot: number): number {
  memory.acquire();
  const fd = inodes.table.isLive(slot) ? inodes.lingering.takeReader(slot) : -1;
  const row = fd < 0 ? -1 : handles.insert(fd, slot, HandleFlag.READER);
  if (row >= 0) inodes.references.pin(slot);
  memory.release();
  if (fd < 0) return NOT_LINGERING;
  if (row >= 0) return row;
  closeFile(fd);
  budget.giveBack();
  return -Errno.ENFILE;
}

/** Notes an open file; takes the descriptor, unless it is borrowed. @returns row of the handle, or −ENFILE */
export function addHandle(share: Share, fd: number, slot: number, flags: number): number {
  const { memory, inodes } = share;
  memory.acquire();
  // A guest may forget what it is opening.
  const isKnown = inodes.table.isLive(slot);
  const row = isKnown ? share.handles.insert(fd, slot, flags) : -1;
  if (row >= 0) inodes.references.pin(slot);
  memory.release();
  const isOwn = (flags & HandleFlag.BORROWED) === 0;
  if (row < 0) {
    if (isOwn) closeFile(fd);
    return isKnown ? -Errno.ENFILE : -Errno.ESTALE;
  }
  if (isOwn) share.budget.take();
  return row;
}

/** Closes an open file, or leaves that to the thread that is using it. @returns 0, or −EBADF if another was faster */
export function closeHandle(share: Share, row: number): number {
  const { memory, handles, inUse, inodes } = share;
  memory.acquire();
  const isOpen = handles.remove(row);
  if (isOpen && !inUse.leaveHandle(row)) settleHandle(share, row);
  inodes.references.unlock();
  inodes.fresh.endSome();
  return isOpen ? 0 : -Errno.EBADF;
}

/** Under the lock. */
function settleHandle({ handles, budget, inodes }: Share, row: number): void {
  const slot = handles.inode[row]!;
  const fd = handles.fd[row]!;
  const flags = handles.flags[row]!;
  const { references, fresh, table, mounts } = inodes;
  const isReader =
    (flags & (HandleFlag.READER | HandleFlag.LOCKED | HandleFlag.DIRECT)) === HandleFlag.READER;
  const mayLinger = isReader && !budget.isFull && !mounts.flushMatters(table.mount(slot));
  handles.recycle(row);
  // An open file keeps its inode: from here on it may be gone.
  references.unpin(slot);
  if ((flags & HandleFlag.BORROWED) !== 0) {
    // Not settled if another thread uses it: it may be looked up again before.
    fresh.closed(slot);
    return;
  }
  if (mayLinger && table.isLive(slot)) {
    fresh.keepReader(slot, fd);
    return;
  }
  references.toClose.add(fd);
  budget.giveBack();
}

/** Gives up what was left to threads that were using it, and are not any more. */
export function settleLeftovers(share: Share): void {
  const { memory, inUse, inodes } = share;
  memory.acquire();
  for (let value = inUse.takeLeftover(); value !== 0; value = inUse.takeLeftover())
    if (value > 0) inodes.references.settleLeft(value);
    else settleHandle(share, ~value);
  inodes.references.unlock();
  inodes.fresh.endSome();
}

/** `struct fuse_open_out` at word `at` of the reply. @returns its size */
export function answerOpen(
  share: Share,
  request: FuseRequest,
  at: number,
  row: number,
  flags: number,
): number {
  const { handles } = share;
  const isDirectory = (handles.flags[row]! & HandleFlag.DIRECTORY) !== 0 || (flags & O_DIRECTORY) !== 0;
  const words = request.reply.u32;
  words[at] = handles.low(row);
  words[at + 1] = handles.high(row);
  words[at + 2] = (isDirectory ? DIRECTORY_ANSWER : FILE_ANSWER)[share.options.cache];
  words[at + 3] = 0;
  return OpenOut.size;
}

/** Of RELEASE and RELEASEDIR. */
export function release(share: Share, request: FuseRequest): number {
  const row = share.handles.find(request.u64(ReleaseIn.offset.fh));
  if (row < 0) return -Errno.EBADF;
  if ((request.u32(ReleaseIn.offset.releaseFlags) & FuseRelease.FLUSH) !== 0)
    dropLocks(share, row, request, ReleaseIn.offset.lockOwner);
  if (share.locks.count > 0) share.locks.dropHandle(share.handles.inode[row]!, row);
  // Closing it does not release a flock lock if the descriptor lingers.
  const { handles } = share;
  if ((handles.flags[row]! & HandleFlag.LOCKED) !== 0) lockFile(handles.fd[row]!, LOCK_UN);
  return closeHandle(share, row);
}

/** A process closed a descriptor of this file: its fcntl locks go, and errors of writing back show. */
export function flush(share: Share, request: FuseRequest): number {
  const row = share.handles.find(request.u64(FlushIn.offset.fh));
  if (row < 0) return -Errno.EBADF;
  dropLocks(share, row, request, FlushIn.offset.lockOwner);
  const { inodes } = share;
  if (!inodes.mounts.flushMatters(inodes.table.mount(share.handles.inode[row]!))) return 0;
  const copy = duplicateFd(share.handles.fd[row]!);
  if (copy < 0) return copy;
  closeFile(copy);
  return 0;
}

function dropLocks(share: Share, row: number, request: FuseRequest, offset: number): void {
  if (share.locks.count === 0) return;
  share.locks.drop(share.handles.inode[row]!, {
    ownerLo: request.u32(offset),
    ownerHi: request.u32(offset + 4),
  });
}

/** Of FSYNC and FSYNCDIR. */
export function fsync(share: Share, request: FuseRequest): number {
  const row = share.handles.find(request.u64(FsyncIn.offset.fh));
  if (row < 0) return -Errno.EBADF;
  const { cold, handles, inodes } = share;
  const fd = handles.fd[row]!;
  const isDataOnly = (request.u32(FsyncIn.offset.fsyncFlags) & 1) !== 0;
  if (cold === undefined) return syncFile(fd, isDataOnly);
  return cold.sync(request, fd, inodes.table.mount(handles.inode[row]!), isDataOnly);
}
