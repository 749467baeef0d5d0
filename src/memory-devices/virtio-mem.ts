/**
 * A virtio-mem device: memory the guest plugs and unplugs in blocks, towards the size it is asked for.
 *
 * It is a memory device whose region is all of its backend, or a container of memslots that are mapped as far as blocks in them are
 * plugged. Where nothing is plugged, the RAM is discarded; the discard manager of the backend's region tells who must know.
 *
 *     plug      preallocate → map memslots → tell listeners → mark plugged       any refusal undoes what came before: BUSY
 *     unplug    discard → tell listeners → mark unplugged → unmap memslots
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
import { GiB, MiB } from '../units.ts';
import { BlockBitmap } from './block-bitmap.ts';
import { DiscardManager } from './discard-manager.ts';
import type { Release } from './discard-policy.ts';
import { BlockSource } from './discard-source.ts';
import { DynamicMemslots, layoutOf } from './dynamic-memslots.ts';
import type { MemoryDevice, MemoryDeviceDescription } from './memory-device.ts';
import type { RamBackend } from './ram-backend.ts';
import {
  assertRequestedSize,
  assertSizes,
  checkedProperties,
  type VirtioMemOptions,
} from './virtio-mem-options.ts';

/** How much more than the requested size the guest may use addresses of, so that it finds aligned places. */
export const VIRTIO_MEM_USABLE_EXTENT = 256 * MiB;
/** Memslots are not smaller than this. */
const MIN_MEMSLOT_SIZE = GiB;

const { ACK, NACK, BUSY, ERROR } = VirtioMemResponseType;

export class VirtioMem implements MemoryDevice {
  readonly id: string | undefined;
  readonly backend: RamBackend;
  readonly node: number;
  readonly blockSize: number;
  readonly regionSize: number;
  readonly hasDynamicMemslots: boolean;
  readonly isUnpluggedInaccessible: boolean;
  /** Who listens to what is plugged. */
  readonly discardManager: DiscardManager;
  /** The driver must read the configuration again. */
  onConfigChange: (() => void) | undefined;
  /** The guest has another size now, in bytes. */
  onSizeChange: ((size: number) => void) | undefined;

  readonly #options: VirtioMemOptions;
  readonly #plugged: BlockBitmap;
  readonly #source: BlockSource;
  /** What is mapped: the backend's region, or the container of the memslots. */
  readonly #region: MemoryRegion;
  /** Blocks plugged in each memslot; undefined before the decision and without dynamic memslots. */
  #memslots: { readonly table: DynamicMemslots; readonly pluggedBlocks: Uint32Array } | undefined;
  #address: number;
  #requestedSize: number;
  #usableSize = 0;
  #pluggedSize = 0;
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
    this.#plugged = new BlockBitmap(Math.floor(regionSize / blockSize));
    this.#source = new BlockSource(this.#plugged, blockSize);
    this.discardManager = new DiscardManager(this.#source);
    this.#region = this.hasDynamicMemslots
      ? backend.region.topology.createRegion({
          name: 'virtio-mem',
          kind: 'container',
          size: backend.region.size,
        })
      : backend.region;
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
    return this.#pluggedSize;
  }
  /** How the backend is cut into memslots; undefined before the decision and without dynamic memslots. */
  get dynamicMemslots(): DynamicMemslots | undefined {
    return this.#memslots?.table;
  }

  // The memory device.

  assertRealizable(): void {
    assertSizes(this);
  }

  setAddress(address: bigint): void {
    this.#address = Number(address);
  }

  pluggedSize(): bigint {
    return BigInt(this.#pluggedSize);
  }

  region(): MemoryRegion {
    return this.#region;
  }

  decideMemslots(limit: number): void {
    if (!this.hasDynamicMemslots || this.#isPlugged) return;
    const layout = layoutOf(this.regionSize, limit, { alignment: this.blockSize, minSize: MIN_MEMSLOT_SIZE });
    this.#memslots = {
      table: new DynamicMemslots(this.#region, this.backend.region, layout),
      pluggedBlocks: new Uint32Array(layout.memslots),
    };
  }

  memslots(): number {
    return this.#memslots?.table.layout.memslots ?? 1;
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
      size: BigInt(this.#pluggedSize),
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
    if (this.#pluggedSize > 0)
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
      pluggedSize: BigInt(this.#pluggedSize),
      requestedSize: BigInt(this.#requestedSize),
    };
  }

  /** @param address guest physical @returns VirtioMemResponseType */
  plug(address: number, blocks: number): number {
    const size = blocks * this.blockSize;
    if (!this.#isUsable(address, size)) return ERROR;
    if (this.#pluggedSize + size > this.#requestedSize) return NACK;
    const offset = address - this.#address;
    const first = offset / this.blockSize;
    if (!this.#plugged.isAllClear(first, blocks)) return ERROR;
    if (this.#isBusy() || !this.#populate(offset, size)) return BUSY;
    this.#plugged.set(first, blocks);
    this.#countInMemslots(first, blocks, 1);
    this.#resized(this.#pluggedSize + size);
    return ACK;
  }

  /** @param address guest physical @returns VirtioMemResponseType */
  unplug(address: number, blocks: number): number {
    const size = blocks * this.blockSize;
    if (!this.#isUsable(address, size)) return ERROR;
    const offset = address - this.#address;
    const first = offset / this.blockSize;
    if (!this.#plugged.isAllSet(first, blocks)) return ERROR;
    if (this.#isBusy() || !this.#discard(offset, size)) return BUSY;
    this.discardManager.notifyDiscard(this.#source, offset, offset + size);
    this.#plugged.clear(first, blocks);
    this.#countInMemslots(first, blocks, -1);
    this.#deactivate(offset, size);
    this.#resized(this.#pluggedSize - size);
    return ACK;
  }

  /** @returns VirtioMemResponseType */
  unplugAll(): number {
    if (this.#pluggedSize > 0) {
      if (this.#isBusy() || !this.#discard(0, this.regionSize)) return BUSY;
      this.discardManager.notifyDiscardAll();
      this.#plugged.clear(0, this.#plugged.blocks);
      this.#memslots?.pluggedBlocks.fill(0);
      this.#resized(0);
      this.#deactivate(0, this.regionSize);
    }
    this.#resizeUsable(this.#requestedSize, true);
    return ACK;
  }

  /** @param address guest physical @returns VirtioMemState, or −1 for a range that is answered ERROR */
  stateOf(address: number, blocks: number): number {
    if (!this.#isUsable(address, blocks * this.blockSize)) return -1;
    const first = (address - this.#address) / this.blockSize;
    if (this.#plugged.isAllSet(first, blocks)) return VirtioMemState.PLUGGED;
    return this.#plugged.isAllClear(first, blocks) ? VirtioMemState.UNPLUGGED : VirtioMemState.MIXED;
  }

  #isUsable(address: number, size: number): boolean {
    return (
      size > 0 &&
      address % this.blockSize === 0 &&
      address >= this.#address &&
      address + size <= this.#address + this.#usableSize
    );
  }

  #isBusy(): boolean {
    return this.#options.isBusy?.() === true;
  }

  #discard(offset: number, size: number): boolean {
    return (this.backend.memory.discard?.(offset, size) ?? 0) >= 0;
  }

  /** Everything that must have happened before blocks are marked plugged; undone if it fails. */
  #populate(offset: number, size: number): boolean {
    const { memory } = this.backend;
    let isPopulated = this.#options.preallocate !== true || (memory.preallocate?.(offset, size) ?? 0) >= 0;
    if (isPopulated) {
      // Listeners that find the memslot register, and hear of what is plugged already; the notification tells the rest.
      this.#memslots?.table.activate(offset, size);
      isPopulated = this.discardManager.notifyPopulate(this.#source, offset, offset + size) === 0;
      if (!isPopulated) this.#deactivate(offset, size);
    }
    if (!isPopulated) this.#discard(offset, size); // what preallocation or a listener touched
    return isPopulated;
  }

  #deactivate(offset: number, size: number): void {
    if (this.#memslots === undefined) return;
    const { table, pluggedBlocks } = this.#memslots;
    table.deactivate(offset, size, (slot) => pluggedBlocks[slot]! > 0);
  }

  #countInMemslots(first: number, blocks: number, by: 1 | -1): void {
    if (this.#memslots === undefined) return;
    const { table, pluggedBlocks } = this.#memslots;
    const perMemslot = table.layout.memslotSize / this.blockSize;
    let block = first;
    while (block < first + blocks) {
      const slot = Math.floor(block / perMemslot);
      const stop = Math.min(first + blocks, (slot + 1) * perMemslot);
      pluggedBlocks[slot]! += by * (stop - block);
      block = stop;
    }
  }

  #resized(size: number): void {
    this.#pluggedSize = size;
    this.onSizeChange?.(size);
  }

  #resizeUsable(requestedSize: number, canShrink: boolean): void {
    const wanted = Math.min(this.regionSize, requestedSize + VIRTIO_MEM_USABLE_EXTENT);
    const size = requestedSize === 0 ? 0 : Math.ceil(wanted / this.blockSize) * this.blockSize;
    if (size > this.#usableSize || canShrink) this.#usableSize = size;
  }
}

const stillInUse = (text: string): MemoryDeviceError => new MemoryDeviceError('STILL_IN_USE', text);
