/** Lock operations: GETLK, SETLK and SETLKW, of ranges (fcntl) and of whole files (flock). */
import { Errno } from '../../protocol/errno.ts';
import { FUSE_LK_FLOCK } from '../../protocol/fuse-flags.ts';
import { LkIn, LkOut } from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { DEFERRED } from '../fuse/file-system.ts';
import type { FuseRequest } from '../fuse/request.ts';
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  FLOCK_LENGTH,
  FLOCK_SIZE,
  FLOCK_START,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  lockFile,
} from '../host/files-lock.ts';
import { HandleFlag } from './handle-table.ts';
import type { LockRange } from './lock-rows.ts';
import type { Share } from './share.ts';

/** `lk.end` of a lock that goes to the end of the file, however far that is. */
const OFFSET_MAX = 2n ** 63n - 1n;
const OWNER = LkIn.offset.owner;
const START = LkIn.offset.lk;
const END = LkIn.offset.lk + 8;
const TYPE = LkIn.offset.lk + 16;
const PID = LkIn.offset.lk + 20;

export function getlk(share: Share, request: FuseRequest): number {
  const row = rowOf(share, request);
  if (row < 0) return row;
  const type = request.u32(TYPE);
  const wanted = rangeOf(request);
  if (wanted === undefined || type > F_WRLCK) return -Errno.EINVAL;
  const lock = writeFlock(share, wanted, type);
  const pid = share.locks.find(share.handles.inode[row]!, wanted, lock);
  return pid < 0 ? pid : answerLock(share, request, pid);
}

/** Of SETLK and SETLKW; `request.opcode` says whether to wait. */
export function setlk(share: Share, request: FuseRequest): number {
  const row = rowOf(share, request);
  if (row < 0) {
    cancel(share, request); // it may have waited when the file was still open
    return row;
  }
  if ((request.u32(LkIn.offset.lkFlags) & FUSE_LK_FLOCK) !== 0) return flock(share, request, row);
  const type = request.u32(TYPE);
  const wanted = rangeOf(request);
  if (wanted === undefined || type > F_UNLCK) return -Errno.EINVAL;
  const slot = share.handles.inode[row]!;
  const lock = writeFlock(share, wanted, type);
  if (type === F_UNLCK) return share.locks.clear(slot, wanted, wanted.start, wanted.end, lock);
  const result = share.locks.set(slot, wanted, row, lock);
  if (request.opcode !== FuseOpcode.SETLKW) return result;
  if (result !== -Errno.EAGAIN) {
    share.locks.stopWaiting(wanted);
    return result;
  }
  return share.locks.mayWait(slot, wanted) ? DEFERRED : -Errno.EDEADLK;
}

/** The guest does not wait any more: others that wait for this owner must not be told of a circle that is none. */
export function cancel(share: Share, request: FuseRequest): void {
  share.locks.stopWaiting({ ownerLo: request.u32(OWNER), ownerHi: request.u32(OWNER + 4) });
}

/** A flock lock is the open file's own. */
function flock(share: Share, request: FuseRequest, row: number): number {
  const type = request.u32(TYPE);
  if (type > F_UNLCK) return -Errno.EINVAL;
  const operation = type === F_UNLCK ? LOCK_UN : type === F_RDLCK ? LOCK_SH : LOCK_EX;
  Atomics.or(share.handles.flags, row, HandleFlag.LOCKED);
  const result = lockFile(share.handles.fd[row]!, operation | LOCK_NB);
  return result === -Errno.EAGAIN && request.opcode === FuseOpcode.SETLKW ? DEFERRED : result;
}

function rowOf(share: Share, request: FuseRequest): number {
  const row = share.handles.find(request.u64(LkIn.offset.fh));
  if (row < 0) return -Errno.EBADF;
  const isDirectory = (share.handles.flags[row]! & HandleFlag.DIRECTORY) !== 0;
  const isFlock = (request.u32(LkIn.offset.lkFlags) & FUSE_LK_FLOCK) !== 0;
  return isDirectory && !isFlock ? -Errno.EBADF : row;
}

/** The range a request is about; undefined when it is none. */
function rangeOf(request: FuseRequest): LockRange | undefined {
  const start = word64(request, START);
  const end = word64(request, END);
  if (start > end || end > OFFSET_MAX) return undefined;
  return {
    ownerLo: request.u32(OWNER),
    ownerHi: request.u32(OWNER + 4),
    pid: request.u32(PID),
    isWrite: request.u32(TYPE) === F_WRLCK,
    start,
    end,
  };
}

const word64 = (request: FuseRequest, offset: number): bigint =>
  (BigInt(request.u32(offset + 4)) << 32n) | BigInt(request.u32(offset));

/** @returns address of a `struct flock` that says the same */
function writeFlock(share: Share, { start, end }: LockRange, type: number): number {
  const { view } = share.scratch;
  share.scratch.u8.fill(0, 0, FLOCK_SIZE);
  view.setInt16(0, type, true); // l_whence after it: SEEK_SET, 0
  view.setBigInt64(FLOCK_START, start, true);
  view.setBigInt64(FLOCK_LENGTH, end === OFFSET_MAX ? 0n : end - start + 1n, true);
  return share.scratch.address;
}

function answerLock(share: Share, request: FuseRequest, pid: number): number {
  const { view } = share.scratch;
  const reply = request.reply.view;
  const type = view.getInt16(0, true);
  const start = view.getBigInt64(FLOCK_START, true);
  const length = view.getBigInt64(FLOCK_LENGTH, true);
  reply.setBigUint64(0, BigInt.asUintN(64, start), true);
  reply.setBigUint64(8, length === 0n ? OFFSET_MAX : start + length - 1n, true);
  reply.setUint32(16, type, true);
  reply.setUint32(20, type === F_UNLCK ? 0 : pid, true);
  return LkOut.size;
}
