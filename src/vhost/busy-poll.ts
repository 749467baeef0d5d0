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
 *
 * Where processors are short, looking takes them from the driver itself: a guest's processors are threads like ours. Such
 * a shortage shows as looks that take far too long, because somebody else ran in between; then there is none for a while.
 */

/** The first window above nothing, as a part of the largest. */
const FIRST = 1 / 4;
/** Microseconds that waking up takes: a driver was that much earlier than we saw it. */
const WAKE_UP_US = 50;
/** A few looks that take longer, and longer than the largest window, were interrupted by another thread's time slice. */
const INTERRUPTED_MS = 0.3;
/** Milliseconds without looking where it does not pay. A slice is a few, so this bounds what looking takes from others. */
const PAUSE_MS = 100;

export class BusyPoll {
  readonly #maxMs: number;
  #windowMs = 0;
  #pausedUntil = 0;

  /** @param maxMicros the longest window in microseconds; 0 for none, ever */
  constructor(maxMicros: number) {
    this.#maxMs = maxMicros / 1000;
  }

  /** Milliseconds to look at rings after their last request; 0 for not at all. */
  get windowMs(): number {
    return this.#windowMs;
  }

  /** A request came while we slept, so many milliseconds after the one before. */
  woken(afterMs: number, now: number): void {
    if (now < this.#pausedUntil) return;
    const max = this.#maxMs;
    const window = this.#windowMs;
    if (afterMs <= max + WAKE_UP_US / 1000)
      this.#windowMs = Math.min(max, window === 0 ? FIRST * max : 2 * window);
    else this.#windowMs = window <= FIRST * max ? 0 : window / 2;
  }

  /** A few looks at rings took so many milliseconds. */
  looked(tookMs: number, now: number): void {
    if (tookMs < Math.max(INTERRUPTED_MS, this.#maxMs)) return;
    this.#windowMs = 0;
    this.#pausedUntil = now + PAUSE_MS;
  }
}
