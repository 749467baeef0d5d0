/**
 * From a chain to a FuseRequest, in two steps: octets are copied out of guest memory once, then only the copy is read.
 * The second step runs again when a deferred request is retried.
 */
import { Errno } from '../../protocol/errno.ts';
import { InHeader } from '../../protocol/fuse.ts';
import type { Chain } from '../virtio/chain.ts';
import { clearExtensions, readExtensions } from './extensions.ts';
import type { GuestBytes } from './guest-bytes.ts';
import { takeName } from './names.ts';
import type { OperationRow } from './operations.ts';
import { type FuseRequest, MAX_REQUEST_COPY } from './request.ts';

const HEADER = InHeader.size;
const TWO_32 = 0x1_0000_0000;
/** XATTR_SIZE_MAX. */
const VALUE_MAX = 64 * 1024;
const WORD = {
  len: InHeader.offset.len / 4,
  opcode: InHeader.offset.opcode / 4,
  unique: InHeader.offset.unique / 4,
  nodeid: InHeader.offset.nodeid / 4,
  uid: InHeader.offset.uid / 4,
  gid: InHeader.offset.gid / 4,
  pid: InHeader.offset.pid / 4,
  totalExtlen: InHeader.offset.totalExtlen / 4,
} as const;

/** Copied together with the header: the arguments of READ and WRITE, or most names. A multiple of 4. */
const AT_ONCE = HEADER + 40;

/** Copies the header in, and some of what follows. The chain has at least its 40 readable bytes. */
export function copyHeader(bytes: GuestBytes, chain: Chain, request: FuseRequest): void {
  const size = Math.min(chain.readableBytes, AT_ONCE);
  request.chain = chain;
  request.copied = size;
  bytes.readChain(chain, 0, size, request.input, 0);
  readHeader(request);
}

/** Reads the fields of the copied header. */
export function readHeader(request: FuseRequest): void {
  const words = request.input.u32;
  request.length = words[WORD.len]!;
  request.opcode = words[WORD.opcode]!;
  request.uniqueLo = words[WORD.unique]!;
  request.uniqueHi = words[WORD.unique + 1]!;
  request.nodeid = words[WORD.nodeid]! + words[WORD.nodeid + 1]! * TWO_32;
  request.uid = words[WORD.uid]!;
  request.gid = words[WORD.gid]!;
  request.pid = words[WORD.pid]!;
}

/**
 * Copies in what follows the header: all of it, but for octets of WRITE and for surplus behind fixed arguments.
 *
 * @param wireSize bytes of the arguments as this guest sends them: less than `row.argSize` for an older form
 * @returns where the copied octets end in scratch, or −errno
 */
export function copyBody(
  bytes: GuestBytes,
  request: FuseRequest,
  row: OperationRow,
  wireSize: number,
): number {
  const chain = request.chain;
  const rest = request.length - HEADER - wireSize;
  if (rest < 0 || chain === undefined) return -Errno.EINVAL;
  const { input } = request;
  request.dataStart = HEADER + wireSize;
  const wanted = row.names.length === 0 && row.trailer !== 'value' ? 0 : rest;
  if (HEADER + row.argSize + wanted > MAX_REQUEST_COPY - 4) return -Errno.E2BIG;
  if (wireSize === row.argSize) {
    const { copied } = request;
    const missing = HEADER + wireSize + wanted - copied;
    if (missing > 0) bytes.readChain(chain, copied, missing, input, copied);
  } else {
    // An older guest. What was copied there is not looked at: it is copied again, to where it belongs.
    bytes.readChain(chain, HEADER, wireSize, input, HEADER);
    input.u32.fill(0, (HEADER + wireSize) / 4, (HEADER + row.argSize) / 4);
    bytes.readChain(chain, HEADER + wireSize, wanted, input, HEADER + row.argSize);
  }
  return HEADER + row.argSize + wanted;
}

/**
 * Finds names, value and extensions in the copied octets.
 *
 * @param end where they end in scratch
 * @returns 0 or −errno
 */
export function readBody(request: FuseRequest, row: OperationRow, end: number): number {
  let at = HEADER + row.argSize;
  const { names, trailer } = row;
  for (let i = 0; i < names.length; i += 1) {
    at = takeName(request, i, names[i]!, at, end);
    if (at < 0) return at;
  }
  if (trailer === 'extensions') {
    clearExtensions(request);
    const announced = (request.input.u32[WORD.totalExtlen]! & 0xffff) * 8; // 0 before 7.38
    if (announced !== 0 && announced !== end - at) return -Errno.EINVAL;
    return readExtensions(request, at, end);
  }
  if (trailer === 'value') {
    const size = request.u32(row.valueSizeAt);
    if (size > VALUE_MAX) return -Errno.E2BIG;
    if (size > end - at) return -Errno.EINVAL;
    request.valueAddress = request.input.address + at;
    request.valueSize = size;
    return 0;
  }
  if (trailer === 'data')
    return request.u32(row.valueSizeAt) > request.length - request.dataStart ? -Errno.EINVAL : 0;
  // One name too many, or octets behind a NUL: not what the guest's file system meant.
  return names.length !== 0 && at !== end ? -Errno.EINVAL : 0;
}
