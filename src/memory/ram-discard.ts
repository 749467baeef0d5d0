/**
 * The contract between RAM that has holes and those who map it. A manager belongs to one RAM region; listeners hear of every
 * part that becomes usable, before it does, and may refuse, and of every part that stops being usable, after it did.
 */
import type { MemorySection } from './listener.ts';

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
