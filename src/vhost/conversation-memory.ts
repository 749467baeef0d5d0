/** The memory table a back-end has after each message, as a reader of the conversation knows it. */
import type { MemoryRegionDescription } from '../../protocol/vhost-user-payloads.ts';
import { hex } from '../units.ts';

/** Slots that follow each other without a gap. */
interface AddressRange {
  readonly start: bigint;
  readonly size: bigint;
  readonly slots: number;
}

export interface MemorySnapshot {
  readonly slots: number;
  /** Slots the back-end allows; undefined if it was not asked. */
  readonly limit: number | undefined;
  readonly bytes: bigint;
  /** In address order. */
  readonly ranges: readonly AddressRange[];
}

export class MemoryTimeline {
  /** In address order. */
  #slots: MemoryRegionDescription[] = [];
  #mostSlots = 0;
  limit: number | undefined;

  /** Most slots at any time. */
  get highWater(): number {
    return this.#mostSlots;
  }

  /** @returns what is wrong with the region, if something is */
  add(region: MemoryRegionDescription): string | undefined {
    const at = this.#lowerBound(region.guestPhysAddr);
    const [before, after] = [this.#slots[at - 1], this.#slots[at]];
    const overlapped =
      after !== undefined && after.guestPhysAddr < endOf(region)
        ? after
        : before !== undefined && endOf(before) > region.guestPhysAddr
          ? before
          : undefined;
    this.#slots.splice(at, 0, region);
    this.#mostSlots = Math.max(this.#mostSlots, this.#slots.length);
    if (overlapped !== undefined) return `${show(region)} overlaps ${show(overlapped)}`;
    if (this.limit !== undefined && this.#slots.length > this.limit)
      return `${this.#slots.length} slots, the limit is ${this.limit}`;
    return undefined;
  }

  /** By guest address, size and user address, as QEMU means it, or by the first two. @returns what is wrong with it */
  remove(region: MemoryRegionDescription): string | undefined {
    const isSame = (slot: MemoryRegionDescription): boolean =>
      slot.guestPhysAddr === region.guestPhysAddr && slot.memorySize === region.memorySize;
    let at = this.#slots.findIndex((slot) => isSame(slot) && slot.userspaceAddr === region.userspaceAddr);
    if (at < 0) at = this.#slots.findIndex(isSame);
    if (at < 0) return `${show(region)} is not in the table`;
    this.#slots.splice(at, 1);
    return undefined;
  }

  /** SET_MEM_TABLE. @returns what is wrong with it */
  replace(regions: readonly MemoryRegionDescription[]): string | undefined {
    this.#slots = [];
    return regions.map((region) => this.add(region)).find((wrong) => wrong !== undefined);
  }

  snapshot(): MemorySnapshot {
    const ranges: { start: bigint; size: bigint; slots: number }[] = [];
    let bytes = 0n;
    for (const slot of this.#slots) {
      bytes += slot.memorySize;
      const last = ranges.at(-1);
      if (last !== undefined && last.start + last.size === slot.guestPhysAddr) {
        last.size += slot.memorySize;
        last.slots += 1;
      } else ranges.push({ start: slot.guestPhysAddr, size: slot.memorySize, slots: 1 });
    }
    return { slots: this.#slots.length, limit: this.limit, bytes, ranges };
  }

  #lowerBound(gpa: bigint): number {
    let [low, high] = [0, this.#slots.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#slots[middle]!.guestPhysAddr < gpa) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const endOf = (region: MemoryRegionDescription): bigint => region.guestPhysAddr + region.memorySize;
const show = (region: MemoryRegionDescription): string =>
  `region ${hex(region.guestPhysAddr)}+${hex(region.memorySize)}`;
