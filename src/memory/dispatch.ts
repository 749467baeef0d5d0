/**
 * One access to a device: refused if `valid` does not take it, otherwise made of as many calls as `impl` needs.
 *
 *     valid 1…8, impl 2…4      a guest's 8-byte read → two reads of 4 bytes;  its 1-byte read → one of 2 bytes, cut
 *
 * Sizes are powers of two, 1 … 8. Values are in the byte order of the device.
 */
import { ioeventfdMatches } from './ioeventfd.ts';
import type { MemoryRegion } from './region.ts';
import { MemTxResult, type MemTxAttrs, type RegionOps } from './region-ops.ts';

/** Devices in the middle of an access: one that reaches itself again (by DMA) is refused. */
const engaged = new WeakSet<object>();

export interface ReadOutcome {
  readonly value: bigint;
  readonly result: MemTxResult;
}

/** Reads `size` bytes at `offset` of a region that has ops. What is refused reads as 0. */
export function dispatchRead(
  region: MemoryRegion,
  offset: bigint,
  size: number,
  attrs: MemTxAttrs,
): ReadOutcome {
  const { ops } = region;
  const read = ops?.read?.bind(ops);
  if (ops === undefined || read === undefined || !isValid(ops, { offset, size, isWrite: false, attrs })) {
    return { value: 0n, result: MemTxResult.DECODE_ERROR };
  }
  let value = 0n;
  const result = split(region, ops, size, (at, piece, shift) => {
    const answer = read(offset + BigInt(at), piece, attrs);
    if (typeof answer !== 'bigint') return answer.result;
    const masked = BigInt.asUintN(piece * 8, answer);
    value |= shift >= 0 ? masked << BigInt(shift) : masked >> BigInt(-shift);
    return MemTxResult.OK;
  });
  return { value: BigInt.asUintN(size * 8, value), result };
}

/** Writes `value`; a doorbell that matches is signalled instead. */
export function dispatchWrite(
  region: MemoryRegion,
  offset: bigint,
  value: bigint,
  size: number,
  attrs: MemTxAttrs,
): MemTxResult {
  const { ops } = region;
  const write = ops?.write?.bind(ops);
  if (ops === undefined || !isValid(ops, { offset, size, isWrite: true, attrs }))
    return MemTxResult.DECODE_ERROR;
  const doorbell = region.ioeventfds.find((fd) => ioeventfdMatches(fd, offset, size, value));
  if (doorbell !== undefined) {
    doorbell.notifier.signal?.();
    return MemTxResult.OK;
  }
  if (write === undefined) return MemTxResult.DECODE_ERROR;
  return split(region, ops, size, (at, piece, shift) => {
    const part = shift >= 0 ? value >> BigInt(shift) : value << BigInt(-shift);
    return write(offset + BigInt(at), BigInt.asUintN(piece * 8, part), piece, attrs) ?? MemTxResult.OK;
  });
}

/** The largest access to make at `offset` when `size` bytes are left: what `valid` takes and the alignment allows. */
export function accessSize(region: MemoryRegion, offset: bigint, size: bigint): number {
  let largest = region.ops?.valid?.max ?? 4;
  if (region.ops?.impl?.unaligned !== true) {
    const alignment = Number(offset & 7n);
    const allowed = alignment & -alignment;
    if (allowed !== 0 && allowed < largest) largest = allowed;
  }
  let piece = largest;
  while (BigInt(piece) > size) piece >>= 1;
  return piece;
}

interface Access {
  readonly offset: bigint;
  readonly size: number;
  readonly isWrite: boolean;
  readonly attrs: MemTxAttrs;
}

/** Whether a device takes this access at all. */
export function isValid({ valid }: RegionOps, { offset, size, isWrite, attrs }: Access): boolean {
  if (valid?.accepts?.(offset, size, isWrite, attrs) === false) return false;
  if (valid?.unaligned !== true && (offset & BigInt(size - 1)) !== 0n) return false;
  if (valid?.max === undefined) return true;
  return size <= valid.max && size >= (valid.min ?? 1);
}

/** Makes the calls an access needs: at which byte, how large, and where that part lies in the value, in bits. */
function split(
  region: MemoryRegion,
  { impl, endianness }: RegionOps,
  size: number,
  call: (at: number, piece: number, shift: number) => MemTxResult,
): MemTxResult {
  const device = region.owner ?? region;
  if (engaged.has(device)) return MemTxResult.ACCESS_ERROR;
  const piece = Math.max(Math.min(size, impl?.max ?? 4), impl?.min ?? 1);
  let result: MemTxResult = MemTxResult.OK;
  engaged.add(device);
  try {
    for (let at = 0; at < size; at += piece) {
      result |= call(at, piece, (endianness === 'big' ? size - piece - at : at) * 8);
    }
  } finally {
    engaged.delete(device);
  }
  return result;
}
