/** What the operations of one share work with. */
import type { FuseRequest } from '../fuse/request.ts';
import type { NativeMemory } from '../host/native-memory.ts';
import type { ColdData } from './cold-data.ts';
import type { FdBudget } from './fd-budget.ts';
import type { HandleTable } from './handle-table.ts';
import type { Identity } from './identity.ts';
import type { InUse } from './in-use.ts';
import type { InodeStore } from './inode-store.ts';
import type { LockTable } from './lock-table.ts';
import type { PassthroughOptions } from './options.ts';
import type { TableMemory } from './table-memory.ts';

export interface Share {
  readonly options: PassthroughOptions;
  readonly memory: TableMemory;
  readonly inUse: InUse;
  readonly budget: FdBudget;
  readonly inodes: InodeStore;
  readonly handles: HandleTable;
  readonly identity: Identity;
  readonly locks: LockTable;
  /** A descriptor of /proc/self/fd: through it an O_PATH descriptor is opened for real. */
  readonly procSelfFd: number;
  /** Seconds the guest may cache names and attributes. */
  readonly cacheSeconds: number;
  /** Directory records as getdents64 gives them. */
  readonly records: NativeMemory;
  /** Where the kernel can fetch data while this thread goes on; undefined where it cannot. */
  readonly cold: ColdData | undefined;
  /** For structs passed to system calls. */
  readonly scratch: NativeMemory;
  /** What INIT agreed on. */
  readonly isWriteback: boolean;
  readonly hasPosixAcl: boolean;
  readonly hasSubmounts: boolean;
  readonly hasKillpriv: boolean;
}

const TWO_32 = 0x1_0000_0000;
/** High words below this make a number that is exact. */
const EXACT_HIGH = 0x20_0000;
const SIGN = 0x8000_0000;

/**
 * The 64-bit file offset or size at byte `offset` of the arguments: a number, or above 2^53 (as a file on tmpfs or XFS
 * may have) a bigint.
 *
 * @returns −1 for what is negative as an `off_t`
 */
export function offsetArgument(request: FuseRequest, offset: number): number | bigint {
  const lo = request.arg[offset >>> 2]!;
  const hi = request.arg[(offset >>> 2) + 1]!;
  if (hi < EXACT_HIGH) return hi * TWO_32 + lo;
  if (hi >= SIGN) return -1;
  return (BigInt(hi) << 32n) | BigInt(lo);
}

/** Where in the request's scratch a name starts. */
export function nameStart(request: FuseRequest, index: number): number {
  return request.nameAddress[index]! - request.input.address;
}
