/** Guest memory without files: regions of one piece of native memory, for tests of what only asks where bytes are. */
import { viewOf } from '../../src/host/mapping.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import type { QueueMemory } from '../../src/virtio/virtqueue.ts';

interface PaperRegion {
  readonly gpa: number;
  readonly size: number;
}

/**
 * Regions lie in the memory one after another in the order given, whatever their guest addresses.
 * Its words come in windows of `window` bytes, as an arena's views do.
 */
export class PaperMemory implements QueueMemory {
  /** All of it, in the order of the regions. */
  readonly bytes: Uint8Array;
  readonly dirty: { readonly gpa: number; readonly size: number }[] = [];
  isLogging = false;
  lastAddress = 0;
  lastWordsAddress = 0;
  readonly #native: NativeMemory;
  readonly #window: number;
  #regions: readonly (PaperRegion & { readonly offset: number })[] = [];

  constructor(regions: readonly PaperRegion[], window = 1 << 20) {
    this.#native = NativeMemory.allocate(regions.reduce((sum, region) => sum + region.size, 0));
    this.bytes = this.#native.u8;
    this.#window = window;
    this.layOut(regions);
  }

  /** Other regions over the same memory, which is not cleared. */
  layOut(regions: readonly PaperRegion[]): void {
    let offset = 0;
    this.#regions = regions.map((region) => ({ ...region, offset: (offset += region.size) - region.size }));
  }

  translate(gpa: number, size: number): number {
    const region = this.#regions.find((r) => gpa >= r.gpa && gpa < r.gpa + r.size);
    if (region === undefined) return 0;
    this.lastAddress = this.#native.address + region.offset + (gpa - region.gpa);
    return Math.min(size, region.gpa + region.size - gpa);
  }

  /** Host address of a guest physical address that is mapped. */
  addressOf(gpa: number): number {
    this.translate(gpa, 1);
    return this.lastAddress;
  }

  wordsAround(address: number): Uint32Array {
    const { address: base, size, u32 } = this.#native;
    const start = Math.floor((address - base) / this.#window) * this.#window;
    this.lastWordsAddress = base + start;
    return u32.subarray(start / 4, Math.min(start + this.#window, size) / 4);
  }

  ringView(address: number, size: number): DataView<ArrayBuffer> {
    return new DataView(viewOf(address, size));
  }

  markDirty(gpa: number, size: number): void {
    this.dirty.push({ gpa, size });
  }
}
