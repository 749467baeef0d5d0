/**
 * One vring: what vhost-user says about a queue, and whether it may be served.
 *
 *              SET_VRING_KICK with fd              kick
 *   stopped ─────────────────────────▶ armed ────────────────▶ started
 *     ▲ ▲ │                              │                        │ ▲
 *     │ │ └──────────────────────────────┼────────────────────────┼─┘ SET_VRING_KICK without fd: poll
 *     │ └───────── GET_VRING_BASE ───────┴────────────────────────┤
 *     │                                  ▲                        │ untrustworthy ring
 *     │ GET_VRING_BASE                   │ NUM, BASE, ADDR, KICK  ▼
 *     └──────────────────────────────────┴────────────────────── broken
 *
 * | state   | kick fd watched | served                  | a kick            |
 * |---------|-----------------|-------------------------|-------------------|
 * | stopped | no              | no                      | cannot come       |
 * | armed   | yes             | no                      | starts the ring   |
 * | started | yes             | if enabled and mapped   | makes it be served|
 * | broken  | no              | no, err was signalled   | is not seen       |
 *
 * Two properties are tracked in every state. `isEnabled`: SET_VRING_ENABLE, or SET_FEATURES without PROTOCOL_FEATURES.
 * `isMapped`: the three areas lie in the memory table; a ring that loses one signals err and is served again as soon
 * as a change of the table brings it back, since QEMU removes and adds a region to resize it.
 * A ring with a base other than 0 goes on where it was, and is started without a kick.
 * A kick that comes while the ring may not be served is not lost: it is served when it may. vhost-user spec § Ring states.
 */
import { VRING_MAX_NUM } from '../../protocol/virtio-ring.ts';
import type { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import { VHOST_VRING_F_LOG } from '../../protocol/vhost-user.ts';
import { ProtocolError, type GuestError } from '../errors.ts';
import { hex } from '../units.ts';
import type { Chain } from '../virtio/chain.ts';
import { Virtqueue } from '../virtio/virtqueue.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { KickWatch } from './kick-watch.ts';
import { Notifier } from './notifier.ts';
import type { RingControl } from './ring-control.ts';
import { areSameAreas, resolveAreas, type VringAreas } from './vring-areas.ts';
import type { VringSurroundings } from './vring-surroundings.ts';

export type VringState = 'stopped' | 'armed' | 'started' | 'broken';

export class Vring implements RingControl {
  readonly index: number;
  readonly call = new Notifier();
  readonly err = new Notifier();
  /** In the ready list; kept here so that looking it up costs nothing. Belongs to the scheduler. */
  isReady = false;
  /** Empty and looked at: its driver was not asked to kick. Belongs to the scheduler. */
  isAwake = false;

  readonly #around: VringSurroundings;
  readonly #kick: KickWatch;
  #state: VringState = 'stopped';
  #isEnabled = false;
  #isMapped = false;
  #isPolled = false;
  #num = 0;
  /** Where to go on while there is no queue. */
  #base = 0;
  #addr: VringAddr | undefined;
  /** Where the areas are in this process, as `#queue` was opened with. */
  #areas: VringAreas | undefined;
  #queue: Virtqueue | undefined;

  constructor(index: number, around: VringSurroundings) {
    this.index = index;
    this.#around = around;
    this.#kick = new KickWatch(around.loop, () => this.#onKick());
  }

  get state(): VringState {
    return this.#state;
  }
  get isEnabled(): boolean {
    return this.#isEnabled;
  }
  get isMapped(): boolean {
    return this.#isMapped;
  }
  /** The driver is not expected to kick: look at the ring now and then. */
  get isPolled(): boolean {
    return this.#isPolled;
  }
  get isServable(): boolean {
    return this.#isRunning() && this.#isEnabled;
  }

  setNum(num: number): void {
    const max = this.#around.maxQueueSize;
    if (num === 0 || num > max || num > VRING_MAX_NUM || (num & (num - 1)) !== 0)
      throw new ProtocolError(
        'BAD_VALUE',
        `ring ${this.index}: size ${num}, allowed a power of two up to ${max}`,
      );
    this.#closeQueue();
    this.#num = num;
    this.memoryChanged(); // its areas have another size
    this.#setUpAnew();
  }

  setBase(base: number): void {
    if (base > 0xffff)
      throw new ProtocolError('BAD_VALUE', `ring ${this.index}: base ${base}, allowed up to 65535`);
    this.#closeQueue();
    this.#base = base;
    this.#setUpAnew();
    if (this.#state === 'armed') this.#arm();
  }

  /** May come while the ring runs: it goes on where it is. */
  setAddr(addr: VringAddr): void {
    if ((addr.flags & ~VHOST_VRING_F_LOG) !== 0)
      throw new ProtocolError('BAD_VALUE', `ring ${this.index}: flags ${hex(addr.flags)}, allowed 0 and 1`);
    if (addr.logGuestAddr > BigInt(Number.MAX_SAFE_INTEGER))
      throw new ProtocolError(
        'BAD_VALUE',
        `ring ${this.index}: log address ${hex(addr.logGuestAddr)}, allowed below 2^53`,
      );
    const areas = this.#resolve(addr);
    this.#addr = addr;
    this.#isMapped = true;
    this.#moveTo(areas);
    this.logUsed();
    this.#setUpAnew();
  }

  setKick(fd: OwnedFd | undefined): void {
    this.#kick.replace(fd);
    this.#isPolled = fd === undefined;
    if (this.#isPolled) this.#state = 'started';
    else if (this.#state !== 'started') this.#arm();
    // Kicks of the fd that was replaced may not have been seen yet.
    this.#around.schedule(this);
  }

  setCall(fd: OwnedFd | undefined): void {
    this.call.replace(fd);
  }

  setErr(fd: OwnedFd | undefined): void {
    this.err.replace(fd);
  }

  setEnabled(isEnabled: boolean): void {
    this.#isEnabled = isEnabled;
    this.#around.schedule(this);
  }

  /** The memory table has changed: finds the areas again. */
  memoryChanged(): void {
    if (this.#addr === undefined) return;
    const wasMapped = this.#isMapped;
    try {
      this.#moveTo(this.#resolve(this.#addr));
      this.#isMapped = true;
      if (!wasMapped) this.#around.schedule(this);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#closeQueue();
      this.#isMapped = false;
      if (wasMapped && (this.#state === 'armed' || this.#state === 'started')) this.#complain(error);
    }
  }

  /** Negotiated features have changed. */
  featuresChanged(): void {
    this.#closeQueue();
    this.#around.schedule(this);
  }

  /** Starts or stops logging changes of the used area, as flags and features now say. */
  logUsed(): void {
    this.#queue?.logUsedAt(this.#usedGpa());
  }

  /**
   * The queue to serve; opened if need be. A ring that cannot be opened signals err.
   *
   * @returns undefined if there is none
   */
  openQueue(): Virtqueue | undefined {
    if (this.#queue !== undefined) return this.#queue;
    if (!this.#isRunning() || this.#addr === undefined) return undefined;
    try {
      this.#queue = this.#open(this.#addr);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.breakDown(error);
    }
    return this.#queue;
  }

  /** The ring cannot be trusted: it is not served until it is set up anew, and err tells the front-end. */
  breakDown(error: GuestError | ProtocolError): void {
    this.#closeQueue();
    this.#state = 'broken';
    this.#kick.pause();
    this.#complain(error);
  }

  /** Call and err stay: QEMU sends err once per connection. */
  stop(): number {
    this.#around.drain(this);
    this.#closeQueue();
    this.#kick.close();
    this.#state = 'stopped';
    this.#isPolled = false;
    return this.#base;
  }

  reset(): void {
    this.stop();
    this.#isEnabled = false;
    this.#isMapped = false;
    this.#addr = undefined;
    this.#num = 0;
    this.#base = 0;
  }

  close(): void {
    this.reset();
    this.call.close();
    this.err.close();
  }

  /**
   * The kick is watched. A ring that goes on at another base than 0 was started before, here or on another host: its
   * driver does not know that it was stopped, so it may wait for requests it has kicked for already.
   */
  #arm(): void {
    this.#state = this.#base === 0 ? 'armed' : 'started';
    this.#around.schedule(this);
  }

  #onKick(): void {
    if (this.#state === 'armed') this.#state = 'started';
    this.#around.schedule(this);
  }

  /** Whatever of a broken ring is set up again gives it another chance. */
  #setUpAnew(): void {
    if (this.#state !== 'broken') return this.#around.schedule(this);
    this.#state = this.#isPolled ? 'started' : this.#kick.isSet ? 'armed' : 'stopped';
    this.#kick.resume();
    this.#around.schedule(this);
  }

  /** Started and completely set up, in whatever order that came. */
  #isRunning(): boolean {
    return this.#state === 'started' && this.#isMapped && this.#num > 0;
  }

  #open(addr: VringAddr): Virtqueue {
    const areas = this.#resolve(addr);
    const setup = {
      num: this.#num,
      descAddress: areas.desc,
      availAddress: areas.avail,
      usedAddress: areas.used,
      eventIdx: this.#around.ringFeatures.eventIdx,
      indirect: this.#around.ringFeatures.indirect,
      usedGpa: this.#usedGpa(),
      reject: (chain: Chain) => this.#around.reject(this, chain),
    };
    this.#areas = areas;
    return new Virtqueue(this.#around.memory, setup, this.#base);
  }

  /** Closes the queue if its areas are elsewhere now. */
  #moveTo(areas: VringAreas): void {
    if (this.#areas !== undefined && !areSameAreas(this.#areas, areas)) this.#closeQueue();
  }

  /** Lets the driver see what was done, and remembers where to go on. */
  #closeQueue(): void {
    if (this.#queue === undefined) return;
    this.#queue.publish();
    if (this.#queue.needsCall()) this.call.signal();
    this.#base = this.#queue.nextAvail;
    this.#queue = undefined;
    this.#areas = undefined;
  }

  /** @throws {ProtocolError} UNMAPPED, BAD_VALUE */
  #resolve(addr: VringAddr): VringAreas {
    return resolveAreas(this.#around.memory, addr, Math.max(1, this.#num));
  }

  #usedGpa(): number | undefined {
    if (this.#addr === undefined || !this.#around.ringFeatures.isLogging) return undefined;
    return (this.#addr.flags & VHOST_VRING_F_LOG) === 0 ? undefined : Number(this.#addr.logGuestAddr);
  }

  #complain(error: GuestError | ProtocolError): void {
    this.#around.log.warn(
      { vring: this.index, code: error.code, reason: error.message },
      'vhost_vring_error',
    );
    this.err.signal();
  }
}
