/** Chains the device has kept: which ones, and what is needed to give them back when their `Chain` is long reused. */
import type { Chain } from '../virtio/chain.ts';

/** What marks guest pages dirty; `GuestMemory` does. */
interface DirtyLog {
  markDirty(gpa: number, size: number): void;
}
/** What takes results; `Virtqueue` does. */
interface UsedRing {
  pushUsed(head: number, written: number): void;
}

/** The writable segments of a deferred chain: for the dirty log, at its completion. */
interface Kept {
  readonly gpa: Float64Array;
  readonly length: Float64Array;
}

interface OfRing {
  readonly chains: Map<number, Kept>;
  /** Results of chains that were completed while the ring's memory was away: head, bytes written. */
  readonly postponed: (readonly [number, number])[];
}

export class DeferredChains {
  readonly #rings: OfRing[] = [];
  #taken: Kept | undefined;
  #total = 0;

  /** Chains deferred now, of all rings. */
  get total(): number {
    return this.#total;
  }

  /** Whether a ring has deferred chains, or results it was not given yet. */
  hasAny(ring: number): boolean {
    const of = this.#rings[ring];
    return of !== undefined && (of.chains.size > 0 || of.postponed.length > 0);
  }

  add(ring: number, chain: Chain): void {
    const start = chain.readableCount;
    const end = start + chain.writableCount;
    const kept = { gpa: chain.gpa.slice(start, end), length: chain.length.slice(start, end) };
    const { chains } = this.#of(ring);
    if (!chains.has(chain.head)) this.#total += 1; // a driver may offer one chain twice
    chains.set(chain.head, kept);
  }

  /** @returns false if there is no such chain */
  take(ring: number, head: number): boolean {
    this.#taken = this.#rings[ring]?.chains.get(head);
    if (this.#taken === undefined) return false;
    this.#of(ring).chains.delete(head);
    this.#total -= 1;
    return true;
  }

  /** Marks what was written into the chain taken last. */
  logTaken(log: DirtyLog, written: number): void {
    let left = written;
    const { gpa, length } = this.#taken ?? { gpa: [], length: [] };
    for (let i = 0; i < gpa.length && left > 0; i += 1) {
      const size = Math.min(left, length[i]!);
      log.markDirty(gpa[i]!, size);
      left -= size;
    }
  }

  postpone(ring: number, head: number, written: number): void {
    this.#of(ring).postponed.push([head, written]);
  }

  /** Gives back what was postponed. */
  flush(ring: number, queue: UsedRing): void {
    const postponed = this.#rings[ring]?.postponed;
    if (postponed === undefined || postponed.length === 0) return;
    for (const [head, written] of postponed.splice(0)) queue.pushUsed(head, written);
  }

  /** Forgets all of a ring. @returns how many chains had not been completed */
  forget(ring: number): number {
    const of = this.#rings[ring];
    if (of === undefined) return 0;
    const left = of.chains.size;
    of.chains.clear();
    of.postponed.length = 0;
    this.#total -= left;
    return left;
  }

  #of(ring: number): OfRing {
    return (this.#rings[ring] ??= { chains: new Map(), postponed: [] });
  }
}
