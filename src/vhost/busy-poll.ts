/**
 * How long to look at rings instead of sleeping, after the last request of a busy driver.
 *
 * A driver that waits for each answer before it asks again kicks for every request, and we wake for every kick: several
 * times the cost of the request. Looking for a few microseconds saves both, if the next request comes that soon.
 * So the window follows the driver:
 *
 *     next request came within the window ............ as it is
 *     … later, but a full window would have caught it  twice as long, up to what the operator allows
 *     … later than that ............................... half as long, soon nothing
 *
 * An idle driver costs nothing, and one that asks now and then nothing after its first few requests.
 */

/** The first window above nothing, as a part of the largest. */
const FIRST = 1 / 4;
/** Microseconds that waking up takes: a driver was that much earlier than we saw it. */
const WAKE_UP_US = 50;

export class BusyPoll {
  readonly #maxMs: number;
  #windowMs = 0;

  /** @param maxMicros the longest window in microseconds; 0 for none, ever */
  constructor(maxMicros: number) {
    this.#maxMs = maxMicros / 1000;
  }

  /** Milliseconds to look at rings after their last request; 0 for not at all. */
  get windowMs(): number {
    return this.#windowMs;
  }

  /** A request came while we slept, so many milliseconds after the one before. */
  woken(afterMs: number): void {
    const max = this.#maxMs;
    const window = this.#windowMs;
    if (afterMs <= max + WAKE_UP_US / 1000)
      this.#windowMs = Math.min(max, window === 0 ? FIRST * max : 2 * window);
    else this.#windowMs = window <= FIRST * max ? 0 : window / 2;
  }
}
