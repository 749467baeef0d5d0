/**
 * Checks the names of a request where they lie in scratch. A name that passes cannot leave its directory.
 */
import { Errno } from '../../protocol/errno.ts';
import type { NameKind } from './operations.ts';
import type { FuseRequest } from './request.ts';

/** Longest name of a directory entry, NAME_MAX, and of an extended attribute, XATTR_NAME_MAX. */
const NAME_MAX = 255;
/** Longest target of a symlink: PATH_MAX less its NUL. */
const TARGET_MAX = 4095;
const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * Finds and checks one name.
 *
 * @param at byte of the request's scratch where the name starts
 * @param end where the copied octets end; the NUL must come before
 * @returns the byte after its NUL, or −errno
 */
export function takeName(
  request: FuseRequest,
  index: number,
  kind: NameKind,
  at: number,
  end: number,
): number {
  const octets = request.input.u8;
  let length = 0;
  let slashes = 0;
  for (; at + length < end; length += 1) {
    const octet = octets[at + length]!;
    if (octet === 0) break;
    if (octet === SLASH) slashes += 1;
  }
  if (at + length >= end) return -Errno.EINVAL;
  if (kind === 'entry') {
    if (length === 0 || slashes !== 0 || isDots(octets, at, length)) return -Errno.EINVAL;
    if (length > NAME_MAX) return -Errno.ENAMETOOLONG;
  } else if (kind === 'xattr') {
    if (length === 0 || length > NAME_MAX) return -Errno.ERANGE;
  } else if (kind === 'target') {
    if (length === 0) return -Errno.ENOENT;
    if (length > TARGET_MAX) return -Errno.ENAMETOOLONG;
  }
  request.nameAddress[index] = request.input.address + at;
  request.nameLength[index] = length;
  return at + length + 1;
}

/** "." and "..": they would be a way up, and no Linux guest sends them unless told EXPORT_SUPPORT. */
function isDots(octets: Uint8Array, at: number, length: number): boolean {
  return octets[at] === DOT && (length === 1 || (length === 2 && octets[at + 1] === DOT));
}
