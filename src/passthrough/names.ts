/** Operations on names: finding, removing, moving, linking. */
import { Errno } from '../../protocol/errno.ts';
import { EntryOut } from '../../protocol/fuse-attributes.ts';
import { FuseAttrFlag } from '../../protocol/fuse-flags.ts';
import { LinkIn, Rename2In } from '../../protocol/fuse-requests.ts';
import type { FuseRequest } from '../fuse/request.ts';
import {
  makeLink,
  removeName,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  renameName,
} from '../host/files-names.ts';
import { AT_REMOVEDIR, AT_SYMLINK_FOLLOW, closeFile, fdName } from '../host/files-open.ts';
import { S_IFDIR } from './stat-buffer.ts';
import { writeEntry } from './reply.ts';
import { nameStart, type Share } from './share.ts';

const RENAME_FLAGS = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;

export function lookup(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const parent = inodes.slotOf(request.nodeid);
  if (parent < 0) return parent;
  const dirfd = inodes.opener.fdOf(parent);
  if (dirfd < 0) return dirfd;
  return answerEntry(share, request, parent, dirfd);
}

/** Looks up the request's first name in a directory and answers with it. */
export function answerEntry(share: Share, request: FuseRequest, parent: number, dirfd: number): number {
  const slot = share.inodes.lookup(
    parent,
    dirfd,
    request.nameAddress[0]!,
    request.input.u8,
    nameStart(request, 0),
    request.nameLength[0]!,
  );
  return slot < 0 ? slot : answerInode(share, request, parent, slot);
}

/** Answers with an inode just looked up: its attributes are in `stat`. */
export function answerInode(share: Share, request: FuseRequest, parent: number, slot: number): number {
  writeEntry(
    request.reply.u32,
    0,
    slot,
    share.inodes.foundSerial,
    share.inodes.stat.words,
    share.cacheSeconds,
    attrFlags(share, parent, slot),
  );
  return EntryOut.size;
}

/** FuseAttrFlag of a directory entry: whether another file system is mounted there. */
export function attrFlags(share: Share, parent: number, slot: number): number {
  const { table } = share.inodes;
  return share.hasSubmounts && table.format(slot) === S_IFDIR && table.mount(slot) !== table.mount(parent)
    ? FuseAttrFlag.SUBMOUNT
    : 0;
}

export function unlink(share: Share, request: FuseRequest): number {
  return remove(share, request, 0);
}

export function rmdir(share: Share, request: FuseRequest): number {
  return remove(share, request, AT_REMOVEDIR);
}

function remove(share: Share, request: FuseRequest, flags: number): number {
  const { inodes } = share;
  const parent = inodes.slotOf(request.nodeid);
  if (parent < 0) return parent;
  const dirfd = inodes.opener.fdOf(parent);
  if (dirfd < 0) return dirfd;
  const name = request.nameAddress[0]!;
  const isFile = flags === 0;
  const removed = isFile ? inodes.beforeUnlink(dirfd, name) : inodes.beforeRemoval(dirfd, name);
  const result = removeName(dirfd, name, flags);
  if (result === 0) inodes.afterRemoval(removed, -1, 0);
  else if (removed >= 0) closeFile(removed);
  return result;
}

export function rename(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const flags = request.u32(Rename2In.offset.flags);
  if ((flags & ~RENAME_FLAGS) !== 0) return -Errno.EINVAL;
  const from = inodes.slotOf(request.nodeid);
  if (from < 0) return from;
  const to = inodes.slotOf(request.u64(Rename2In.offset.newdir));
  if (to < 0) return to;
  const fromFd = inodes.opener.fdOf(from);
  if (fromFd < 0) return fromFd;
  const toFd = inodes.opener.fdOf(to);
  return toFd < 0 ? toFd : move(share, request, from, fromFd, to, toFd);
}

function move(
  { inodes }: Share,
  request: FuseRequest,
  from: number,
  fromFd: number,
  to: number,
  toFd: number,
): number {
  const flags = request.u32(Rename2In.offset.flags);
  const oldName = request.nameAddress[0]!;
  const newName = request.nameAddress[1]!;
  const replaces = (flags & (RENAME_NOREPLACE | RENAME_EXCHANGE)) === 0;
  const replaced = replaces ? inodes.beforeRemoval(toFd, newName) : -1;
  const result = renameName(fromFd, oldName, toFd, newName, flags);
  if (result < 0) {
    if (replaced >= 0) closeFile(replaced);
    return result;
  }
  inodes.afterRemoval(replaced, toFd, newName);
  const octets = request.input.u8;
  inodes.nameMoved(to, toFd, newName, octets, nameStart(request, 1), request.nameLength[1]!);
  if ((flags & RENAME_EXCHANGE) !== 0)
    inodes.nameMoved(from, fromFd, oldName, octets, nameStart(request, 0), request.nameLength[0]!);
  return 0;
}

export function link(share: Share, request: FuseRequest): number {
  const { inodes } = share;
  const slot = inodes.slotOf(request.u64(LinkIn.offset.oldnodeid));
  if (slot < 0) return slot;
  const parent = inodes.slotOf(request.nodeid);
  if (parent < 0) return parent;
  const fd = inodes.opener.fdOf(slot);
  if (fd < 0) return fd;
  const dirfd = inodes.opener.fdOf(parent);
  let result = dirfd;
  if (dirfd >= 0) {
    result = makeLink(share.procSelfFd, fdName(fd), dirfd, request.nameAddress[0]!, AT_SYMLINK_FOLLOW);
    if (result === 0) {
      inodes.nameAdded(slot);
      result = answerEntry(share, request, parent, dirfd);
    }
  }
  return result;
}
