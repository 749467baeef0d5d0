/** The properties of a virtio-mem device, and what they must be. */
import { MemoryDeviceError } from '../errors.ts';
import { hex, MiB } from '../units.ts';
import type { DiscardPolicy } from './discard-policy.ts';
import type { RamBackend } from './ram-backend.ts';

export interface VirtioMemOptions {
  readonly id?: string;
  readonly backend: RamBackend;
  /** Bytes that are plugged and unplugged as one; a power of two, at least 1 MiB and a page. Default 2 MiB, or a page if that is larger. */
  readonly blockSize?: number;
  /** Bytes the guest should have. Default 0. */
  readonly requestedSize?: number;
  /** Wanted guest physical address; default: any. */
  readonly address?: bigint;
  /** Default 0. */
  readonly node?: number;
  /** Whether the machine has NUMA nodes, so that the driver is told the node. Default false. */
  readonly hasNodes?: boolean;
  /** Whether memory is mapped in several memslots, as far as it is plugged. Default false: all of it, always, as one memslot. */
  readonly dynamicMemslots?: boolean;
  /** Whether the guest must leave unplugged memory alone. Default true. */
  readonly unpluggedInaccessible?: boolean;
  /** Whether the host's memory is made sure of before the guest is told that it has it. Default false. */
  readonly preallocate?: boolean;
  /** Everybody in the machine who has a say about discarding. Default: nobody else. */
  readonly discardPolicy?: DiscardPolicy;
  /** Whether memory must not change just now, as during migration: requests are answered BUSY. Default: never. */
  readonly isBusy?: () => boolean;
}

/** The properties with their defaults. Sizes are bytes. */
export interface VirtioMemProperties {
  readonly regionSize: number;
  readonly blockSize: number;
  readonly requestedSize: number;
}

/** VIRTIO_MEM_MIN_BLOCK_SIZE. */
export const VIRTIO_MEM_MIN_BLOCK_SIZE = MiB;
/** Default block size: what transparent huge pages of x86 and arm64 with 4 KiB pages have. */
const DEFAULT_BLOCK_SIZE = 2 * MiB;

/** Each property by itself. @throws {MemoryDeviceError} BAD_PROPERTY, SIZE */
export function checkedProperties(options: VirtioMemOptions): VirtioMemProperties {
  const { backend, dynamicMemslots = false, unpluggedInaccessible = true } = options;
  const { pageSize } = backend.block;
  const blockSize = options.blockSize ?? Math.max(pageSize, DEFAULT_BLOCK_SIZE);
  const regionSize = Number(backend.region.size);
  if (dynamicMemslots && !unpluggedInaccessible)
    throw bad(`'dynamic-memslots' property set to 'on' requires 'unplugged-inaccessible' to be 'on'`);
  if (!(blockSize >= VIRTIO_MEM_MIN_BLOCK_SIZE))
    throw bad(`'block-size' property has to be at least ${hex(VIRTIO_MEM_MIN_BLOCK_SIZE)}`);
  if (!isPowerOfTwo(blockSize)) throw bad(`'block-size' property has to be a power of two`);
  if (blockSize < pageSize)
    throw bad(`'block-size' property has to be at least the page size (${hex(pageSize)})`);
  if (!Number.isSafeInteger(regionSize)) throw new MemoryDeviceError('SIZE', 'memory of 2^53 bytes or more');
  return { regionSize, blockSize, requestedSize: options.requestedSize ?? 0 };
}

/** What QEMU checks only when the device has its place. @throws {MemoryDeviceError} BAD_PROPERTY, SIZE */
export function assertSizes(properties: VirtioMemProperties): void {
  const { regionSize, blockSize, requestedSize } = properties;
  assertRequestedSize(requestedSize, properties);
  if (regionSize === 0 || regionSize % blockSize !== 0) {
    throw new MemoryDeviceError(
      'SIZE',
      `'memdev' property memdev size has to be multiples of'block-size' (${hex(blockSize)})`,
    );
  }
}

/** @throws {MemoryDeviceError} BAD_PROPERTY */
export function assertRequestedSize(
  size: number,
  { regionSize, blockSize }: Pick<VirtioMemProperties, 'regionSize' | 'blockSize'>,
): void {
  if (!(size >= 0 && size <= regionSize))
    throw bad(`'requested-size' cannot exceed the memory backend size (${hex(regionSize)})`);
  if (size % blockSize !== 0)
    throw bad(`'requested-size' has to be multiples of 'block-size' (${hex(blockSize)})`);
}

const isPowerOfTwo = (value: number): boolean => Number.isSafeInteger(Math.log2(value));

const bad = (text: string): MemoryDeviceError => new MemoryDeviceError('BAD_PROPERTY', text);
