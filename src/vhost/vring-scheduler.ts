/**
 * Serves the vrings of a session, fairly: a turn is so many chains, and between turns the socket and the other rings
 * have theirs. Chains go to the device one by one; results are published in small batches and called for once a turn.
 *
 * Nothing is allocated per chain, except for one the device defers.
 */
import { GuestError } from '../errors.ts';
import type { ReachableMemory } from '../guest-memory/reachable-memory.ts';
import { monotonicMs } from '../host/clock.ts';
import type { Log } from '../log.ts';
import { Chain, logWritten } from '../virtio/chain.ts';
import type { Virtqueue } from '../virtio/virtqueue.ts';
import { BusyPoll } from './busy-poll.ts';
import { DeferredChains } from './deferred-chains.ts';
import { DEFERRED, type CompleteChain, type VhostDevice } from './device.ts';
import type { Vring } from './vring.ts';

/** Chains of one turn. */
const TURN = 256;
/** Results published together; a driver that polls sees them early enough. */
const PUBLISH_EVERY = 8;
/** Bytes moved after which results are published at once. */
const PUBLISH_BYTES = 32 * 1024;
/** Milliseconds between looks at deferred chains, and at rings without a kick while they are idle. */
const RETRY_MS = 2;
const POLL_MS = 1;
/** Answers of a turn after which the driver is called early, at least: half of what it asked, so that it works while we do. */
const EARLY_MIN = 2;
/**
 * Bytes after which it is called again, if it mostly comes back soon and processors are not short: the few requests of this
 * size that may be under way take no longer than waking up.
 */
const EARLY_BYTES = 128 * 1024;
/** Not after requests larger than this: one alone takes as long. */
const EARLY_MAX_REQUEST = 256 * 1024;
/** Looks at empty rings between two looks at the clock. */
const LOOKS = 16;
/** Chains and glances until the clock is looked at again, however soon the next one comes: that takes a tenth of a small request. */
const UNTIMED = 16;
/** Milliseconds after which kicks of other rings, and the socket, are looked for however busy the polled rings are. */
const MAX_RUN_MS = 0.2;
/** Turns after which the device is asked to keep up although there is more to do. */
const RUNS_UNTIL_UPKEEP = 64;

interface Options {
  readonly device: VhostDevice;
  readonly memory: ReachableMemory;
  readonly log: Log;
  /** Signalled after pages were marked dirty. */
  readonly logCall: { signal(): void };
  /** See `BackendOptions`. */
  readonly pollMicros: number;
  readonly vringAt: (index: number) => Vring | undefined;
  /** True if the thread is wanted for something else: a turn then ends early. */
  readonly isWanted?: (() => boolean) | undefined;
}

export class VringScheduler {
  readonly #device: VhostDevice;
  readonly #memory: ReachableMemory;
  readonly #log: Log;
  readonly #logCall: { signal(): void };
  readonly #vringAt: (index: number) => Vring | undefined;
  readonly #chain = new Chain();
  readonly #deferred = new DeferredChains();
  readonly #complete: CompleteChain = (index, head, written) => this.#completed(index, head, written);
  #ready: Vring[] = [];
  /** The other list of `#ready`: the two change places each round. */
  #next: Vring[] = [];
  readonly #busyPoll: BusyPoll;
  /** Rings that ran empty, whose drivers were not asked to kick: see `#rest`. */
  #awake: Vring[] = [];
  /** A driver that waits for answers has had some since this was last looked at. */
  #hasAnswered = false;
  /** When the last of those was, as far as we have noticed. */
  #idleSince = 0;
  /** Chains served, and glances, since the clock was looked at. */
  #untimed = 0;
  #isAsleep = false;
  #nextRetry = 0;
  #runs = 0;
  /** Some of what is deferred wants to be tried again now and then. */
  #isRetrying = false;
  readonly #isWanted: () => boolean;
  /** LOG_ALL was negotiated and there is a log. */
  isLogging = false;

  constructor({ device, memory, log, logCall, pollMicros, vringAt, isWanted }: Options) {
    this.#isWanted = isWanted ?? (() => false);
    this.#busyPoll = new BusyPoll(pollMicros);
    this.#device = device;
    this.#memory = memory;
    this.#log = log;
    this.#logCall = logCall;
    this.#vringAt = vringAt;
  }

  /** The ring was kicked, or may have become servable: it gets a turn if so. */
  schedule(vring: Vring): void {
    if (vring.isReady || !vring.isServable) return;
    vring.isReady = true;
    this.#ready.push(vring);
  }

  /**
   * A turn for each ready ring, and a look at what is deferred; then, if that pays, a while of looking for more. Only
   * then are drivers asked to kick.
   *
   * @returns milliseconds until this wants to be called again: 0 at once, −1 not before something happens
   */
  run(): number {
    const began = this.#isAsleep ? this.#wake() : monotonicMs();
    this.#runs = (this.#runs + 1) % RUNS_UNTIL_UPKEEP;
    if (this.#runs === 0) this.#device.upkeep?.(monotonicMs());
    this.#untimed = 0;
    for (;;) {
      const wait = this.#round();
      if (wait === 0) return 0;
      if (this.#awake.length === 0 && !this.#hasAnswered) return this.#keepUp(wait);
      if (this.#untimed < UNTIMED && this.#glance()) continue;
      this.#untimed = 0;
      const now = monotonicMs();
      if (this.#hasAnswered) this.#idleSince = now;
      this.#hasAnswered = false;
      if (this.#awake.length > 0) {
        if (now - began > MAX_RUN_MS) return 0;
        if (!this.#isWanted() && this.#look(now)) continue;
        if (this.#isWanted() || this.#rest()) return 0;
      }
      this.#isAsleep = true;
      return this.#keepUp(wait);
    }
  }

  /** Has the device do what it has put off. @param wait milliseconds to sleep, −1 for ever. @returns the same, or less */
  #keepUp(wait: number): number {
    if (this.#device.upkeep === undefined) return wait;
    const until = this.#device.upkeep(monotonicMs());
    return until < 0 || (wait >= 0 && wait < until) ? wait : Math.ceil(until);
  }

  /** Judges the sleep that a request has ended, if one has. @returns the time */
  #wake(): number {
    const now = monotonicMs();
    if (!this.#isWaitedForAny()) return now;
    this.#isAsleep = false;
    this.#busyPoll.woken(now - this.#idleSince, now);
    return now;
  }

  #round(): number {
    if (this.#underWay() > 0) this.#completeReady();
    const round = this.#ready;
    this.#ready = this.#next;
    let isPolling = false;
    let isIdle = true;
    for (let i = 0; i < round.length; i += 1) {
      const vring = round[i]!;
      vring.isReady = false;
      if (!vring.isServable) continue;
      const hasMore = this.#turn(vring);
      if (vring.isPolled && vring.isServable) {
        isPolling = true;
        isIdle &&= !hasMore;
        this.schedule(vring);
      } else if (hasMore) {
        isIdle = false;
        this.schedule(vring);
      }
    }
    // Setting the length would call into V8's runtime.
    while (round.length > 0) round.pop();
    this.#next = round;
    const retry = this.#retryDeferred();
    if (this.#ready.length > 0 && !(isPolling && isIdle)) return 0;
    return isPolling ? POLL_MS : retry;
  }

  /**
   * A few looks at the rings that are awake, if there is a window: what comes so soon is not worth asking when it came.
   *
   * @returns true if some are ready
   */
  #glance(): boolean {
    if (!this.#hasAnswered || this.#isWanted() || this.#busyPoll.windowMs === 0) return false;
    if (!this.#lookAround()) return false;
    this.#untimed += 1;
    if (this.#isWaitedForAny()) this.#busyPoll.found(0);
    return true;
  }

  /** @returns true if some are ready */
  #lookAround(): boolean {
    const awake = this.#awake;
    for (let look = 0; look < LOOKS && this.#ready.length === 0; look += 1) {
      if (this.#underWay() > 0) this.#completeReady();
      for (let i = 0; i < awake.length; i += 1)
        if (awake[i]!.openQueue()?.hasArrivals) this.schedule(awake[i]!);
    }
    return this.#ready.length > 0;
  }

  /**
   * Looks at the rings that are awake until one has requests, or the window is over.
   *
   * @returns true if some are ready
   */
  #look(now: number): boolean {
    const end = this.#idleSince + this.#busyPoll.windowMs;
    for (let time = now; time < end;) {
      const isReady = this.#lookAround();
      const before = time;
      time = monotonicMs();
      this.#busyPoll.looked(time - before, time);
      if (isReady) {
        if (this.#isWaitedForAny()) this.#busyPoll.found(time - this.#idleSince);
        return true;
      }
      if (this.#isWanted()) return false;
    }
    return false;
  }

  /** Asks the drivers of the rings that are awake to kick. @returns true if requests came before they could see that */
  #rest(): boolean {
    for (let vring = this.#awake.pop(); vring !== undefined; vring = this.#awake.pop()) {
      vring.isAwake = false;
      if (vring.isServable && vring.openQueue()?.enableNotifications()) this.schedule(vring);
    }
    return this.#ready.length > 0;
  }

  /**
   * What the kernel works on. May be more than what is deferred: a driver that offers a chain twice has it forgotten
   * when the first of the two is answered, and the kernel still writes for the second.
   */
  #underWay(): number {
    return this.#device.completions?.count ?? 0;
  }

  #completeReady(): void {
    this.#device.completions?.run(this.#complete);
  }

  /** Regions are about to go: waits until the kernel has finished with guest memory. */
  settle(): void {
    if (this.#underWay() > 0) this.#device.completions?.settle(this.#complete);
  }

  /** The ring is stopped or reset: its deferred chains are completed first. */
  drain(vring: Vring): void {
    if (this.#underWay() === 0 && !this.#deferred.hasAny(vring.index)) return;
    this.#device.drain?.(vring.index, this.#complete);
    // A ring whose memory is away cannot be told; the next one to be set up here has never heard of these chains.
    const queue = vring.openQueue();
    if (queue !== undefined) this.#deferred.flush(vring.index, queue);
    const left = this.#deferred.forget(vring.index);
    if (left > 0) this.#log.error({ vring: vring.index, chains: left }, 'vhost_vring_not_drained');
  }

  /** Answers a chain that breaks the rules. @returns bytes written */
  reject(vring: Vring, chain: Chain): number {
    const written = this.#device.reject?.(vring.index, chain) ?? 0;
    if (this.isLogging && written > 0) logWritten(this.#memory, chain, written);
    this.#log.debug(
      { vring: vring.index, head: chain.head, fault: chain.fault, gpa: chain.faultGpa },
      'virtqueue_bad_chain',
    );
    return written;
  }

  /** @returns true if the ring has more to serve */
  #turn(vring: Vring): boolean {
    const queue = vring.openQueue();
    if (queue === undefined) return false;
    this.#chain.reserve(queue.maxSegments);
    try {
      this.#deferred.flush(vring.index, queue);
      return this.#serve(vring, queue);
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      vring.breakDown(error);
      this.drain(vring);
      return false;
    } finally {
      if (this.#underWay() > 0) this.#device.completions?.submit();
      queue.publish();
      if (queue.needsCall()) vring.call.signal();
      if (this.isLogging) this.#logCall.signal();
    }
  }

  #serve(vring: Vring, queue: Virtqueue): boolean {
    const chain = this.#chain;
    const device = this.#device;
    const { index } = vring;
    const rejectedBefore = queue.rejected;
    let left = TURN;
    let bytes = 0;
    let uncalled = 0;
    const earlyBytes = this.#busyPoll.windowMs > 0 ? EARLY_BYTES : Infinity;
    const early = left - Math.max(EARLY_MIN, queue.arrivals >> 1);
    queue.disableNotifications();
    while (left > 0 && queue.pop(chain)) {
      left -= 1;
      const written = device.handle(index, chain);
      if (written === DEFERRED) {
        this.#deferred.add(index, chain);
        this.#isRetrying = true;
        continue;
      }
      if (this.isLogging) logWritten(this.#memory, chain, written);
      queue.pushUsed(chain.head, written);
      const moved = chain.readableBytes + written;
      bytes += moved;
      uncalled += moved;
      if (left === early || (uncalled >= earlyBytes && moved <= EARLY_MAX_REQUEST)) {
        queue.publish();
        if (queue.needsCall()) vring.call.signal();
        uncalled = 0;
      }
      if (queue.unpublished < PUBLISH_EVERY && bytes < PUBLISH_BYTES) continue;
      queue.publish();
      bytes = 0;
      if (this.#awake.length > 0 && this.#isWaitedFor(vring)) this.#serveInBetween();
      if (this.#isWanted()) return true;
    }
    queue.publish();
    if (left <= 0 || queue.rejected - rejectedBefore >= TURN) return true;
    this.#untimed += TURN - left + queue.rejected - rejectedBefore;
    if (left < TURN && this.#isWaitedFor(vring)) this.#hasAnswered = true;
    if (vring.isPolled) return left < TURN;
    // The driver is asked to kick when there is nothing else to do: see `#rest`.
    if (!vring.isAwake) this.#awake.push(vring);
    vring.isAwake = true;
    return false;
  }

  /** Rings that nobody waits for, between the chains of another: a driver that has filled one may wait after all. */
  #serveInBetween(): void {
    for (let i = 0; i < this.#awake.length; i += 1) {
      const vring = this.#awake[i]!;
      if (!this.#isWaitedFor(vring) && vring.isServable && vring.openQueue()?.hasArrivals) this.#turn(vring);
    }
  }

  /** Whether one of the rings that are ready is. */
  #isWaitedForAny(): boolean {
    for (let i = 0; i < this.#ready.length; i += 1) if (this.#isWaitedFor(this.#ready[i]!)) return true;
    return false;
  }

  #isWaitedFor(vring: Vring): boolean {
    return this.#device.isWaitedFor?.(vring.index) ?? true;
  }

  #retryDeferred(): number {
    if (!this.#isRetrying || this.#deferred.total === 0 || this.#device.retryDeferred === undefined)
      return -1;
    const now = monotonicMs();
    if (now >= this.#nextRetry) {
      this.#nextRetry = now + RETRY_MS;
      this.#isRetrying = this.#device.retryDeferred(this.#complete);
      if (!this.#isRetrying || this.#deferred.total === 0) return -1;
    }
    return Math.max(1, Math.ceil(this.#nextRetry - now));
  }

  #completed(index: number, head: number, written: number): void {
    const vring = this.#vringAt(index);
    if (vring === undefined || !this.#deferred.take(index, head)) {
      this.#log.debug({ vring: index, head }, 'vhost_complete_unknown_chain');
      return;
    }
    if (this.isLogging) this.#deferred.logTaken(this.#memory, written);
    const queue = vring.openQueue();
    if (queue === undefined) {
      // The ring's memory is away for the moment. A broken ring forgets its chains.
      if (vring.state !== 'broken') this.#deferred.postpone(index, head, written);
      return;
    }
    queue.pushUsed(head, written);
    queue.publish();
    if (queue.needsCall()) vring.call.signal();
    if (this.isLogging) this.#logCall.signal();
  }
}
