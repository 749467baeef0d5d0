/** Names of groups, as the C library's name service knows them. */
import { bind, viewAt } from './libc.ts';

const getgrnam = bind('getgrnam', 'int64_t', ['str']);

/** Offset of `gr_gid` in `struct group` of 64-bit Linux: after the addresses of name and password. */
const GR_GID = 16;

/** @returns the numeric id of group `name`, or undefined if there is none */
export function groupId(name: string): number | undefined {
  const entry = getgrnam(name);
  if (entry === 0) return undefined;
  return new Uint32Array(viewAt(entry + GR_GID, 4))[0];
}
