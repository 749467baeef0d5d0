/** Operations on extended attributes. */
import { Errno } from '../../protocol/errno.ts';
import { FUSE_SETXATTR_ACL_KILL_SGID } from '../../protocol/fuse-flags.ts';
import { GetxattrIn, SetxattrIn } from '../../protocol/fuse-requests.ts';
import { FUSE_INVALID_UIDGID } from '../../protocol/fuse.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { StatxWord } from '../host/files-attributes.ts';
import { fdPath } from '../host/files-open.ts';
import {
  deleteXattr,
  listXattrs,
  readXattr,
  writeXattr,
  XATTR_LIST_MAX,
  XATTR_SIZE_MAX,
} from '../host/files-xattr.ts';
import { nameStart, type Share } from './share.ts';

const ACL_ACCESS = Buffer.from('system.posix_acl_access');
const ACL_DEFAULT = Buffer.from('system.posix_acl_default');
const TRUSTED = Buffer.from('trusted.');

export function setxattr(share: Share, request: FuseRequest): number {
  if (!share.options.xattr) return -Errno.ENOSYS;
  if (isHidden(share, request)) return -Errno.EOPNOTSUPP;
  const slot = share.inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const fd = share.inodes.opener.fdOf(slot);
  if (fd < 0) return fd;
  const killsSetgid =
    share.hasPosixAcl &&
    (request.u32(SetxattrIn.offset.setxattrFlags) & FUSE_SETXATTR_ACL_KILL_SGID) !== 0 &&
    isRequestName(request, ACL_ACCESS);
  if (killsSetgid) return setAclWithoutSetgid(share, request, slot, fd);
  return set(request, fd);
}

function set(request: FuseRequest, fd: number): number {
  return writeXattr(
    fdPath(fd),
    request.nameAddress[0]!,
    request.valueAddress,
    request.valueSize,
    request.u32(SetxattrIn.offset.flags),
  );
}

/** The kernel clears setgid for one who is neither in the file's group nor has CAP_FSETID: so that is who we become. */
function setAclWithoutSetgid(share: Share, request: FuseRequest, slot: number, fd: number): number {
  const { identity, inodes } = share;
  const read = inodes.readAttributes(slot);
  if (read < 0) return read;
  const dropped = identity.dropFsetid();
  identity.leaveGroup(inodes.stat.words[StatxWord.gid]!);
  const result = set(request, fd);
  identity.restore();
  identity.restoreFsetid(dropped);
  return result;
}

export function getxattr(share: Share, request: FuseRequest): number {
  if (!share.options.xattr) return -Errno.ENOSYS;
  if (isHidden(share, request)) return -Errno.EOPNOTSUPP;
  const slot = share.inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const fd = share.inodes.opener.fdOf(slot);
  if (fd < 0) return fd;
  const size = Math.min(request.u32(GetxattrIn.offset.size), XATTR_SIZE_MAX);
  const result = readXattr(fdPath(fd), request.nameAddress[0]!, request.reply.address, size);
  return result < 0 || size > 0 ? result : answerSize(request, result);
}

export function listxattr(share: Share, request: FuseRequest): number {
  if (!share.options.xattr) return -Errno.ENOSYS;
  const slot = share.inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const fd = share.inodes.opener.fdOf(slot);
  if (fd < 0) return fd;
  // All of it, whatever size is asked for: some names may have to go.
  const listed = listXattrs(fdPath(fd), request.reply.address, XATTR_LIST_MAX);
  if (listed < 0) return listed;
  // A guest with id-mapped mounts does not tell who asks.
  const isUser = request.uid !== 0 && request.uid !== FUSE_INVALID_UIDGID;
  const result =
    share.hasPosixAcl && !isUser
      ? listed
      : withoutHidden(request.reply.u8, listed, !share.hasPosixAcl, isUser);
  const size = request.u32(GetxattrIn.offset.size);
  if (size === 0) return answerSize(request, result);
  return result > size ? -Errno.ERANGE : result;
}

export function removexattr(share: Share, request: FuseRequest): number {
  if (!share.options.xattr) return -Errno.ENOSYS;
  if (isHidden(share, request)) return -Errno.EOPNOTSUPP;
  const slot = share.inodes.slotOf(request.nodeid);
  if (slot < 0) return slot;
  const fd = share.inodes.opener.fdOf(slot);
  return fd < 0 ? fd : deleteXattr(fdPath(fd), request.nameAddress[0]!);
}

function answerSize(request: FuseRequest, size: number): number {
  request.reply.u32[0] = size;
  request.reply.u32[1] = 0;
  return 8;
}

/** ACLs that the guest's kernel would not enforce are not shown to it either. */
function isHidden(share: Share, request: FuseRequest): boolean {
  return !share.hasPosixAcl && (isRequestName(request, ACL_ACCESS) || isRequestName(request, ACL_DEFAULT));
}

function isRequestName(request: FuseRequest, name: Buffer): boolean {
  return (
    request.nameLength[0] === name.length &&
    startsWith(request.input.u8, nameStart(request, 0), name, name.length)
  );
}

/**
 * Squeezes names out of a list of NUL-terminated names: ACLs, and those of `trusted.`, which are not for users to see.
 *
 * @returns the octets that are left
 */
function withoutHidden(list: Uint8Array, size: number, hidesAcls: boolean, hidesTrusted: boolean): number {
  let kept = 0;
  let at = 0;
  while (at < size) {
    let end = at;
    while (end < size && list[end] !== 0) end += 1;
    const length = end - at;
    const isAcl =
      (length === ACL_ACCESS.length && startsWith(list, at, ACL_ACCESS, length)) ||
      (length === ACL_DEFAULT.length && startsWith(list, at, ACL_DEFAULT, length));
    const isTrusted = length > TRUSTED.length && startsWith(list, at, TRUSTED, TRUSTED.length);
    if (!(isAcl && hidesAcls) && !(isTrusted && hidesTrusted)) {
      list.copyWithin(kept, at, end + 1);
      kept += length + 1;
    }
    at = end + 1;
  }
  return kept;
}

function startsWith(octets: Uint8Array, at: number, expected: Uint8Array, length: number): boolean {
  for (let i = 0; i < length; i += 1) if (octets[at + i] !== expected[i]) return false;
  return true;
}
