/**
 * Reads the extensions behind a creating request: the caller's supplementary group and the security context.
 */
import { Errno } from '../../protocol/errno.ts';
import { FuseExtType } from '../../protocol/fuse-flags.ts';
import { ExtHeader, Secctx, SuppGroups } from '../../protocol/fuse-extensions.ts';
import type { FuseRequest } from './request.ts';

/** Forgets what the request before had. */
export function clearExtensions(request: FuseRequest): void {
  request.groupCount = 0;
  request.secctxNameLength = 0;
  request.secctxSize = 0;
}

/**
 * Extensions of a type that was not negotiated are passed over.
 *
 * @param at byte of the request's scratch where they start; it need not be aligned
 * @param end where the request ends
 * @returns 0 or −errno
 */
export function readExtensions(request: FuseRequest, at: number, end: number): number {
  const { view, address } = request.input;
  while (at < end) {
    if (end - at < ExtHeader.size) return -Errno.EINVAL;
    const size = view.getUint32(at + ExtHeader.offset.size, true);
    const type = view.getUint32(at + ExtHeader.offset.type, true);
    if (size < ExtHeader.size || size > end - at) return -Errno.EINVAL;
    if (type <= FuseExtType.MAX_NR_SECCTX) {
      if (type > 0 && !readSecurityContext(request, at + ExtHeader.size, at + size)) return -Errno.EINVAL;
    } else if (type === FuseExtType.GROUPS) {
      const groups = at + ExtHeader.size + SuppGroups.size;
      const room = (at + size - groups) / 4;
      if (room < 0) return -Errno.EINVAL;
      const count = view.getUint32(groups - SuppGroups.size, true);
      if (count > room) return -Errno.EINVAL;
      request.groupsAddress = address + groups;
      request.groupCount = count;
    }
    at += size;
  }
  return 0;
}

/** The first of the contexts: kernels send at most one. */
function readSecurityContext(request: FuseRequest, at: number, end: number): boolean {
  const { view, u8, address } = request.input;
  if (end - at < Secctx.size) return false;
  const size = view.getUint32(at + Secctx.offset.size, true);
  const name = at + Secctx.size;
  let nameEnd = name;
  while (nameEnd < end && u8[nameEnd] !== 0) nameEnd += 1;
  if (nameEnd === name || nameEnd >= end || size > end - (nameEnd + 1)) return false;
  request.secctxNameAddress = address + name;
  request.secctxNameLength = nameEnd - name;
  request.secctxAddress = address + nameEnd + 1;
  request.secctxSize = size;
  return true;
}
