/** What a memory device is to the machine it is plugged into: every question the machine asks, and when it asks. */
import type { MemoryRegion } from '../memory/region.ts';
import type { RamBackend } from './ram-backend.ts';

/** A device as `query-memory-devices` lists it. Sizes and addresses are bytes. */
export type MemoryDeviceDescription =
  | {
      readonly type: 'dimm' | 'nvdimm';
      readonly id: string | undefined;
      readonly addr: bigint;
      readonly size: bigint;
      /** Which module socket it sits in. */
      readonly slot: number;
      readonly node: number;
      readonly memdev: string;
      readonly hotpluggable: boolean;
      readonly hotplugged: boolean;
    }
  | {
      readonly type: 'virtio-mem';
      readonly id: string | undefined;
      readonly memaddr: bigint;
      readonly requestedSize: bigint;
      /** What the guest has. */
      readonly size: bigint;
      readonly maxSize: bigint;
      readonly blockSize: bigint;
      readonly node: number;
      readonly memdev: string;
    }
  | {
      readonly type: 'hv-balloon';
      readonly id: string | undefined;
      /** Absent: it has no memory to hot-add. */
      readonly memaddr?: bigint;
      readonly maxSize: bigint;
      readonly memdev?: string;
    };

/** A device that is mapped into the window of device memory as one region. */
export interface MemoryDevice {
  readonly id: string | undefined;

  /**
   * Where it is in guest physical memory. Before it is plugged: where its owner wants it; 0 leaves it to the machine.
   * Asked before plugging for the wish, later for every search of a free place and when the device is mapped.
   */
  readonly address: bigint;

  /** The first question of a pre-plug: whether the device has all it needs from others. @throws {MemoryDeviceError} */
  assertPluggable?(): void;

  /** The last question of a pre-plug, when a place was found: whether its properties fit together. @throws {MemoryDeviceError} */
  assertRealizable?(): void;

  /** Called once by a pre-plug that succeeds, with the place that was found, and before the region is mapped. */
  setAddress(address: bigint): void;

  /** Bytes the guest can use now, for the size of the machine's memory. Asked at any time while plugged. */
  pluggedSize(): bigint;

  /**
   * The region to map. Its size is what the device takes of the window, whatever is plugged in it. Asked at pre-plug, plug and
   * unplug; always the same one from pre-plug to unplug. Undefined: the device is empty, takes no place and no memslot.
   *
   * @throws {MemoryDeviceError} if the properties of the device cannot be met
   */
  region(): MemoryRegion | undefined;

  /** The memory it is made of; absent in a device without any. It must not be used by another device. */
  readonly backend?: RamBackend | undefined;

  /**
   * Choose how many memslots to use, `limit` at most; called at pre-plug, after `region` and before the first `memslots`. A failed
   * pre-plug may be followed by another one, which calls it again. Absent: the device has no choice.
   *
   * @param limit at least 1; what the machine thinks this device may use, so that there is something left for others
   */
  decideMemslots?(limit: number): void;

  /**
   * How many memslots it may ever use at the same time, even if fewer are mapped now. Asked after `decideMemslots` and when the device
   * is plugged and unplugged; does not change while it is plugged. Absent: 1.
   */
  memslots?(): number;

  /** What its address must be a multiple of, beyond what its memory demands; a power of two. Asked at pre-plug. Absent: nothing. */
  minAlignment?(): bigint;

  /** For `query-memory-devices`. Asked at any time while plugged. */
  describe(): MemoryDeviceDescription;

  /** Called after it was mapped. */
  plugged?(): void;

  /** Asked before an unplug begins. @throws {MemoryDeviceError} STILL_IN_USE */
  assertUnpluggable?(): void;

  /** Called after it was unmapped. */
  unplugged?(): void;
}
