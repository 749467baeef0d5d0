/** One memory region as the front-end describes it, and every reason to refuse it. */
import { errnoName, ProtocolError } from '../errors.ts';
import { fdPageSize, mappableSize } from '../host/stat.ts';
import { hex } from '../units.ts';
import type { FileRange } from './arena.ts';

/** vhost-user spec § Memory region description. 64-bit values of the wire, unchecked. */
export interface RegionDescription {
  readonly guestPhysAddr: bigint;
  /** Bytes. */
  readonly memorySize: bigint;
  /** Address in the front-end's address space: only ever compared, never used. */
  readonly userspaceAddr: bigint;
  /** Bytes into the file descriptor that came with the region. */
  readonly mmapOffset: bigint;
}

/** A described region that can exist: all of it fits numbers that are exact. */
export interface CheckedRegion {
  readonly described: RegionDescription;
  readonly gpa: number;
  readonly size: number;
  readonly offset: number;
}

/** A region whose `mappedSize` bytes at `address` are mapped: `size`, rounded up to the pages of its file. */
export interface MappedRegion extends CheckedRegion {
  readonly address: number;
  readonly mappedSize: number;
}

/** The ends of both address spaces of the wire, and of what a number holds exactly. */
const END_OF_64_BITS = 1n << 64n;
const END_OF_SAFE = 1n << 53n;

/**
 * Looks at the region alone.
 *
 * @throws {ProtocolError} REGION_INVALID: size 0; wrap-around of any address; guest physical address from 2^53 on
 */
export function checkRegion(described: RegionDescription): CheckedRegion {
  const { guestPhysAddr, memorySize, userspaceAddr, mmapOffset } = described;
  if (memorySize === 0n) throw invalid(described, 'size 0, allowed 1 and more');
  if (guestPhysAddr + memorySize > END_OF_64_BITS)
    throw invalid(described, 'guest physical address wraps around, allowed up to 2^64');
  if (userspaceAddr + memorySize > END_OF_64_BITS)
    throw invalid(described, `user address ${hex(userspaceAddr)} wraps around, allowed up to 2^64`);
  if (mmapOffset + memorySize > END_OF_64_BITS)
    throw invalid(described, `offset ${hex(mmapOffset)} wraps around, allowed up to 2^64`);
  if (guestPhysAddr + memorySize > END_OF_SAFE)
    throw invalid(described, 'guest physical address too high, allowed below 2^53');
  if (mmapOffset + memorySize > END_OF_SAFE)
    throw invalid(described, `offset ${hex(mmapOffset)} too high, allowed below 2^53`);
  return { described, gpa: Number(guestPhysAddr), size: Number(memorySize), offset: Number(mmapOffset) };
}

/**
 * Looks at the region and its file together.
 *
 * @param fd borrowed
 * @throws {ProtocolError} REGION_INVALID: offset misaligned; beyond, or reaching beyond, the end of the file. SYSTEM
 */
export function checkFile(region: CheckedRegion, fd: number): FileRange {
  const { described, offset, size } = region;
  const pageSize = fdPageSize(fd);
  if (pageSize < 0)
    throw new ProtocolError('SYSTEM', `fstatfs of the region's descriptor: ${errnoName(-pageSize)}`);
  if (offset % pageSize !== 0)
    throw invalid(described, `offset ${hex(offset)} misaligned, allowed multiples of ${hex(pageSize)}`);
  const fileSize = mappableSize(fd);
  if (fileSize < 0)
    throw new ProtocolError('SYSTEM', `statx of the region's descriptor: ${errnoName(-fileSize)}`);
  if (offset >= fileSize)
    throw invalid(described, `offset ${hex(offset)} beyond the descriptor, allowed below ${hex(fileSize)}`);
  if (offset + size > fileSize)
    throw invalid(
      described,
      `larger than the descriptor: ends at ${hex(offset + size)}, allowed ${hex(fileSize)}`,
    );
  return { fd, offset, size: Math.ceil(size / pageSize) * pageSize, pageSize };
}

/** The region for messages: where, and how large. */
export const describe = ({ guestPhysAddr, memorySize }: RegionDescription): string =>
  `region ${hex(guestPhysAddr)}+${hex(memorySize)}`;

const invalid = (region: RegionDescription, why: string): ProtocolError =>
  new ProtocolError('REGION_INVALID', `${describe(region)}: ${why}`);
