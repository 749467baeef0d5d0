/**
 * Acting as the guest's user on this thread, for as long as one system call takes.
 *
 * Only what creates files does: owner and group of the new file are then right, and so is all the kernel derives from
 * them. Everything else runs as the daemon, since the guest's kernel has checked permissions already. A daemon that is
 * not root cannot change identity, and works as itself.
 *
 * Precondition: all methods are called on the thread that made the object.
 */
import { Errno, errnoName } from '../../protocol/errno.ts';
import {
  CAP_DAC_OVERRIDE,
  CAP_FSETID,
  CAP_SETGID,
  CAP_SETUID,
  changeUmask,
  dropCapability,
  hasCapability,
  raiseCapabilities,
  setEffectiveGroup,
  setEffectiveUser,
  setSupplementaryGroup,
  unshareFs,
} from '../host/credentials.ts';
import type { FuseRequest } from '../fuse/request.ts';

/** Any group but root's: one of them surely is not the group of a given file. */
const FOREIGN_GROUPS = [65_534, 65_533] as const;

/** FUSE_INVALID_UIDGID. */
const NOBODY = 0xffff_ffff;

export class Identity {
  /** Whether new files can be given to the guest's users. */
  readonly canAct: boolean;
  readonly #canDropFsetid: boolean;
  #userChanged = false;
  #groupChanged = false;
  #hasSupplementary = false;
  #umaskChanged = false;

  /** Gives the calling thread a umask of its own, 0, so that the guest's modes hold; as root, no groups either. */
  constructor() {
    unshareFs(); // without it the umask is the process's, which is ours too
    changeUmask(0);
    this.canAct =
      process.geteuid?.() === 0 &&
      hasCapability(CAP_SETUID) &&
      hasCapability(CAP_SETGID) &&
      setSupplementaryGroup(undefined) === 0;
    this.#canDropFsetid = hasCapability(CAP_FSETID);
  }

  /**
   * Becomes the user a request comes from. `restore` must follow, before anything but the one call.
   *
   * @param umask of the guest's process, when it is ours to apply
   * @returns 0 or −errno; then nothing has changed
   */
  become(request: FuseRequest, umask: number): number {
    if (umask !== 0) {
      changeUmask(umask & 0o777);
      this.#umaskChanged = true;
    }
    if (!this.canAct) return 0;
    const result = this.#change(request);
    if (result < 0) this.restore();
    return result;
  }

  #change(request: FuseRequest): number {
    // To setresuid(2) it means no change: the file would be the daemon's.
    if (request.uid === NOBODY || request.gid === NOBODY) return -Errno.EINVAL;
    if (request.groupCount > 0) {
      const group = request.input.view.getUint32(request.groupsAddress - request.input.address, true);
      const result = setSupplementaryGroup(group);
      if (result < 0) return result;
      this.#hasSupplementary = true;
    }
    if (request.gid !== 0) {
      const result = setEffectiveGroup(request.gid);
      if (result < 0) return result;
      this.#groupChanged = true;
    }
    if (request.uid !== 0) {
      const result = setEffectiveUser(request.uid);
      if (result < 0) return result;
      this.#userChanged = true;
    }
    return 0;
  }

  /**
   * After EACCES as the guest's user: whether trying once more may help. The guest's kernel has granted the access by
   * groups or an ACL that did not come along with the request, so permission bits are overridden from here to `restore`.
   */
  overrideAfter(result: number): boolean {
    return result === -Errno.EACCES && this.#userChanged && raiseCapabilities(1 << CAP_DAC_OVERRIDE) > 0;
  }

  /** Becomes the daemon again. Harmless when nothing was changed. */
  restore(): void {
    // The user first: only root may change the group back. Becoming root again also gives the capabilities back.
    if (this.#userChanged) mustWork(setEffectiveUser(0));
    if (this.#groupChanged) mustWork(setEffectiveGroup(0));
    if (this.#hasSupplementary) mustWork(setSupplementaryGroup(undefined));
    if (this.#umaskChanged) changeUmask(0);
    this.#userChanged = false;
    this.#groupChanged = false;
    this.#hasSupplementary = false;
    this.#umaskChanged = false;
  }

  /** Lets the kernel clear setuid and setgid bits as it would for a user without CAP_FSETID. @returns whether to undo it */
  dropFsetid(): boolean {
    return this.#canDropFsetid && dropCapability(CAP_FSETID) > 0;
  }

  /** @param dropped what `dropFsetid` returned */
  restoreFsetid(dropped: boolean): void {
    if (dropped) mustWork(raiseCapabilities(1 << CAP_FSETID));
  }

  /** Leaves the group a file has, for a call that would otherwise keep its setgid bit. `restore` must follow. */
  leaveGroup(gid: number): void {
    if (!this.canAct) return;
    const foreign = gid === FOREIGN_GROUPS[0] ? FOREIGN_GROUPS[1] : FOREIGN_GROUPS[0];
    this.joinGroup(foreign);
  }

  /** Enters a file's group, for a call that would otherwise clear its setgid bit. `restore` must follow. */
  joinGroup(gid: number): void {
    if (this.canAct && setEffectiveGroup(gid) === 0) this.#groupChanged = true;
  }
}

/** Going on under a guest's identity would be worse than ending. */
function mustWork(result: number): void {
  if (result < 0) throw new Error(`cannot restore the daemon's identity: ${errnoName(-result)}`);
}
