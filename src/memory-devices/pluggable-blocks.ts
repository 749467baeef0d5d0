/**
 * RAM that is plugged and unplugged in blocks: mapped as a whole, or in memslots as far as blocks in them are plugged. Where nothing is
 * plugged the RAM is discarded; the discard manager of its region tells who must know.
 *
 *     plug      preallocate → map memslots → tell listeners → mark plugged       any refusal undoes what came before
 *     unplug    discard → tell listeners → mark unplugged → unmap memslots       as does one here: the blocks stay plugged, empty
 */
import { VirtioMemState } from '../../protocol/virtio-mem.ts';
import type { MemoryRegion } from '../memory/region.ts';
import { GiB } from '../units.ts';
import { BlockBitmap } from './block-bitmap.ts';
import { DiscardManager } from './discard-manager.ts';
import { BlockSource } from './discard-source.ts';
import { DynamicMemslots, layoutOf } from './dynamic-memslots.ts';
import type { RamBackend } from './ram-backend.ts';

/** Memslots are not smaller than this. */
const MIN_MEMSLOT_SIZE = GiB;

export interface PluggableBlocksOptions {
  readonly backend: RamBackend;
  /** Bytes. */
  readonly blockSize: number;
  /** Whether it is mapped in memslots. */
  readonly isDynamic: boolean;
  /** Whether the host's memory is made sure of before blocks are plugged. */
  readonly preallocates: boolean;
}

export class PluggableBlocks {
  /** What is to be mapped: the backend's region, or the container of the memslots. */
  readonly region: MemoryRegion;
  readonly discardManager: DiscardManager;
  readonly #options: PluggableBlocksOptions;
  readonly #bitmap: BlockBitmap;
  readonly #source: BlockSource;
  #memslots: DynamicMemslots | undefined;
  /** Blocks plugged in each memslot. */
  #pluggedInMemslot = new Uint32Array(0);
  #plugged = 0;

  constructor(options: PluggableBlocksOptions) {
    const { backend, blockSize, isDynamic } = options;
    const { size, topology } = backend.region;
    this.#options = options;
    this.#bitmap = new BlockBitmap(Math.floor(Number(size) / blockSize));
    this.#source = new BlockSource(this.#bitmap, blockSize);
    this.discardManager = new DiscardManager(this.#source);
    this.region = isDynamic
      ? topology.createRegion({ name: 'virtio-mem', kind: 'container', size })
      : backend.region;
  }

  /** How many blocks are plugged. */
  get plugged(): number {
    return this.#plugged;
  }
  /** Undefined before the decision, and if it is not dynamic. */
  get memslots(): DynamicMemslots | undefined {
    return this.#memslots;
  }

  /** Cuts the backend into `limit` memslots at most. Only while the region is not mapped. */
  decideMemslots(limit: number): void {
    const { backend, blockSize } = this.#options;
    const layout = layoutOf(Number(backend.region.size), limit, {
      alignment: blockSize,
      minSize: MIN_MEMSLOT_SIZE,
    });
    this.#memslots = new DynamicMemslots(this.region, backend.region, layout);
    this.#pluggedInMemslot = new Uint32Array(layout.memslots);
  }

  /** @returns VirtioMemState */
  stateOf(first: number, blocks: number): number {
    if (this.#bitmap.isAllSet(first, blocks)) return VirtioMemState.PLUGGED;
    return this.#bitmap.isAllClear(first, blocks) ? VirtioMemState.UNPLUGGED : VirtioMemState.MIXED;
  }

  /**
   * Plugs blocks that are all unplugged.
   *
   * @returns false: the host or a listener of discards refused, and nothing has changed
   * @throws what a listener of memory threw, such as a vhost back-end's refusal; nothing has changed
   */
  plug(first: number, blocks: number): boolean {
    const { blockSize } = this.#options;
    if (!this.#populate(first * blockSize, blocks * blockSize)) return false;
    this.#markPlugged(first, blocks);
    return true;
  }

  /**
   * Unplugs blocks that are all plugged.
   *
   * @returns false: the host refused, and nothing has changed
   * @throws what a listener of memory threw; the blocks are plugged as before, but what was in them is gone
   */
  unplug(first: number, blocks: number): boolean {
    const { blockSize } = this.#options;
    const [offset, size] = [first * blockSize, blocks * blockSize];
    if (!this.#discard(offset, size)) return false;
    this.discardManager.notifyDiscard(this.#source, offset, offset + size);
    this.#markUnplugged(first, blocks);
    try {
      this.#deactivate(offset, size);
    } catch (refused) {
      this.discardManager.notifyPopulate(this.#source, offset, offset + size);
      this.#markPlugged(first, blocks);
      throw refused;
    }
    return true;
  }

  /**
   * @returns false: the host refused, and nothing has changed
   * @throws what a listener of memory threw; nothing is plugged all the same, but memslots are mapped that have nothing in them, until
   *   `unmapEmpty`
   */
  unplugAll(): boolean {
    const size = Number(this.#options.backend.region.size);
    if (!this.#discard(0, size)) return false;
    this.discardManager.notifyDiscardAll();
    this.#bitmap.clear(0, this.#bitmap.blocks);
    this.#plugged = 0;
    this.#pluggedInMemslot.fill(0);
    this.unmapEmpty();
    return true;
  }

  /** Unmaps memslots that have nothing in them, which are mapped if somebody refused to have them unmapped. @throws as `unplugAll` */
  unmapEmpty(): void {
    this.#deactivate(0, Number(this.#options.backend.region.size));
  }

  #markPlugged(first: number, blocks: number): void {
    this.#bitmap.set(first, blocks);
    this.#plugged += blocks;
    this.#countInMemslots(first, blocks, 1);
  }

  #markUnplugged(first: number, blocks: number): void {
    this.#bitmap.clear(first, blocks);
    this.#plugged -= blocks;
    this.#countInMemslots(first, blocks, -1);
  }

  /** Everything that must have happened before blocks are marked plugged; undone if it fails. */
  #populate(offset: number, size: number): boolean {
    const { backend, preallocates } = this.#options;
    let isPopulated = !preallocates || (backend.memory.preallocate?.(offset, size) ?? 0) >= 0;
    if (isPopulated) {
      this.#activate(offset, size);
      isPopulated = this.discardManager.notifyPopulate(this.#source, offset, offset + size) === 0;
    }
    if (!isPopulated) {
      this.#discard(offset, size); // what preallocation or a listener touched
      this.#deactivate(offset, size);
    }
    return isPopulated;
  }

  /** Listeners that find the memslot register, and hear of what is plugged already; the notification that follows tells the rest. */
  #activate(offset: number, size: number): void {
    try {
      this.#memslots?.activate(offset, size);
    } catch (refused) {
      this.#discard(offset, size);
      throw refused;
    }
  }

  #discard(offset: number, size: number): boolean {
    return (this.#options.backend.memory.discard?.(offset, size) ?? 0) >= 0;
  }

  #deactivate(offset: number, size: number): void {
    this.#memslots?.deactivate(offset, size, (slot) => this.#pluggedInMemslot[slot]! > 0);
  }

  #countInMemslots(first: number, blocks: number, by: 1 | -1): void {
    if (this.#memslots === undefined) return;
    const perMemslot = this.#memslots.layout.memslotSize / this.#options.blockSize;
    let block = first;
    while (block < first + blocks) {
      const slot = Math.floor(block / perMemslot);
      const stop = Math.min(first + blocks, (slot + 1) * perMemslot);
      this.#pluggedInMemslot[slot]! += by * (stop - block);
      block = stop;
    }
  }
}
