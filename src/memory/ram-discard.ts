/**
 * The contract between RAM that has holes and those who map it. A manager belongs to one RAM region; listeners hear of every
 * part that becomes usable, before it does, and may refuse, and of every part that stops being usable, after it did.
 */
import { MemoryError } from '../errors.ts';
import type { MemorySection } from './listener.ts';
import type { MemoryRegion } from './region.ts';

export interface RamDiscardListener {
  /** Before the memory becomes usable. @returns 0, or −errno: then those already told hear a discard of the same part */
  populate(section: MemorySection): number;
  /** After the memory stopped being usable. Cannot be refused. */
  discard(section: MemorySection): void;
  /** Everything is discarded: offered by listeners that want one call instead of one for each populated part. */
  discardAll?(section: MemorySection): void;
}

export interface RamDiscardManager {
  /** Every notification is aligned to this and a multiple of it, in bytes. */
  minGranularity(): bigint;
  /** Whether no part of `section` is discarded. */
  isPopulated(section: MemorySection): boolean;
  /** @returns 0, or what `replay` answered when it first was not 0; then no more calls were made */
  replayPopulated(section: MemorySection, replay: (section: MemorySection) => number): number;
  replayDiscarded(section: MemorySection, replay: (section: MemorySection) => number): number;
  /** Tells it at once of all populated parts of `section`. @returns 0 or −errno */
  registerListener(listener: RamDiscardListener, section: MemorySection): number;
  /** Tells it that all populated parts are discarded, then forgets it. */
  unregisterListener(listener: RamDiscardListener): void;
}

/** Whether a region may be given this manager, or lose its own. @throws {MemoryError} WRONG_KIND, DISCARD_MANAGER */
export function checkDiscardManager(region: MemoryRegion, manager: RamDiscardManager | undefined): void {
  if (!region.isRam) throw new MemoryError('WRONG_KIND', `${region.name} is not RAM`);
  if (region.isMapped) throw new MemoryError('DISCARD_MANAGER', `${region.name} is mapped`);
  if (manager !== undefined && region.discardManager !== undefined) {
    throw new MemoryError('DISCARD_MANAGER', `${region.name} has a discard manager`);
  }
}
