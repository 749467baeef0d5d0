/** The data plane of a case: memory that is shared, rings that are the case's to set up, good requests in order. */
import { hasBit } from '../../protocol/bits.ts';
import { VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { VIRTIO_RING_F_EVENT_IDX } from '../../protocol/virtio-ring.ts';
import type { RamLayout } from '../machine/guest-ram.ts';
import { MiB } from '../units.ts';
import type { Probe } from './device.ts';
import type { Guest } from './guest.ts';
import type { Link } from './link.ts';
import { ProbedRing } from './probed-ring.ts';
import type { Rig } from './rig.ts';

export interface PlaneOptions {
  /** Virtio features to negotiate, of those offered; RING_FEATURES otherwise. */
  readonly features?: bigint;
  readonly protocolFeatures?: bigint;
  readonly layout?: Partial<RamLayout>;
  /** Slots of the RAM to share beside the base region. */
  readonly slots?: readonly number[];
}

const BASE_SIZE = 8 * MiB;
const NUM = 64;
/** Looks that cost next to nothing before waiting a millisecond for each. */
const FIRST_LOOKS = 20;

export class Plane {
  readonly rig: Rig;
  readonly guest: Guest;
  readonly link: Link;
  /** SET_VRING_ENABLE exists on this connection. */
  readonly hasEnable: boolean;
  readonly #never: number;
  #probes = 0;

  constructor(rig: Rig, { features, protocolFeatures, layout, slots = [] }: PlaneOptions = {}) {
    this.rig = rig;
    this.guest = rig.guest({
      layout: { baseSize: BASE_SIZE, ...layout },
      ...(features === undefined ? {} : { features }),
      ...(protocolFeatures === undefined ? {} : { protocolFeatures }),
    });
    this.link = this.guest.link;
    this.guest.negotiate();
    this.guest.shareMemory();
    for (const slot of slots) this.guest.addSlot(slot);
    this.hasEnable = hasBit(this.link.features, VHOST_USER_F_PROTOCOL_FEATURES);
    this.#never = rig.eventfd();
  }

  get hasEventIdx(): boolean {
    return hasBit(this.link.features, VIRTIO_RING_F_EVENT_IDX);
  }

  /** A ring; nothing is told to the back-end yet. Without an index, the one that takes requests. */
  ring(num = NUM, index = this.rig.device.requestQueue): ProbedRing {
    return new ProbedRing(this, index, num);
  }

  /** A ring that runs. */
  startRing(num = NUM, index = this.rig.device.requestQueue): ProbedRing {
    return this.ring(num, index).setUp();
  }

  /** The next good request. */
  probe(): Probe {
    this.#probes += 1;
    this.guest.resumeSession();
    return this.rig.device.probe(this.#probes - 1);
  }

  /** Waits until the claim holds, at most so long. Ends early if the back-end has gone. @returns the claim */
  waitUntil(claim: () => boolean, withinMs: number): boolean {
    const { clock } = this.rig;
    const endsAt = performance.now() + Math.min(withinMs, clock.left());
    for (let looks = 0; ; looks += 1) {
      if (claim()) return true;
      if (performance.now() >= endsAt || (looks >= FIRST_LOOKS && this.link.hasEnded())) return claim();
      clock.wait(this.#never, looks < FIRST_LOOKS ? 0 : 1);
    }
  }
}
