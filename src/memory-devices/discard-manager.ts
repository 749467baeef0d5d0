/**
 * Coordinates who uses a RAM region that has holes: the sources say what is there, the listeners hear what comes and goes.
 *
 * There may be several sources: a byte is populated if it is in all of them, and discarded if any of them discards it. Listeners hear
 * only of changes of that result.
 *
 *     source A   ████████░░░░████      what A populates
 *     source B   ░░░░████████████
 *     listeners  ░░░░████░░░░████
 */
import { MemoryDeviceError } from '../errors.ts';
import { intersectSection, type MemorySection } from '../memory/listener.ts';
import type { RamDiscardListener, RamDiscardManager } from '../memory/ram-discard.ts';
import type { DiscardSource, Run } from './discard-source.ts';

interface Registered {
  readonly listener: RamDiscardListener;
  readonly section: MemorySection;
}

export class DiscardManager implements RamDiscardManager {
  readonly #sources: DiscardSource[];
  /** The newest first, the order in which they are told. */
  readonly #listeners: Registered[] = [];

  constructor(...sources: readonly DiscardSource[]) {
    this.#sources = [...sources];
  }

  /** Whether anybody listens. */
  get hasListeners(): boolean {
    return this.#listeners.length > 0;
  }

  minGranularity(): bigint {
    return BigInt(Math.min(...this.#sources.map(({ granularity }) => granularity)));
  }

  isPopulated(section: MemorySection): boolean {
    const { start, end } = runOf(section);
    const run = nextPopulated(this.#sources, start, end);
    return run !== undefined && run.start === start && run.end === end;
  }

  replayPopulated(section: MemorySection, replay: (section: MemorySection) => number): number {
    return forEachPopulated(this.#sources, section, replay);
  }

  replayDiscarded(section: MemorySection, replay: (section: MemorySection) => number): number {
    const { start, end } = runOf(section);
    let at = start;
    while (at < end) {
      const run = nextPopulated(this.#sources, at, end);
      const stop = run === undefined ? end : run.start;
      const answer = stop > at ? replay(pieceOf(section, { start: at, end: stop })) : 0;
      if (answer !== 0) return answer;
      at = run === undefined ? end : run.end;
    }
    return 0;
  }

  /**
   * Tells the listener at once of everything populated in `section`. If it objects, it hears no more of what is there now, but stays
   * registered: unregister it.
   *
   * @throws {MemoryDeviceError} NOT_PLUGGED if it is registered already
   */
  registerListener(listener: RamDiscardListener, section: MemorySection): number {
    if (this.#listeners.some((entry) => entry.listener === listener))
      throw new MemoryDeviceError('NOT_PLUGGED', 'the discard listener is registered already');
    this.#listeners.unshift({ listener, section });
    return forEachPopulated(this.#sources, section, (piece) => listener.populate(piece));
  }

  /** @throws {MemoryDeviceError} NOT_PLUGGED if it is not registered */
  unregisterListener(listener: RamDiscardListener): void {
    const index = this.#listeners.findIndex((entry) => entry.listener === listener);
    const entry = this.#listeners[index];
    if (entry === undefined)
      throw new MemoryDeviceError('NOT_PLUGGED', 'the discard listener is not registered');
    discardEverything(this.#sources, entry);
    this.#listeners.splice(index, 1);
  }

  /**
   * One more reason for memory not to be there. What it does not populate is discarded now.
   *
   * The listeners were promised a granularity when they registered, so it must not be finer than what there is if anybody listens.
   *
   * @throws {MemoryDeviceError} BAD_PROPERTY
   */
  addSource(source: DiscardSource): void {
    if (this.hasListeners && BigInt(source.granularity) < this.minGranularity())
      throw new MemoryDeviceError(
        'BAD_PROPERTY',
        'the new source is finer than what listeners were promised',
      );
    const before = [...this.#sources];
    for (const entry of this.#listeners) {
      forEachPopulated(before, entry.section, (piece) => {
        const { start, end } = runOf(piece);
        forEachGap(source, start, end, (gap) => {
          entry.listener.discard(pieceOf(piece, gap));
        });
        return 0;
      });
    }
    this.#sources.push(source);
  }

  /** Takes a source out. What only it did not populate is populated now. @returns 0, or −errno and nothing has changed */
  removeSource(source: DiscardSource): number {
    const others = this.#sources.filter((other) => other !== source);
    const answer = this.#populate((entry) => {
      const runs: Run[] = [];
      forEachPopulated(others, entry.section, (piece) => {
        const { start, end } = runOf(piece);
        forEachGap(source, start, end, (gap) => runs.push(gap));
        return 0;
      });
      return runs;
    });
    if (answer === 0) this.#sources.splice(this.#sources.indexOf(source), 1);
    return answer;
  }

  /**
   * A source is about to populate [start, end), which it has not populated so far.
   *
   * @returns 0, or what the listener answered that objected: those told before it have heard a discard of the same parts again
   */
  notifyPopulate(source: DiscardSource, start: number, end: number): number {
    return this.#listeners.length === 0
      ? 0
      : this.#populate(({ section }) => this.#runsOfOthers(source, section, start, end));
  }

  /** A source has discarded [start, end); until now it had populated all of it. */
  notifyDiscard(source: DiscardSource, start: number, end: number): void {
    for (const { listener, section } of this.#listeners) {
      for (const run of this.#runsOfOthers(source, section, start, end))
        listener.discard(pieceOf(section, run));
    }
  }

  /** A source is about to discard all it has: called while it still says what that is. */
  notifyDiscardAll(): void {
    for (const entry of this.#listeners) discardEverything(this.#sources, entry);
  }

  /** The parts of [start, end) and `section` that are populated as far as all other sources are concerned. */
  #runsOfOthers(source: DiscardSource, section: MemorySection, start: number, end: number): Run[] {
    const whole = runOf(section);
    const from = Math.max(start, whole.start);
    const to = Math.min(end, whole.end);
    if (from >= to) return [];
    const others = this.#sources.filter((other) => other !== source);
    return populatedRuns(others, from, to);
  }

  #populate(runsFor: (entry: Registered) => readonly Run[]): number {
    const told: { readonly entry: Registered; readonly run: Run }[] = [];
    for (const entry of this.#listeners) {
      for (const run of runsFor(entry)) {
        const answer = entry.listener.populate(pieceOf(entry.section, run));
        if (answer !== 0) {
          for (const { entry: earlier, run: part } of told)
            earlier.listener.discard(pieceOf(earlier.section, part));
          return answer;
        }
        told.push({ entry, run });
      }
    }
    return 0;
  }
}

function discardEverything(sources: readonly DiscardSource[], { listener, section }: Registered): void {
  if (listener.discardAll !== undefined) {
    listener.discardAll(section);
    return;
  }
  forEachPopulated(sources, section, (piece) => {
    listener.discard(piece);
    return 0;
  });
}

/** The bytes of the region that a section shows. RAM regions are smaller than 2^53 bytes. */
const runOf = ({ offsetWithinRegion, size }: MemorySection): Run => ({
  start: Number(offsetWithinRegion),
  end: Number(offsetWithinRegion + size),
});

/** The part of a section that shows these bytes of the region. */
function pieceOf(section: MemorySection, { start, end }: Run): MemorySection {
  const at = section.offsetWithinAddressSpace + (BigInt(start) - section.offsetWithinRegion);
  return intersectSection(section, at, BigInt(end - start)) ?? section;
}

/** The first run of [start, end) that all sources populate; without a source that is everything. */
function nextPopulated(sources: readonly DiscardSource[], start: number, end: number): Run | undefined {
  let run: Run = { start, end };
  for (let agreeing = 0, i = 0; agreeing < sources.length; i = (i + 1) % sources.length) {
    const next = sources[i]!.nextPopulated(run.start, end);
    if (next === undefined) return undefined;
    if (next.start === run.start) agreeing += 1;
    else agreeing = 1;
    run = { start: next.start, end: next.start === run.start ? Math.min(run.end, next.end) : next.end };
  }
  return run.start < run.end ? run : undefined;
}

function populatedRuns(sources: readonly DiscardSource[], start: number, end: number): Run[] {
  const runs: Run[] = [];
  let run = nextPopulated(sources, start, end);
  while (run !== undefined) {
    runs.push(run);
    run = run.end < end ? nextPopulated(sources, run.end, end) : undefined;
  }
  return runs;
}

function forEachPopulated(
  sources: readonly DiscardSource[],
  section: MemorySection,
  call: (piece: MemorySection) => number,
): number {
  const { start, end } = runOf(section);
  let run = nextPopulated(sources, start, end);
  while (run !== undefined) {
    const answer = call(pieceOf(section, run));
    if (answer !== 0) return answer;
    run = run.end < end ? nextPopulated(sources, run.end, end) : undefined;
  }
  return 0;
}

function forEachGap(source: DiscardSource, start: number, end: number, call: (gap: Run) => void): void {
  let at = start;
  while (at < end) {
    const run = source.nextPopulated(at, end);
    const stop = run === undefined ? end : run.start;
    if (stop > at) call({ start: at, end: stop });
    at = run === undefined ? end : run.end;
  }
}
