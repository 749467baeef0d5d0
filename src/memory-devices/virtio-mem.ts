/**
 * A virtio-mem device: memory the guest plugs and unplugs in blocks, towards the size it is asked for.
 *
 * Here are its properties and the rules of its requests; what a granted request does is in `PluggableBlocks`.
 */
import { maskOf } from '../../protocol/bits.ts';
import {
  VirtioMemFeature,
  VirtioMemResponseType,
  VirtioMemState,
  type VirtioMemConfig,
} from '../../protocol/virtio-mem.ts';
import { MemoryDeviceError } from '../errors.ts';
import type { MemoryRegion } from '../memory/region.ts';
import { MiB } from '../units.ts';
import type { DiscardManager } from './discard-manager.ts';
import type { Release } from './discard-policy.ts';
import type { DynamicMemslots } from './dynamic-memslots.ts';
import type { MemoryDevice, MemoryDeviceDescription } from './memory-device.ts';
import { PluggableBlocks } from './pluggable-blocks.ts';
import type { RamBackend } from './ram-backend.ts';
import {
  assertRequestedSize,
  assertSizes,
  checkedProperties,
  type VirtioMemOptions,
} from './virtio-mem-options.ts';

/** How much more than the requested size the guest may use addresses of, so that it finds aligned places. */
export const VIRTIO_MEM_USABLE_EXTENT = 256 * MiB;
const { ACK, NACK, BUSY, ERROR } = VirtioMemResponseType;
const { PLUGGED, UNPLUGGED } = VirtioMemState;

export class VirtioMem implements MemoryDevice {
  readonly id: string | undefined;
  readonly backend: RamBackend;
  readonly node: number;
  readonly blockSize: number;
  readonly regionSize: number;
  readonly hasDynamicMemslots: boolean;
  readonly isUnpluggedInaccessible: boolean;
  /** The driver must read the configuration again. */
  onConfigChange: (() => void) | undefined;
  /** The guest has another size now, in bytes. */
  onSizeChange: ((size: number) => void) | undefined;

  readonly #options: VirtioMemOptions;
  readonly #blocks: PluggableBlocks;
  #address: number;
  #requestedSize: number;
  #usableSize = 0;
  #isPlugged = false;
  #release: Release | undefined;

  /** @throws {MemoryDeviceError} BAD_PROPERTY, SIZE, BACKEND_BUSY, DISCARD_DISABLED */
  constructor(options: VirtioMemOptions) {
    const { backend } = options;
    const { blockSize, regionSize, requestedSize } = checkedProperties(options);
    if (backend.region.isMapped || backend.region.discardManager !== undefined)
      throw new MemoryDeviceError('BACKEND_BUSY', `can't use already busy memdev: ${backend.id}`);
    this.#release = options.discardPolicy?.requireCoordinated();
    this.#options = options;
    this.id = options.id;
    this.backend = backend;
    this.node = options.node ?? 0;
    this.blockSize = blockSize;
    this.regionSize = regionSize;
    this.hasDynamicMemslots = options.dynamicMemslots ?? false;
    this.isUnpluggedInaccessible = options.unpluggedInaccessible ?? true;
    this.#address = Number(options.address ?? 0n);
    this.#requestedSize = requestedSize;
    this.#blocks = new PluggableBlocks({
      backend,
      blockSize,
      isDynamic: this.hasDynamicMemslots,
      preallocates: options.preallocate ?? false,
    });
    backend.region.setDiscardManager(this.discardManager);
    this.#resizeUsable(requestedSize, true);
  }

  get address(): bigint {
    return BigInt(this.#address);
  }
  /** Bytes the guest is asked to have. */
  get requestedSize(): number {
    return this.#requestedSize;
  }
  /** Bytes from the start in which the guest may plug. */
  get usableSize(): number {
    return this.#usableSize;
  }
  /** Bytes the guest has. */
  get size(): number {
    return this.#blocks.plugged * this.blockSize;
  }
  /** Who listens to what is plugged. */
  get discardManager(): DiscardManager {
    return this.#blocks.discardManager;
  }
  /** How the backend is cut into memslots; undefined before the decision and without dynamic memslots. */
  get dynamicMemslots(): DynamicMemslots | undefined {
    return this.#blocks.memslots;
  }

  // The memory device.

  assertRealizable(): void {
    assertSizes(this);
  }

  setAddress(address: bigint): void {
    this.#address = Number(address);
  }

  pluggedSize(): bigint {
    return BigInt(this.size);
  }

  region(): MemoryRegion {
    return this.#blocks.region;
  }

  decideMemslots(limit: number): void {
    if (this.hasDynamicMemslots && !this.#isPlugged) this.#blocks.decideMemslots(limit);
  }

  memslots(): number {
    return this.#blocks.memslots?.layout.memslots ?? 1;
  }

  minAlignment(): bigint {
    return BigInt(this.blockSize);
  }

  describe(): MemoryDeviceDescription {
    return {
      type: 'virtio-mem',
      id: this.id,
      memaddr: this.address,
      requestedSize: BigInt(this.#requestedSize),
      size: BigInt(this.size),
      maxSize: BigInt(this.regionSize),
      blockSize: BigInt(this.blockSize),
      node: this.node,
      memdev: this.backend.id,
    };
  }

  plugged(): void {
    this.#isPlugged = true;
  }

  assertUnpluggable(): void {
    if (!this.isUnpluggedInaccessible)
      throw stillInUse(`virtio-mem device cannot get unplugged while 'unplugged-inaccessible' != 'on'`);
    if (this.size > 0)
      throw stillInUse('virtio-mem device cannot get unplugged while some of its memory is still plugged');
    if (this.#requestedSize > 0)
      throw stillInUse(`virtio-mem device cannot get unplugged while 'requested-size' != '0'`);
  }

  unplugged(): void {
    this.#isPlugged = false;
    this.#address = Number(this.#options.address ?? 0n);
  }

  /** Gives the backend back; the device must not be plugged. Idempotent. @throws {MemoryError} DISCARD_MANAGER */
  unrealize(): void {
    this.backend.region.setDiscardManager(undefined);
    this.#release?.();
    this.#release = undefined;
  }

  // The operator.

  /** Asks the guest for another size. @throws {MemoryDeviceError} BAD_PROPERTY */
  setRequestedSize(size: number): void {
    assertRequestedSize(size, this);
    if (size !== this.#requestedSize) {
      this.#resizeUsable(size, false);
      this.#requestedSize = size;
    }
    this.onConfigChange?.();
  }

  /** The machine restarts: the guest has nothing any more. Ignored while memory must not change. */
  systemReset(): void {
    this.unplugAll();
  }

  // The driver.

  /** Feature bits of the device type. */
  get features(): bigint {
    const { ACPI_PXM, UNPLUGGED_INACCESSIBLE, PERSISTENT_SUSPEND } = VirtioMemFeature;
    return (
      maskOf(PERSISTENT_SUSPEND) |
      (this.#options.hasNodes === true ? maskOf(ACPI_PXM) : 0n) |
      (this.isUnpluggedInaccessible ? maskOf(UNPLUGGED_INACCESSIBLE) : 0n)
    );
  }

  /** Whether the device can work with a driver that accepts these features. */
  acceptsFeatures(accepted: bigint): boolean {
    return (
      !this.isUnpluggedInaccessible || (accepted & maskOf(VirtioMemFeature.UNPLUGGED_INACCESSIBLE)) !== 0n
    );
  }

  config(): VirtioMemConfig {
    return {
      blockSize: BigInt(this.blockSize),
      nodeId: this.node,
      addr: this.address,
      regionSize: BigInt(this.regionSize),
      usableRegionSize: BigInt(this.#usableSize),
      pluggedSize: BigInt(this.size),
      requestedSize: BigInt(this.#requestedSize),
    };
  }

  /** @param address guest physical @returns VirtioMemResponseType */
  plug(address: number, blocks: number): number {
    const size = blocks * this.blockSize;
    if (!this.#isUsable(address, size)) return ERROR;
    if (this.size + size > this.#requestedSize) return NACK;
    const first = this.#blockAt(address);
    if (this.#blocks.stateOf(first, blocks) !== UNPLUGGED) return ERROR;
    if (this.#isBusy() || !this.#blocks.plug(first, blocks)) return BUSY;
    this.onSizeChange?.(this.size);
    return ACK;
  }

  /** @param address guest physical @returns VirtioMemResponseType */
  unplug(address: number, blocks: number): number {
    if (!this.#isUsable(address, blocks * this.blockSize)) return ERROR;
    const first = this.#blockAt(address);
    if (this.#blocks.stateOf(first, blocks) !== PLUGGED) return ERROR;
    if (this.#isBusy() || !this.#blocks.unplug(first, blocks)) return BUSY;
    this.onSizeChange?.(this.size);
    return ACK;
  }

  /** @returns VirtioMemResponseType */
  unplugAll(): number {
    if (this.size > 0) {
      if (this.#isBusy() || !this.#blocks.unplugAll()) return BUSY;
      this.onSizeChange?.(0);
    }
    this.#resizeUsable(this.#requestedSize, true);
    return ACK;
  }

  /** Unmaps memslots that have nothing in them, which are mapped if somebody refused to have them unmapped. @throws as `unplugAll` */
  unmapEmpty(): void {
    this.#blocks.unmapEmpty();
  }

  /** @param address guest physical @returns VirtioMemState, or −1 for a range that is answered ERROR */
  stateOf(address: number, blocks: number): number {
    return this.#isUsable(address, blocks * this.blockSize)
      ? this.#blocks.stateOf(this.#blockAt(address), blocks)
      : -1;
  }

  #blockAt(address: number): number {
    return (address - this.#address) / this.blockSize;
  }

  #isUsable(address: number, size: number): boolean {
    return (
      this.#isPlugged &&
      size > 0 &&
      address % this.blockSize === 0 &&
      address >= this.#address &&
      address + size <= this.#address + this.#usableSize
    );
  }

  #isBusy(): boolean {
    return this.#options.isBusy?.() === true;
  }

  #resizeUsable(requestedSize: number, canShrink: boolean): void {
    const wanted = Math.min(this.regionSize, requestedSize + VIRTIO_MEM_USABLE_EXTENT);
    const size = requestedSize === 0 ? 0 : Math.ceil(wanted / this.blockSize) * this.blockSize;
    if (size > this.#usableSize || canShrink) this.#usableSize = size;
  }
}

const stillInUse = (text: string): MemoryDeviceError => new MemoryDeviceError('STILL_IN_USE', text);
