/** Operations that create: they run as the guest's user, with its umask when that is left to us. */
import { Errno } from '../../protocol/errno.ts';
import { EntryOut } from '../../protocol/fuse-attributes.ts';
import { FUSE_OPEN_KILL_SUIDGID } from '../../protocol/fuse-flags.ts';
import { CreateIn, MkdirIn, MknodIn } from '../../protocol/fuse-requests.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { makeDirectory, makeNode, makeSymlink } from '../host/files-names.ts';
import {
  closeFile,
  DOT_PATH,
  O_CREAT,
  O_DIRECT,
  O_EXCL,
  O_NOFOLLOW,
  O_TMPFILE,
  openFile,
} from '../host/files-open.ts';
import { addHandle, answerOpen, hostFlags, openInode } from './files.ts';
import { HandleFlag } from './handle-table.ts';
import { answerEntry, answerInode } from './names.ts';
import { nameStart, type Share } from './share.ts';

/** Makes one thing of the request's first name in `dirfd`. ≥ 0 (a descriptor, for CREATE) or −errno. */
type Make = (share: Share, request: FuseRequest, dirfd: number) => number;

export function mkdir(share: Share, request: FuseRequest): number {
  return createName(share, request, request.u32(MkdirIn.offset.umask), makeDirectoryOf);
}

export function mknod(share: Share, request: FuseRequest): number {
  return createName(share, request, request.u32(MknodIn.offset.umask), makeNodeOf);
}

export function symlink(share: Share, request: FuseRequest): number {
  return createName(share, request, 0, makeSymlinkOf);
}

const makeDirectoryOf: Make = (_share, request, dirfd) =>
  makeDirectory(dirfd, request.nameAddress[0]!, request.u32(MkdirIn.offset.mode) & 0o7777);

// The guest packs a device number as the kernel does, which for 32 bits is also what mknod(2) takes.
const makeNodeOf: Make = (_share, request, dirfd) =>
  makeNode(
    dirfd,
    request.nameAddress[0]!,
    request.u32(MknodIn.offset.mode) & 0o177777,
    request.u32(MknodIn.offset.rdev),
  );

const makeSymlinkOf: Make = (_share, request, dirfd) =>
  makeSymlink(request.nameAddress[1]!, dirfd, request.nameAddress[0]!);

const createFileOf: Make = (share, request, dirfd) =>
  openFile(
    dirfd,
    request.nameAddress[0]!,
    // O_EXCL always: what is there already must be opened as the daemon does, not as the user.
    createFlags(share, request) | O_CREAT | O_EXCL | O_NOFOLLOW,
    request.u32(CreateIn.offset.mode) & 0o7777,
  );

const createUnnamed: Make = (share, request, dirfd) =>
  openFile(
    dirfd,
    DOT_PATH,
    (createFlags(share, request) & ~O_CREAT) | O_TMPFILE | (request.u32(CreateIn.offset.flags) & O_EXCL),
    request.u32(CreateIn.offset.mode) & 0o7777,
  );

function createFlags(share: Share, request: FuseRequest): number {
  return hostFlags(share, request.u32(CreateIn.offset.flags));
}

/** Runs `make` as the guest's user. */
function asUser(share: Share, request: FuseRequest, umask: number, dirfd: number, make: Make): number {
  const { identity } = share;
  let result = identity.become(request, share.hasPosixAcl ? umask : 0);
  if (result < 0) return result;
  result = make(share, request, dirfd);
  if (identity.overrideAfter(result)) result = make(share, request, dirfd);
  identity.restore();
  return result;
}

function createName(share: Share, request: FuseRequest, umask: number, make: Make): number {
  const { inodes } = share;
  const parent = inodes.slotOf(request.nodeid);
  if (parent < 0) return parent;
  const dirfd = inodes.opener.fdOf(parent);
  if (dirfd < 0) return dirfd;
  let result = asUser(share, request, umask, dirfd, make);
  if (result === 0) result = answerEntry(share, request, parent, dirfd);
  return result;
}

export function create(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const parent = inodes.slotOf(request.nodeid);
  if (parent < 0) return parent;
  const dirfd = inodes.opener.fdOf(parent);
  if (dirfd < 0) return dirfd;
  let result = inodes.opener.makeRoom();
  if (result === 0) {
    result = asUser(share, request, request.u32(CreateIn.offset.umask), dirfd, createFileOf);
    if (result === -Errno.EEXIST && (request.u32(CreateIn.offset.flags) & O_EXCL) === 0)
      result = openExisting(share, request, parent, dirfd);
    else if (result >= 0) result = answerCreated(share, request, parent, result, request.nameLength[0]!);
  }
  return result;
}

/** Somebody else was faster: opens what is there. */
function openExisting(share: Share, request: FuseRequest, parent: number, dirfd: number): number {
  const { inodes } = share;
  const entry = answerEntry(share, request, parent, dirfd);
  if (entry < 0) return entry;
  const slot = inodes.slotOf(request.reply.u32[0]! + request.reply.u32[1]! * 0x1_0000_0000);
  const killsPrivilege = (request.u32(CreateIn.offset.openFlags) & FUSE_OPEN_KILL_SUIDGID) !== 0;
  if (slot < 0) return slot;
  const flags = request.u32(CreateIn.offset.flags);
  const row = openInode(share, slot, flags & ~O_CREAT, killsPrivilege);
  if (row < 0) {
    inodes.references.unlook(slot);
    return row;
  }
  // Attributes may have changed with O_TRUNC.
  if (inodes.stat.readFd(share.handles.fd[row]!) === 0) answerInode(share, request, parent, slot);
  return EntryOut.size + answerOpen(share, request, EntryOut.size / 4, row, flags);
}

/** Answers with the file `fd` was created as; takes the descriptor. */
function answerCreated(
  share: Share,
  request: FuseRequest,
  parent: number,
  fd: number,
  nameLength: number,
): number {
  const { inodes } = share;
  share.budget.take(); // before the inode is added, which may need room too
  const slot = inodes.lookupFd(fd, parent, request.input.u8, nameStart(request, 0), nameLength);
  share.budget.giveBack();
  if (slot < 0) {
    closeFile(fd);
    return slot;
  }
  const isDirect = (createFlags(share, request) & O_DIRECT) !== 0;
  const isFresh = inodes.fresh.is(slot) && inodes.table.fd(slot) === fd;
  const row = addHandle(
    share,
    fd,
    slot,
    (isDirect ? HandleFlag.DIRECT : 0) | (isFresh ? HandleFlag.BORROWED : 0),
  );
  if (row < 0) {
    inodes.references.unlook(slot);
    return row;
  }
  answerInode(share, request, parent, slot);
  const flags = request.u32(CreateIn.offset.flags);
  return EntryOut.size + answerOpen(share, request, EntryOut.size / 4, row, flags);
}

/** A file without name, in the directory's file system. */
export function tmpfile(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const parent = inodes.slotOf(request.nodeid);
  if (parent < 0) return parent;
  const dirfd = inodes.opener.fdOf(parent);
  if (dirfd < 0) return dirfd;
  let result = inodes.opener.makeRoom();
  if (result === 0) result = asUser(share, request, request.u32(CreateIn.offset.umask), dirfd, createUnnamed);
  if (result >= 0) result = answerUnnamed(share, request, parent, result);
  return result;
}

function answerUnnamed(share: Share, request: FuseRequest, parent: number, fd: number): number {
  const { inodes } = share;
  const result = answerCreated(share, request, parent, fd, 0);
  if (result < 0) return result;
  const slot = inodes.slotOf(request.reply.u32[0]! + request.reply.u32[1]! * 0x1_0000_0000);
  // Without a name only a descriptor keeps it.
  if (slot >= 0 && inodes.opener.fdOf(slot) >= 0) inodes.keepOpen(slot);
  return result;
}
