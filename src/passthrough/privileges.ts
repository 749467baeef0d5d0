/** Writing to a file takes its privileges away: setuid, and setgid where it is one. */
import { StatxWord } from '../host/files-attributes.ts';
import type { Share } from './share.ts';
import { S_ISGID, S_ISUID, S_IXGRP } from './stat-buffer.ts';

/**
 * Has the kernel clear setuid and setgid bits in the one call that follows, as for a user without CAP_FSETID; then
 * `keepPrivileges` must be called. Setgid without permission for the group to execute gives nobody anything; such a file
 * keeps it.
 *
 * @param fd the file about to be changed
 * @returns what `keepPrivileges` takes
 */
export function losePrivileges(share: Share, fd: number): boolean {
  const { identity, inodes } = share;
  if (inodes.stat.readFd(fd) < 0) return identity.dropFsetid();
  const mode = inodes.stat.words[StatxWord.mode]!;
  if ((mode & (S_ISUID | S_ISGID)) === 0) return false;
  const dropped = identity.dropFsetid();
  // The kernel asks whether who writes is in the group.
  if ((mode & S_ISGID) !== 0 && (mode & S_IXGRP) === 0) identity.joinGroup(inodes.stat.words[StatxWord.gid]!);
  return dropped;
}

export function keepPrivileges(share: Share, dropped: boolean): void {
  share.identity.restore();
  share.identity.restoreFsetid(dropped);
}
