/**
 * How long to look at rings instead of sleeping, after the last request of a busy driver.
 *
 * A driver that waits for each answer before it asks again kicks for every request, and we wake for every kick: several
 * times the cost of the request. Looking for a few microseconds saves both, if the next request comes that soon. To look
 * in vain costs as much, and takes a processor from whoever else could use it. So we look only for drivers whose next
 * request mostly comes soon, that is within the largest window; and not much longer than it took the slowest of late:
 *
 *     soon ...... one point more, and the window covers such a pause again
 *     late ...... two points less; without two points there is no window
 *
 * An idle driver costs nothing, and one that asks now and then nothing after its first few requests.
 *
 * Where processors are short, looking takes them from the driver itself: a guest's processors are threads like ours. A
 * look that takes far too long, because somebody else ran in between, ends looking for a while. So do threads that want to
 * run, if they are mostly more than there are processors; each time that has not changed, for twice as long.
 */
import { areProcessorsShort } from '../host/runnable-threads.ts';

const MAX_POINTS = 8;
const LEAST_POINTS = 2;
const LATE_COSTS = 2;
/** The window is so many times the longest pause of late, and as many milliseconds: pauses differ. */
const MARGIN = 1.5;
const MARGIN_MS = 0.004;
/** What the longest pause becomes with each shorter one. */
const FORGETTING = 7 / 8;
/** Milliseconds that waking up takes: a driver was that much earlier than we saw it. */
const WAKE_UP_MS = 0.05;
/** A few looks that take longer, and longer than the largest window, were interrupted by another thread's time slice. */
const INTERRUPTED_MS = 0.3;
/** Milliseconds without looking where it does not pay, at first. A slice is a few, so this bounds what looking takes. */
const PAUSE_MS = 100;
/** And at last. */
const MAX_PAUSE_MS = 3200;
/** While there is looking, processors are asked after so often, in milliseconds: a few microseconds each time. */
const ASK_MS = 2;
/** Answers to judge by, and how many of them may say that processors are short: a few always do. */
const ANSWERS = 16;
const MAX_SHORT = 4;

export class BusyPoll {
  readonly #maxMs: number;
  #points = 0;
  /** The longest pause of late among those that were short enough. */
  #longestMs = 0;
  #pausedUntil = 0;
  #pauseMs = PAUSE_MS;
  readonly #areProcessorsShort: () => boolean;
  #nextAsk = 0;
  #answers = 0;
  #short = 0;

  /**
   * @param maxMicros the longest window in microseconds; 0 for none, ever
   * @param areShort whether a thread waits for a processor just now
   */
  constructor(maxMicros: number, areShort: () => boolean = areProcessorsShort) {
    this.#areProcessorsShort = areShort;
    this.#maxMs = maxMicros / 1000;
  }

  /** Milliseconds to look at rings after their last request; 0 for not at all. */
  get windowMs(): number {
    return this.#points < LEAST_POINTS ? 0 : Math.min(this.#maxMs, MARGIN * this.#longestMs + MARGIN_MS);
  }

  /** A request came while we looked, so many milliseconds after the one before. */
  found(afterMs: number): void {
    this.#soon(afterMs);
  }

  /** A request came while we slept, so many milliseconds after the one before. */
  woken(afterMs: number, now: number): void {
    if (now < this.#pausedUntil) return;
    if (afterMs > this.#maxMs + WAKE_UP_MS) this.#points = Math.max(0, this.#points - LATE_COSTS);
    else this.#soon(Math.min(afterMs, this.#maxMs));
  }

  #soon(afterMs: number): void {
    this.#points = Math.min(MAX_POINTS, this.#points + 1);
    this.#longestMs = Math.max(afterMs, this.#longestMs * FORGETTING);
  }

  /** A few looks at rings took so many milliseconds. */
  looked(tookMs: number, now: number): void {
    if (tookMs >= Math.max(INTERRUPTED_MS, this.#maxMs)) this.#pause(now, PAUSE_MS);
    else if (now >= this.#nextAsk) this.#ask(now);
  }

  #ask(now: number): void {
    this.#nextAsk = now + ASK_MS;
    this.#answers += 1;
    if (this.#areProcessorsShort()) this.#short += 1;
    if (this.#answers < ANSWERS) return;
    const areShort = this.#short > MAX_SHORT;
    this.#answers = 0;
    this.#short = 0;
    if (areShort) this.#pause(now, this.#pauseMs);
    this.#pauseMs = areShort ? Math.min(MAX_PAUSE_MS, 2 * this.#pauseMs) : PAUSE_MS;
  }

  #pause(now: number, ms: number): void {
    this.#points = 0;
    this.#pausedUntil = Math.max(this.#pausedUntil, now + ms);
  }
}
