/**
 * How many memslots there are for memory devices: what each consumer has, what devices use, and what is promised to devices that
 * have not mapped all of their memslots yet.
 *
 * A memslot is one entry of somebody's memory table: of a vhost back-end or of the hypervisor. Every consumer needs one for each of the
 * same regions, so the smallest table decides. Rules and texts are those of QEMU 10.0.13.
 */
import { MemoryDeviceError } from '../errors.ts';

/** Devices that may choose use no more than this together, so that hot-plugging other memory stays possible. */
export const SOFT_MEMSLOT_LIMIT = 256;
/** With fewer memslots than this overall, devices that may choose use a single one each. */
export const SAFE_MAX_MEMSLOTS = 509;
/** No limit: what there is without any consumer. */
export const UNLIMITED_MEMSLOTS = 0xffff_ffff;

/** What to do about BACKEND_RESTRICTS, in QEMU's words. */
export const PLUG_BACKEND_FIRST = 'Try plugging this vhost backend before plugging such memory devices.';

/** Somebody who has a table of memslots. */
export interface MemslotConsumer {
  readonly name: string;
  /** Entries of the table. */
  readonly limit: number;
  /** Entries in use now, the machine's own memory included. */
  readonly used: number;
}

/** What a consumer's size decision is about. Bytes. */
export interface DecisionRequest {
  /** Size of the device's region. */
  readonly size: number;
  /** All memory that devices may have together. */
  readonly space: number;
  /** The sizes of the devices that are plugged. */
  readonly usedSpace: number;
}

export class MemslotBudget {
  readonly #consumers: MemslotConsumer[] = [];
  readonly #limits = new Map<MemslotConsumer, number>();
  readonly #hypervisor: MemslotConsumer | undefined;
  #required = 0;
  #mapped = 0;
  #decisions = 0;

  /** @param hypervisor the one under the machine, if its memslots are limited */
  constructor(hypervisor?: MemslotConsumer) {
    this.#hypervisor = hypervisor;
  }

  /** The vhost back-ends, in order of arrival. */
  get consumers(): readonly MemslotConsumer[] {
    return this.#consumers;
  }
  /** Memslots that memory devices may use at most, all together. */
  get required(): number {
    return this.#required;
  }
  /** Memslots that memory devices use now. */
  get mapped(): number {
    return this.#mapped;
  }
  /** Memslots that devices do not use yet, but may at any time. */
  get reserved(): number {
    return Math.max(0, this.#required - this.#mapped);
  }
  /** Whether a plugged device has decided for several memslots, looking at what there was then. */
  get isDecisionActive(): boolean {
    return this.#decisions > 0;
  }
  /** The smallest table. */
  get limit(): number {
    return this.#smallest((consumer) => consumer.limit);
  }
  /** Entries left in the fullest table; not yet minus `reserved`. */
  get free(): number {
    return this.#smallest(freeOf);
  }

  /**
   * How many memslots a device that may choose should use at most: its share of the soft limit, by its share of the space that is left.
   *
   * @returns at least 1
   */
  decisionLimit({ size, space, usedSpace }: DecisionRequest): number {
    const { free, reserved, required } = this;
    if (this.limit < SAFE_MAX_MEMSLOTS || required >= SOFT_MEMSLOT_LIMIT || free < reserved) return 1;
    const available = Math.min(SOFT_MEMSLOT_LIMIT - required, free - reserved);
    if (available < 1) return 1;
    if (size === space) return available;
    if (space <= usedSpace) return 1; // the device does not fit: refused for that
    // In this order, and in double precision, as in QEMU.
    return Math.max(1, Math.trunc((available * size) / (space - usedSpace)));
  }

  /** @throws {MemoryDeviceError} HYPERVISOR_SLOTS or VHOST_SLOTS if there are not so many memslots that nobody else was promised */
  assertFree(memslots: number): void {
    const needed = memslots + this.reserved;
    if (this.#hypervisor !== undefined && freeOf(this.#hypervisor) < needed)
      throw new MemoryDeviceError('HYPERVISOR_SLOTS', 'hypervisor has not enough free memory slots left');
    if (this.#consumers.some((consumer) => freeOf(consumer) < needed))
      throw new MemoryDeviceError(
        'VHOST_SLOTS',
        'a used vhost backend has not enough free memory slots left',
      );
  }

  /**
   * Adds a vhost back-end, whose `used` counts what is mapped already.
   *
   * @throws {MemoryDeviceError} BACKEND_RESTRICTS, BACKEND_LIMIT
   */
  attach(consumer: MemslotConsumer): void {
    const { limit } = consumer;
    if (limit < SAFE_MAX_MEMSLOTS && this.isDecisionActive) {
      throw new MemoryDeviceError(
        'BACKEND_RESTRICTS',
        'some memory device (like virtio-mem) decided how many memory slots to use based on the overall number of memory slots; this vhost backend would further restricts the overall number of memory slots',
      );
    }
    const { used } = consumer;
    if (used + this.reserved > limit) {
      throw new MemoryDeviceError(
        'BACKEND_LIMIT',
        `vhost backend memory slots limit (${limit}) is less than current number of used (${used}) and reserved (${this.reserved}) memory slots for memory devices.`,
      );
    }
    this.#consumers.push(consumer);
    this.#limits.set(consumer, limit);
  }

  /** Takes a vhost back-end out. @throws {MemoryDeviceError} NOT_PLUGGED */
  detach(consumer: MemslotConsumer): void {
    const index = this.#consumers.indexOf(consumer);
    if (index < 0) throw new MemoryDeviceError('NOT_PLUGGED', `${consumer.name} is not attached`);
    this.#consumers.splice(index, 1);
    this.#limits.delete(consumer);
  }

  /**
   * A back-end that is attached has come back, perhaps with another limit.
   *
   * @param limit what it says now, not cut to what the front-end uses
   * @throws {MemoryDeviceError} LIMIT_SHRANK if it is lower than before: memslots may be in use that it has no room for
   */
  assertLimitKept(consumer: MemslotConsumer, limit: number | bigint): void {
    const before = this.#limits.get(consumer);
    if (before === undefined) throw new MemoryDeviceError('NOT_PLUGGED', `${consumer.name} is not attached`);
    if (limit < before) {
      throw new MemoryDeviceError(
        'LIMIT_SHRANK',
        `The backend specified a max ram slots limit of ${limit}, when the prior validated limit was ${before}. This limit should never decrease.`,
      );
    }
  }

  // What follows is called by `DeviceMemory`.

  /** A device is plugged (+1) or unplugged (−1). */
  deviceChanged(by: 1 | -1, memslots: number, hasDecided: boolean): void {
    this.#required += by * memslots;
    if (hasDecided) this.#decisions += by;
  }

  /** A memslot of a device is mapped (+1) or unmapped (−1). */
  mappedChanged(by: 1 | -1): void {
    this.#mapped += by;
  }

  #smallest(countOf: (consumer: MemslotConsumer) => number): number {
    let smallest = this.#hypervisor === undefined ? UNLIMITED_MEMSLOTS : countOf(this.#hypervisor);
    for (const consumer of this.#consumers) smallest = Math.min(smallest, countOf(consumer));
    return smallest;
  }
}

const freeOf = ({ limit, used }: MemslotConsumer): number => Math.max(0, limit - used);

/** Entries QEMU uses of a vhost-user back-end's table at most. */
export const VHOST_USER_MAX_RAM_SLOTS = 512;
/** Entries of a back-end that cannot add and remove single regions. */
export const VHOST_MEMORY_BASELINE_NREGIONS = 8;

/** What a vhost-user back-end says about itself. */
export interface VhostUserLimits {
  /** Whether VHOST_USER_F_PROTOCOL_FEATURES is offered. Default true. */
  readonly hasProtocolFeatures?: boolean;
  /** Answer to GET_MAX_MEM_SLOTS; undefined: CONFIGURE_MEM_SLOTS is not negotiated. */
  readonly maxMemSlots: number | bigint | undefined;
}

/** The limit QEMU derives. A back-end without protocol features has none at all, and cannot be used. */
export function vhostUserMemslotLimit({ hasProtocolFeatures = true, maxMemSlots }: VhostUserLimits): number {
  if (!hasProtocolFeatures) return 0;
  if (maxMemSlots === undefined) return VHOST_MEMORY_BASELINE_NREGIONS;
  return maxMemSlots < VHOST_USER_MAX_RAM_SLOTS ? Number(maxMemSlots) : VHOST_USER_MAX_RAM_SLOTS;
}
