/** The process's limit of open files. */
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';

const getrlimit = bind('getrlimit', 'int', ['int', 'uintptr_t']);
const setrlimit = bind('setrlimit', 'int', ['int', 'uintptr_t']);

const RLIMIT_NOFILE = 7;
const EPERM = 1;

/** `struct rlimit`: soft limit, hard limit, 64 bits each. */
const limits = NativeMemory.allocate(16);

/** @returns how many descriptors this process may have open (its soft limit), at most 2^31; or −errno */
export function openFilesLimit(): number {
  const result = getrlimit(RLIMIT_NOFILE, limits.address);
  if (result < 0) return -errno();
  return Math.min(Number(limits.view.getBigUint64(0, true)), 2 ** 31);
}

/**
 * Sets the soft limit of open files, and the hard one if it is lower. Without the privilege to raise the hard limit the
 * soft one goes as far as that.
 *
 * @returns the soft limit now in force, or −errno: EPERM if it is above fs.nr_open
 */
export function setOpenFilesLimit(wanted: number): number {
  const result = getrlimit(RLIMIT_NOFILE, limits.address);
  if (result < 0) return -errno();
  const hard = Number(limits.view.getBigUint64(8, true));
  const refused = store(wanted, Math.max(wanted, hard));
  if (refused === 0) return wanted;
  if (refused !== -EPERM) return refused;
  const soft = Math.min(wanted, hard);
  const second = store(soft, hard);
  return second < 0 ? second : soft;
}

function store(soft: number, hard: number): number {
  limits.view.setBigUint64(0, BigInt(soft), true);
  limits.view.setBigUint64(8, BigInt(hard), true);
  const result = setrlimit(RLIMIT_NOFILE, limits.address);
  return result < 0 ? -errno() : 0;
}
