/** What a stress run should have got to: which memory is there, how many regions it takes, what the file holds. Pure. */
import type { Access, MemoryOperation, Operation, Place, StressShape } from './operation.ts';

/** What only the machine and the back-end can tell. */
export interface StressFacts {
  /** Regions the back-end may be given. */
  readonly limit: number;
  /** Whether that is all it says it has: then one more must be refused. */
  readonly isAdvertised: boolean;
  /** Regions of the machine's own RAM. */
  readonly baseRegions: number;
  /** Bytes of each virtio-mem device's memslots; fewer devices than the shape has if the back-end has no room for them. */
  readonly vmemSlotSizes: readonly number[];
  /** Whether memory modules can be plugged. */
  readonly hasDimms: boolean;
  readonly canRestart: boolean;
  /** Whether buffers may begin in one slot and end in the next. */
  readonly crossesSlots: boolean;
  /** Whether there is something to write to and read from. */
  readonly hasStore: boolean;
}

export class StressModel {
  readonly shape: StressShape;
  readonly facts: StressFacts;
  readonly #slots: Uint8Array;
  readonly #dimms: Uint8Array;
  readonly #units: Uint32Array;
  readonly #versions: Uint32Array;
  #mapped = 0;
  #used: number;

  constructor(shape: StressShape, facts: StressFacts) {
    this.shape = shape;
    this.facts = facts;
    this.#slots = new Uint8Array(shape.slots);
    this.#dimms = new Uint8Array(shape.dimms);
    this.#units = new Uint32Array(shape.vmems);
    this.#versions = new Uint32Array(shape.chunks);
    this.#used = facts.baseRegions;
  }

  /** Regions the back-end has. */
  get used(): number {
    return this.#used;
  }
  /** Slots that are mapped. */
  get mapped(): number {
    return this.#mapped;
  }

  isMapped(slot: number): boolean {
    return this.#slots[slot] === 1;
  }
  isPlugged(dimm: number): boolean {
    return this.#dimms[dimm] === 1;
  }
  unitsOf(vmem: number): number {
    return this.#units[vmem] ?? 0;
  }
  /** What was last written to a chunk; 0 is nothing yet. */
  versionOf(chunk: number): number {
    return this.#versions[chunk] ?? 0;
  }

  /** Whether all of a chunk's buffer is in memory that is there. */
  isThere({ in: kind, index, at }: Place): boolean {
    const { shape } = this;
    const end = at + shape.chunkSize;
    if (kind === 'slot') {
      const last = index + Math.ceil(end / shape.slotSize) - 1;
      return this.isMapped(index) && this.isMapped(last) && last <= index + 1;
    }
    if (kind === 'dimm') return this.isPlugged(index) && end <= shape.dimmSize;
    if (kind === 'vmem') return end <= this.unitsOf(index) * shape.vmemUnit;
    return end <= shape.chunkSize * 4;
  }

  /** Whether the operation can be done now, and is expected to succeed (`beyond`: to be refused). */
  applies(operation: Operation): boolean {
    const { facts, shape } = this;
    const room = facts.limit - this.#used;
    switch (operation.op) {
      case 'map':
        return operation.slot < shape.slots && !this.isMapped(operation.slot) && room > 0;
      case 'unmap':
        return this.isMapped(operation.slot);
      case 'plug':
        return (
          facts.hasDimms &&
          operation.dimm < shape.dimms &&
          !this.isPlugged(operation.dimm) &&
          room > this.#reserved
        );
      case 'unplug':
        return this.isPlugged(operation.dimm);
      case 'resize':
        return this.#canResize(operation.vmem, operation.units);
      case 'fill':
        return room > 0 && room <= shape.slots - this.#mapped;
      case 'drain':
        return this.#mapped > 0;
      case 'beyond':
        return room === 0 && facts.isAdvertised;
      case 'write':
      case 'read':
        return facts.hasStore && operation.chunk < shape.chunks && this.isThere(operation.place);
      case 'pause':
      case 'reboot':
        return true;
      default:
        return facts.canRestart;
    }
  }

  /** The reads that can be on their way during an operation: into memory that is there before and after it, each its own. */
  readsDuring(operation: MemoryOperation): readonly Access[] {
    const { chunks } = this.shape;
    const reads: Access[] = [];
    if (!this.facts.hasStore) return reads;
    for (const access of operation.during ?? []) {
      const { place, chunk } = access;
      if (chunk >= chunks || !this.isThere(place) || this.#isTaken(operation, place)) continue;
      if (!reads.some((other) => this.#overlap(other.place, place))) reads.push(access);
    }
    return reads;
  }

  /** The slots `fill` maps. */
  slotsToFill(): readonly number[] {
    const free = Array.from(this.#slots.keys()).filter((slot) => !this.isMapped(slot));
    return free.slice(0, this.facts.limit - this.#used);
  }

  /** The operation was done; `applies` said it could be. */
  done(operation: Operation): void {
    switch (operation.op) {
      case 'map':
        this.#setSlot(operation.slot, 1);
        break;
      case 'unmap':
        this.#setSlot(operation.slot, 0);
        break;
      case 'plug':
        this.#dimms[operation.dimm] = 1;
        this.#used += 1;
        break;
      case 'unplug':
        this.#dimms[operation.dimm] = 0;
        this.#used -= 1;
        break;
      case 'resize':
        this.#used += this.#memslots(operation.vmem, operation.units);
        this.#used -= this.#memslots(operation.vmem, this.unitsOf(operation.vmem));
        this.#units[operation.vmem] = operation.units;
        break;
      case 'fill':
        for (const slot of this.slotsToFill()) this.#setSlot(slot, 1);
        break;
      case 'drain':
        for (const slot of this.#slots.keys()) if (this.isMapped(slot)) this.#setSlot(slot, 0);
        break;
      case 'write':
        this.#versions[operation.chunk] = operation.version;
        break;
      default:
        break;
    }
  }

  #setSlot(slot: number, value: 0 | 1): void {
    this.#slots[slot] = value;
    this.#mapped += value === 1 ? 1 : -1;
    this.#used += value === 1 ? 1 : -1;
  }

  #canResize(vmem: number, units: number): boolean {
    const { facts, shape } = this;
    if (vmem >= facts.vmemSlotSizes.length || units * shape.vmemUnit > shape.vmemSize) return false;
    if (units === this.unitsOf(vmem)) return false;
    const more = this.#memslots(vmem, units) - this.#memslots(vmem, this.unitsOf(vmem));
    return more <= facts.limit - this.#used;
  }

  /** Memslots of a virtio-mem device that has so many units: its driver plugs from the start and unplugs from the end. */
  #memslots(vmem: number, units: number): number {
    const slotSize = this.facts.vmemSlotSizes[vmem];
    if (slotSize === undefined) return 0;
    return Math.ceil((units * this.shape.vmemUnit) / slotSize);
  }

  /** Memslots that virtio-mem devices were promised and do not use: modules do not get them. */
  get #reserved(): number {
    let reserved = 0;
    for (const vmem of this.facts.vmemSlotSizes.keys()) {
      const most = this.#memslots(vmem, Math.floor(this.shape.vmemSize / this.shape.vmemUnit));
      reserved += most - this.#memslots(vmem, this.unitsOf(vmem));
    }
    return reserved;
  }

  /** Whether the operation takes away, or brings, the memory there. */
  #isTaken(operation: MemoryOperation, { in: kind, index, at }: Place): boolean {
    switch (operation.op) {
      case 'map':
      case 'unmap':
        return kind === 'slot' && (index === operation.slot || this.#reaches(operation.slot, index, at));
      case 'plug':
      case 'unplug':
        return kind === 'dimm' && index === operation.dimm;
      default:
        return (
          kind === 'vmem' &&
          index === operation.vmem &&
          at + this.shape.chunkSize > operation.units * this.shape.vmemUnit
        );
    }
  }

  /** Whether a buffer that begins in the slot before reaches into this one. */
  #reaches(slot: number, index: number, at: number): boolean {
    return index + 1 === slot && at + this.shape.chunkSize > this.shape.slotSize;
  }

  #overlap(a: Place, b: Place): boolean {
    if (a.in !== b.in) return false;
    // slots are neighbours in the same file
    const distance = a.in === 'slot' ? (a.index - b.index) * this.shape.slotSize : 0;
    return (
      (a.in === 'slot' || a.index === b.index) && Math.abs(distance + a.at - b.at) < this.shape.chunkSize
    );
  }
}
