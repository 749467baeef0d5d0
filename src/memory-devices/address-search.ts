/** Where in the window of device memory a device can be: at the wanted place, or at the first that is free. */
import { MemoryDeviceError } from '../errors.ts';
import { hex } from '../units.ts';

/** A range of guest physical addresses, in bytes. */
export interface AddressRange {
  readonly start: bigint;
  readonly size: bigint;
}

/** A range that is taken. */
export interface OccupiedRange extends AddressRange {
  readonly id: string | undefined;
}

export interface AddressRequest {
  readonly size: bigint;
  /** A power of two. */
  readonly alignment: bigint;
  /** The wanted address; 0: any. */
  readonly hint: bigint;
}

/**
 * The address for a new device.
 *
 * @param occupied in address order
 * @throws {MemoryDeviceError} ADDRESS, FRAGMENTED
 */
export function findAddress(
  window: AddressRange,
  occupied: readonly OccupiedRange[],
  request: AddressRequest,
): bigint {
  return request.hint === 0n ? firstFit(window, occupied, request) : wantedPlace(window, occupied, request);
}

function wantedPlace(
  window: AddressRange,
  occupied: readonly OccupiedRange[],
  { hint, size, alignment }: AddressRequest,
): bigint {
  if (hint % alignment !== 0n)
    throw new MemoryDeviceError('ADDRESS', `address must be aligned to ${hex(alignment)} bytes`);
  if (hint < window.start || hint + size > window.start + window.size) {
    throw new MemoryDeviceError(
      'ADDRESS',
      `can't add memory device [${hex(hint)}:${hex(size)}], usable range for memory devices [${hex(window.start)}:${hex(window.size)}]`,
    );
  }
  const other = occupied.find((taken) => taken.start < hint + size && hint < taken.start + taken.size);
  if (other !== undefined) {
    throw new MemoryDeviceError(
      'ADDRESS',
      `address range conflicts with memory device id='${other.id ?? '(unnamed)'}'`,
    );
  }
  return hint;
}

function firstFit(
  window: AddressRange,
  occupied: readonly OccupiedRange[],
  { size, alignment }: AddressRequest,
): bigint {
  let candidate = alignUp(window.start, alignment);
  for (const taken of occupied) {
    if (taken.start >= candidate + size) break;
    if (taken.start + taken.size > candidate) candidate = alignUp(taken.start + taken.size, alignment);
  }
  if (candidate + size > window.start + window.size) {
    throw new MemoryDeviceError(
      'FRAGMENTED',
      'could not find position in guest address space for memory device - memory fragmented due to alignments',
    );
  }
  return candidate;
}

/** The next multiple of `alignment`. */
export const alignUp = (value: bigint, alignment: bigint): bigint =>
  ((value + alignment - 1n) / alignment) * alignment;
