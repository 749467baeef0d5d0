/** A memory module: all of its memory, at once, as one memslot. */
import { MemoryDeviceError } from '../errors.ts';
import type { MemoryRegion } from '../memory/region.ts';
import type { DimmSlots } from './dimm-slots.ts';
import type { MemoryDevice, MemoryDeviceDescription } from './memory-device.ts';
import type { RamBackend } from './ram-backend.ts';

export interface PcDimmOptions {
  readonly id?: string;
  readonly backend: RamBackend;
  readonly slots: DimmSlots;
  /** Wanted guest physical address; default: any. */
  readonly address?: bigint;
  /** Wanted socket; default: the first free one. */
  readonly slot?: number;
  /** Default 0. */
  readonly node?: number;
  /** Whether it is plugged while the machine runs, for its description. Default true. */
  readonly isHotplugged?: boolean;
}

export class PcDimm implements MemoryDevice {
  readonly id: string | undefined;
  readonly backend: RamBackend;
  readonly node: number;
  readonly #slots: DimmSlots;
  readonly #wantedSlot: number | undefined;
  readonly #wantedAddress: bigint;
  readonly #isHotplugged: boolean;
  #slot = -1;
  #address: bigint;

  constructor(options: PcDimmOptions) {
    this.id = options.id;
    this.backend = options.backend;
    this.node = options.node ?? 0;
    this.#slots = options.slots;
    this.#wantedSlot = options.slot;
    this.#wantedAddress = this.#address = options.address ?? 0n;
    this.#isHotplugged = options.isHotplugged ?? true;
  }

  get address(): bigint {
    return this.#address;
  }
  /** Its socket; −1 as long as it is not plugged. */
  get slot(): number {
    return this.#slot;
  }

  assertPluggable(): void {
    this.#slots.find(this.#wantedSlot);
  }

  setAddress(address: bigint): void {
    this.#address = address;
  }

  pluggedSize(): bigint {
    return this.region().size;
  }

  region(): MemoryRegion {
    return this.backend.region;
  }

  describe(): MemoryDeviceDescription {
    return {
      type: 'dimm',
      id: this.id,
      addr: this.#address,
      size: this.pluggedSize(),
      slot: this.#slot,
      node: this.node,
      memdev: this.backend.id,
      hotpluggable: true,
      hotplugged: this.#isHotplugged,
    };
  }

  plugged(): void {
    this.#slot = this.#slots.find(this.#wantedSlot);
    this.#slots.take(this.#slot);
  }

  unplugged(): void {
    this.#slots.release(this.#slot);
    this.#slot = -1;
    this.#address = this.#wantedAddress;
  }
}

export interface NvdimmOptions extends PcDimmOptions {
  /** Bytes at the end of the memory that hold the namespace labels; 0: none, else at least 128 KiB. Default 0. */
  readonly labelSize?: bigint;
  /** The guest cannot write; the memory is not shared with vhost back-ends then. Default false. */
  readonly isReadonly?: boolean;
}

/** MIN_NAMESPACE_LABEL_SIZE. */
const MIN_LABEL_SIZE = 0x2_0000n;

/** A module of persistent memory: what its labels leave, rounded down to the alignment of the memory. */
export class Nvdimm implements MemoryDevice {
  readonly labelSize: bigint;
  /** What the guest sees: an alias of the backend's region, marked as nonvolatile. */
  readonly #visible: MemoryRegion;
  readonly #dimm: PcDimm;

  /** @throws {MemoryDeviceError} BAD_PROPERTY, SIZE */
  constructor(options: NvdimmOptions) {
    const { backend, labelSize = 0n, isReadonly = false } = options;
    if (labelSize !== 0n && labelSize < MIN_LABEL_SIZE) {
      throw new MemoryDeviceError(
        'BAD_PROPERTY',
        `property 'label-size' (0x${labelSize.toString(16)}) must be at least 0x${MIN_LABEL_SIZE.toString(16)}`,
      );
    }
    const { region, alignment } = backend;
    const size = region.size > labelSize ? ((region.size - labelSize) / alignment) * alignment : 0n;
    if (size === 0n) {
      throw new MemoryDeviceError(
        'SIZE',
        `the size of memdev ${backend.id} (0x${region.size.toString(16)}) is too small to contain nvdimm label (0x${labelSize.toString(16)}) and aligned PMEM (0x${alignment.toString(16)})`,
      );
    }
    this.labelSize = labelSize;
    this.#dimm = new PcDimm(options);
    this.#visible = region.topology.createRegion({
      name: 'nvdimm-memory',
      kind: 'alias',
      target: region,
      size,
    });
    this.#visible.setNonvolatile(true);
    if (isReadonly) region.setReadonly(true);
  }

  get id(): string | undefined {
    return this.#dimm.id;
  }
  get backend(): RamBackend {
    return this.#dimm.backend;
  }
  get address(): bigint {
    return this.#dimm.address;
  }
  get slot(): number {
    return this.#dimm.slot;
  }

  assertPluggable(): void {
    this.#dimm.assertPluggable();
  }

  setAddress(address: bigint): void {
    this.#dimm.setAddress(address);
  }

  pluggedSize(): bigint {
    return this.#visible.size;
  }

  region(): MemoryRegion {
    return this.#visible;
  }

  describe(): MemoryDeviceDescription {
    return { ...this.#dimm.describe(), type: 'nvdimm', size: this.pluggedSize() } as MemoryDeviceDescription;
  }

  plugged(): void {
    this.#dimm.plugged();
  }

  unplugged(): void {
    this.#dimm.unplugged();
  }
}
