/**
 * FORGET and BATCH_FORGET: the guest drops references. Nothing is ever answered.
 */
import { BatchForgetIn, ForgetOne } from '../../protocol/fuse-requests.ts';
import { InHeader } from '../../protocol/fuse.ts';
import type { Chain } from '../virtio/chain.ts';
import type { FileSystem } from './file-system.ts';
import type { GuestBytes } from './guest-bytes.ts';
import { type FuseRequest, MAX_REQUEST_COPY } from './request.ts';

const FIRST = InHeader.size + BatchForgetIn.size;
/** Records copied in at once. */
const AT_ONCE = Math.floor((MAX_REQUEST_COPY - 256) / ForgetOne.size);
/** Records served: a guest must not hold the thread with one request. Linux puts fewer than 300 into one. */
const MAX_FORGETS = 64 * 1024;

/**
 * Serves a BATCH_FORGET whose header was copied in. A count that is larger than what follows is taken for what follows.
 *
 * @returns false if not even the count is there
 */
export function forgetMany(
  bytes: GuestBytes,
  chain: Chain,
  request: FuseRequest,
  fileSystem: FileSystem,
): boolean {
  const present = Math.floor((request.length - FIRST) / ForgetOne.size);
  if (present < 0) return false;
  bytes.readChain(chain, InHeader.size, BatchForgetIn.size, request.input, InHeader.size);
  const count = Math.min(request.u32(BatchForgetIn.offset.count), present, MAX_FORGETS);
  for (let done = 0; done < count; done += AT_ONCE) {
    const now = Math.min(AT_ONCE, count - done);
    bytes.readChain(chain, FIRST + done * ForgetOne.size, now * ForgetOne.size, request.input, InHeader.size);
    for (let i = 0; i < now; i += 1) {
      const at = i * ForgetOne.size;
      fileSystem.forget?.(request.u64(at), request.u64(at + ForgetOne.offset.nlookup));
    }
  }
  return true;
}
