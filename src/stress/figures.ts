/** What a run counts. */

/** Durations, the last ones of which are kept for the median. */
export class Durations {
  static readonly #KEPT = 65_536;
  readonly #micros = new Float64Array(Durations.#KEPT);
  #count = 0;

  /** @param ms milliseconds */
  add(ms: number): void {
    this.#micros[this.#count % Durations.#KEPT] = ms * 1000;
    this.#count += 1;
  }

  get count(): number {
    return this.#count;
  }

  /** Microseconds, rounded to tenths; absent if there were none. */
  summary(): { readonly count: number; readonly medianMicros?: number; readonly p99Micros?: number } {
    if (this.#count === 0) return { count: 0 };
    const sorted = this.#micros.slice(0, Math.min(this.#count, Durations.#KEPT)).sort();
    const at = (share: number): number =>
      Math.round(10 * sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!) / 10;
    return { count: this.#count, medianMicros: at(0.5), p99Micros: at(0.99) };
  }
}

export class Figures {
  /** Changes of memory that bring or take one memslot. */
  readonly map = new Durations();
  readonly unmap = new Durations();
  /** Changes of modules and virtio-mem sizes. */
  readonly other = new Durations();
  /** Requests of the file system that carry data. */
  readonly write = new Durations();
  readonly read = new Durations();
  /** Reads that were on their way during a change of memory. */
  overlapping = 0;
  mostRegions = 0;
  pauses = 0;
  reboots = 0;
  restarts = 0;
  /** Regions beyond the limit that were asked for. */
  beyond = 0;

  /** Memory plugged and unplugged, however. */
  get changes(): number {
    return this.map.count + this.unmap.count + this.other.count;
  }

  toJSON() {
    const { changes, overlapping, mostRegions, pauses, reboots, restarts, beyond } = this;
    return {
      changes,
      map: this.map.summary(),
      unmap: this.unmap.summary(),
      modulesAndVirtioMem: this.other.summary(),
      write: this.write.summary(),
      read: this.read.summary(),
      readsDuringChanges: overlapping,
      mostRegions,
      pauses,
      reboots,
      restarts,
      beyond,
    };
  }
}
