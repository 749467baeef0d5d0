/**
 * Identity of the calling thread alone: user, groups, umask, capabilities.
 *
 * The C library applies most of these to all threads of the process; the system calls used here do not. Everything
 * must be undone by the caller before the thread does anything else.
 */
import { bind, bindSyscall, errno, SYSCALL } from './libc.ts';
import { NativeMemory } from './native-memory.ts';

const setIds = bindSyscall(['int64_t', 'int64_t', 'int64_t']);
const setGroups = bindSyscall(['int64_t', 'uintptr_t']);
const capabilities = bindSyscall(['uintptr_t', 'uintptr_t']);
const unshare = bindSyscall(['int']);
const setUmask = bind('umask', 'uint32_t', ['uint32_t']);

/** Capability numbers. linux/capability.h. */
export const CAP_DAC_OVERRIDE = 1;
export const CAP_FSETID = 4;
export const CAP_SETGID = 6;
export const CAP_SETUID = 7;

const CLONE_FS = 0x200;
const CAPABILITY_VERSION_3 = 0x20080522;
/** Words of `struct __user_cap_data_struct[2]`, after the two of the header. */
const EFFECTIVE_LOW = 2;
const PERMITTED_LOW = 3;

const scratch = NativeMemory.allocate(4096);
const HEADER = scratch.address;
const CAPABILITY_DATA = scratch.address + 8;
const GROUPS_WORD = 64;
const GROUPS = scratch.address + GROUPS_WORD * 4;

/** Changes the effective user of this thread; the others of the three ids stay. @returns 0 or −errno */
export function setEffectiveUser(uid: number): number {
  const result = setIds(SYSCALL.setresuid, -1, uid, -1);
  return result < 0 ? -errno() : 0;
}

/** Changes the effective group of this thread. @returns 0 or −errno */
export function setEffectiveGroup(gid: number): number {
  const result = setIds(SYSCALL.setresgid, -1, gid, -1);
  return result < 0 ? -errno() : 0;
}

/** Gives this thread no supplementary group, or the one given. @returns 0 or −errno */
export function setSupplementaryGroup(gid: number | undefined): number {
  if (gid !== undefined) scratch.u32[GROUPS_WORD] = gid;
  const result = setGroups(SYSCALL.setgroups, gid === undefined ? 0 : 1, GROUPS);
  return result < 0 ? -errno() : 0;
}

/** Gives this thread a working directory and umask of its own. @returns 0 or −errno */
export function unshareFs(): number {
  const result = unshare(SYSCALL.unshare, CLONE_FS);
  return result < 0 ? -errno() : 0;
}

/** Sets the umask (of this thread, after `unshareFs`). @returns the one before */
export function changeUmask(mask: number): number {
  return setUmask(mask);
}

/** @returns whether this thread may use the capability now; only numbers below 32 */
export function hasCapability(capability: number): boolean {
  if (readCapabilities() < 0) return false;
  return (scratch.u32[EFFECTIVE_LOW]! & (1 << capability)) !== 0;
}

/** Takes a capability out of this thread's effective set. @returns 1 if it was there, 0 if not, or −errno */
export function dropCapability(capability: number): number {
  const result = readCapabilities();
  if (result < 0) return result;
  const bit = 1 << capability;
  if ((scratch.u32[EFFECTIVE_LOW]! & bit) === 0) return 0;
  scratch.u32[EFFECTIVE_LOW]! &= ~bit;
  const written = writeCapabilities();
  return written < 0 ? written : 1;
}

/**
 * Adds those of the capabilities (a mask of bits below 32) that this thread is permitted to its effective set.
 *
 * @returns how the effective set's low word changed: the added bits; or −errno
 */
export function raiseCapabilities(bits: number): number {
  const result = readCapabilities();
  if (result < 0) return result;
  const added = bits & scratch.u32[PERMITTED_LOW]! & ~scratch.u32[EFFECTIVE_LOW]!;
  if (added === 0) return 0;
  scratch.u32[EFFECTIVE_LOW]! |= added;
  const written = writeCapabilities();
  return written < 0 ? written : added;
}

function readCapabilities(): number {
  scratch.u32[0] = CAPABILITY_VERSION_3;
  scratch.u32[1] = 0; // this thread
  const result = capabilities(SYSCALL.capget, HEADER, CAPABILITY_DATA);
  return result < 0 ? -errno() : 0;
}

function writeCapabilities(): number {
  const result = capabilities(SYSCALL.capset, HEADER, CAPABILITY_DATA);
  return result < 0 ? -errno() : 0;
}
