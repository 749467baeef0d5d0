/**
 * Reading and writing an address space as a CPU or a bus master does: memory is copied, devices are called, holes answer 0 and an
 * error. Bytes of RAM are reached through `RamBlock.bytes` only.
 */
import type { AddressSpace } from './address-space.ts';
import { markDirty } from './dirty-log.ts';
import { accessSize, dispatchRead, dispatchWrite, isValid } from './dispatch.ts';
import type { FlatRange } from './flat-range.ts';
import { MemTxResult, type Endian, type MemTxAttrs } from './region-ops.ts';
import { translate, type Translation } from './translate.ts';

const PLAIN: MemTxAttrs = {};

/** Fills `into` from `address` on. Goes on after an error; the results are or-ed. */
export function readMemory(
  space: AddressSpace,
  address: bigint,
  into: Uint8Array,
  attrs: MemTxAttrs = PLAIN,
): MemTxResult {
  return forEachPiece(space, address, into.length, { isWrite: false, attrs }, (piece, from, to) =>
    readPiece(piece, into.subarray(from, to), attrs),
  );
}

/** Writes all of `from` at `address`. Goes on after an error; the results are or-ed. */
export function writeMemory(
  space: AddressSpace,
  address: bigint,
  from: Uint8Array,
  attrs: MemTxAttrs = PLAIN,
): MemTxResult {
  return forEachPiece(space, address, from.length, { isWrite: true, attrs }, (piece, start, end) =>
    writePiece(piece, from.subarray(start, end), attrs),
  );
}

/** Writes `value` to `size` bytes. */
export const fillMemory = (space: AddressSpace, address: bigint, size: number, value: number): MemTxResult =>
  writeMemory(space, address, new Uint8Array(size).fill(value));

/** Puts bytes into memory, ROM included, as a firmware loader does. Devices and holes are left alone. */
export function writeRom(space: AddressSpace, address: bigint, from: Uint8Array): void {
  forEachPiece(
    space,
    address,
    from.length,
    { isWrite: true, attrs: PLAIN },
    ({ range, offset }, start, end) => {
      if (range === undefined || range.region.block === undefined || range.region.kind === 'ram-device')
        return MemTxResult.OK;
      return writeBlock(range, offset, from.subarray(start, end));
    },
  );
}

/** Whether every byte could be accessed so, without doing it. */
export function isAccessible(
  space: AddressSpace,
  address: bigint,
  size: number,
  access: { readonly isWrite: boolean; readonly attrs: MemTxAttrs },
): boolean {
  const result = forEachPiece(space, address, size, access, ({ range, offset }, from, to) => {
    if (range === undefined) return MemTxResult.DECODE_ERROR;
    if (isDirect(range, access.isWrite)) return MemTxResult.OK;
    const { ops } = range.region;
    for (let at = from; at < to;) {
      const here = offset + BigInt(at - from);
      const piece = accessSize(range.region, here, BigInt(to - at));
      if (ops === undefined || !isValid(ops, { offset: here, size: piece, ...access }))
        return MemTxResult.DECODE_ERROR;
      at += piece;
    }
    return MemTxResult.OK;
  });
  return result === MemTxResult.OK;
}

export interface LoadOutcome {
  readonly value: bigint;
  readonly result: MemTxResult;
}

/** Loads 1, 2, 4 or 8 bytes as one access where one region answers them all. */
export function load(
  space: AddressSpace,
  address: bigint,
  size: 1 | 2 | 4 | 8,
  endian: Endian,
  attrs: MemTxAttrs = PLAIN,
): LoadOutcome {
  const piece = translate(space, address, BigInt(size), { isWrite: false, attrs });
  const { range } = piece;
  if (range !== undefined && piece.size === BigInt(size) && !isDirect(range, false)) {
    if (isForbidden(range, attrs)) return { value: 0n, result: MemTxResult.ACCESS_ERROR };
    flushCoalesced(range);
    const { value, result } = dispatchRead(range.region, piece.offset, size, attrs);
    return {
      value: (range.region.ops?.endianness === 'big') === (endian === 'big') ? value : swapped(value, size),
      result,
    };
  }
  const bytes = new Uint8Array(size);
  const result = readMemory(space, address, bytes, attrs);
  return { value: decode(bytes, endian), result };
}

/** Stores 1, 2, 4 or 8 bytes as one access where one region takes them all. */
export function store(
  space: AddressSpace,
  address: bigint,
  value: bigint,
  format: { readonly size: 1 | 2 | 4 | 8; readonly endian: Endian },
  attrs: MemTxAttrs = PLAIN,
): MemTxResult {
  const { size, endian } = format;
  const piece = translate(space, address, BigInt(size), { isWrite: true, attrs });
  const { range } = piece;
  const plain = BigInt.asUintN(size * 8, value);
  if (range !== undefined && piece.size === BigInt(size) && !isDirect(range, true)) {
    if (isForbidden(range, attrs)) return MemTxResult.ACCESS_ERROR;
    if (range.readonly) return MemTxResult.DECODE_ERROR;
    flushCoalesced(range);
    const isSameOrder = (range.region.ops?.endianness === 'big') === (endian === 'big');
    return dispatchWrite(range.region, piece.offset, isSameOrder ? plain : swapped(plain, size), size, attrs);
  }
  return writeMemory(space, address, encode(plain, size, endian), attrs);
}

/** Whether the bytes behind a range can be copied, without a call of a device. */
export function isDirect({ region, readonly }: FlatRange, isWrite: boolean): boolean {
  if (region.kind === 'rom-device') return !isWrite && region.romdMode;
  return (region.kind === 'ram' || region.kind === 'rom') && !(isWrite && (readonly || region.readonly));
}

type PieceAccess = (piece: Translation, from: number, to: number) => MemTxResult;

/** Cuts an access into parts that one region answers. */
function forEachPiece(
  space: AddressSpace,
  address: bigint,
  size: number,
  access: { readonly isWrite: boolean; readonly attrs: MemTxAttrs },
  call: PieceAccess,
): MemTxResult {
  let result: MemTxResult = MemTxResult.OK;
  for (let done = 0; done < size;) {
    const piece = translate(space, BigInt.asUintN(64, address + BigInt(done)), BigInt(size - done), access);
    const end = done + Number(piece.size);
    result |= call(piece, done, end);
    done = end;
  }
  return result;
}

function readPiece({ range, offset }: Translation, into: Uint8Array, attrs: MemTxAttrs): MemTxResult {
  if (range === undefined) {
    into.fill(0);
    return MemTxResult.DECODE_ERROR;
  }
  if (isForbidden(range, attrs)) return MemTxResult.ACCESS_ERROR;
  if (isDirect(range, false)) return readBlock(range, offset, into);
  flushCoalesced(range);
  const { region } = range;
  let result: MemTxResult = MemTxResult.OK;
  for (let at = 0; at < into.length;) {
    const size = accessSize(region, offset + BigInt(at), BigInt(into.length - at));
    const outcome = dispatchRead(region, offset + BigInt(at), size, attrs);
    into.set(encode(outcome.value, size, region.ops?.endianness ?? 'little'), at);
    result |= outcome.result;
    at += size;
  }
  return result;
}

function writePiece({ range, offset }: Translation, from: Uint8Array, attrs: MemTxAttrs): MemTxResult {
  if (range === undefined) return MemTxResult.DECODE_ERROR;
  if (isForbidden(range, attrs)) return MemTxResult.ACCESS_ERROR;
  if (isDirect(range, true)) return writeBlock(range, offset, from);
  if (range.readonly) return MemTxResult.DECODE_ERROR;
  flushCoalesced(range);
  const { region } = range;
  let result: MemTxResult = MemTxResult.OK;
  for (let at = 0; at < from.length;) {
    const size = accessSize(region, offset + BigInt(at), BigInt(from.length - at));
    const value = decode(from.subarray(at, at + size), region.ops?.endianness ?? 'little');
    result |= dispatchWrite(region, offset + BigInt(at), value, size, attrs);
    at += size;
  }
  return result;
}

/** Some masters may reach memory, but no device. */
const isForbidden = (range: FlatRange, attrs: MemTxAttrs): boolean =>
  attrs.memory === true && !range.region.isRam;

/** Writes that wait in a coalescing buffer come before this access. */
function flushCoalesced({ region }: FlatRange): void {
  if (region.coalesced.length > 0) region.topology.flushCoalesced?.();
}

function readBlock({ region }: FlatRange, offset: bigint, into: Uint8Array): MemTxResult {
  if (region.block?.bytes === undefined) return MemTxResult.ERROR;
  region.block.bytes.read(Number(offset), into);
  return MemTxResult.OK;
}

function writeBlock({ region }: FlatRange, offset: bigint, from: Uint8Array): MemTxResult {
  if (region.block?.bytes === undefined) return MemTxResult.ERROR;
  region.block.bytes.write(Number(offset), from);
  markDirty(region, offset, BigInt(from.length));
  return MemTxResult.OK;
}

function decode(bytes: Uint8Array, endian: Endian): bigint {
  let value = 0n;
  for (let index = 0; index < bytes.length; index += 1) {
    value = (value << 8n) | BigInt(bytes[endian === 'big' ? index : bytes.length - 1 - index]!);
  }
  return value;
}

function encode(value: bigint, size: number, endian: Endian): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let index = 0; index < size; index += 1) {
    bytes[endian === 'big' ? size - 1 - index : index] = Number((value >> BigInt(index * 8)) & 0xffn);
  }
  return bytes;
}

const swapped = (value: bigint, size: number): bigint => decode(encode(value, size, 'little'), 'big');
