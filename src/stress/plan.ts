/**
 * Which operations a stress run does: the limit, a storm, restarts. Pure: given the same seed, shape and facts, the same
 * operations. A plan reads the model that follows the operations, and goes on once the one it gave was done.
 */
import type { StressModel } from './model.ts';
import type { Access, MemoryOperation, Operation, Place } from './operation.ts';
import type { Random } from './random.ts';

/** Buffers lie in the first pages of a piece of memory and in its last. */
const EDGE = 3;
/** Reads that may be on their way during a change of memory. */
const MAX_DURING = 3;
/** Of a hundred changes of memory in a storm, how many are of modules, virtio-mem sizes, and the machine's state. */
const DIMM_SHARE = 4;
const RESIZE_SHARE = 6;
const PAUSE_PER_10000 = 20;
const REBOOT_PER_10000 = 5;

export class Plan {
  readonly #model: StressModel;
  readonly #random: Random;
  #version = 0;

  constructor(model: StressModel, random: Random) {
    this.#model = model;
    this.#random = random;
  }

  /** Every chunk is written once, from RAM: from here on each read has something to compare. */
  *writeAll(): Generator<Operation> {
    for (let chunk = 0; chunk < this.#model.shape.chunks; chunk += 1) yield this.#write(this.#ram(), chunk);
  }

  /** Fills the table, uses every slot, asks for one more, uses every slot again, empties it. */
  *limit(): Generator<Operation> {
    yield { op: 'fill' };
    yield* this.#useSlots();
    yield { op: 'beyond' };
    yield* this.#useSlots();
    yield { op: 'drain' };
    yield { op: 'fill' };
    yield { op: 'pause' };
    yield* this.#useSlots();
    yield { op: 'drain' };
  }

  /** Changes of memory without end, each with requests in what is new and in what stays. */
  *storm(): Generator<Operation> {
    const random = this.#random;
    let inclination = 0.7;
    for (;;) {
      if (random.below(400) === 0) inclination = 0.25 + 0.6 * random.fraction();
      const change = this.#change(inclination);
      yield change;
      const place = this.#placeOf(change);
      if (place !== undefined) yield this.#access(place);
      const other = this.#somewhere();
      if (random.below(2) === 0) yield this.#access(other);
      const turn = random.below(10_000);
      if (turn < PAUSE_PER_10000) yield { op: 'pause' };
      else if (turn < PAUSE_PER_10000 + REBOOT_PER_10000) yield { op: 'reboot' };
    }
  }

  /** The back-end is killed while memory is plugged; then all of it is used. */
  *restarts(count: number): Generator<Operation> {
    const { shape, facts } = this.#model;
    for (let vmem = 0; vmem < facts.vmemSlotSizes.length; vmem += 1)
      yield { op: 'resize', vmem, units: Math.floor(shape.vmemSize / shape.vmemUnit) };
    for (let i = 0; i < count; i += 1) {
      if (i % 2 === 0) yield { op: 'fill' };
      else yield { op: 'drain' };
      yield { op: 'restart' };
      yield* this.#useSlots();
      for (let vmem = 0; vmem < facts.vmemSlotSizes.length; vmem += 1)
        yield this.#access(this.#in('vmem', vmem));
    }
    yield { op: 'drain' };
  }

  /** Everything is taken away again. */
  *empty(): Generator<Operation> {
    const { shape, facts } = this.#model;
    yield { op: 'drain' };
    for (let dimm = 0; dimm < shape.dimms; dimm += 1) yield { op: 'unplug', dimm };
    for (let vmem = 0; vmem < facts.vmemSlotSizes.length; vmem += 1) yield { op: 'resize', vmem, units: 0 };
  }

  *#useSlots(): Generator<Operation> {
    for (let slot = 0; slot < this.#model.shape.slots; slot += 1) {
      if (!this.#model.isMapped(slot)) continue;
      yield this.#access(this.#in('slot', slot));
      yield { op: 'read', place: this.#in('slot', slot), chunk: this.#chunk() };
    }
  }

  #change(inclination: number): MemoryOperation {
    const change = this.#plainChange(inclination);
    const during = this.#model.readsDuring({ ...change, during: this.#reads() });
    return during.length === 0 ? change : { ...change, during };
  }

  #plainChange(inclination: number): MemoryOperation {
    const random = this.#random;
    const { shape, facts } = this.#model;
    const dice = random.below(100);
    if (dice < DIMM_SHARE && facts.hasDimms && shape.dimms > 0) {
      const dimm = random.below(shape.dimms);
      return { op: this.#model.isPlugged(dimm) ? 'unplug' : 'plug', dimm };
    }
    if (dice < DIMM_SHARE + RESIZE_SHARE && facts.vmemSlotSizes.length > 0) {
      const vmem = random.below(facts.vmemSlotSizes.length);
      return { op: 'resize', vmem, units: random.below(shape.vmemSize / shape.vmemUnit + 1) };
    }
    const slot = this.#slot(random.fraction() < inclination);
    return { op: this.#model.isMapped(slot) ? 'unmap' : 'map', slot };
  }

  /** A slot that is free if one is to be mapped, else one that is mapped, as far as there are such. */
  #slot(isToMap: boolean): number {
    const { shape, facts, used, mapped } = this.#model;
    const wantsFree = mapped === 0 || (isToMap && used < facts.limit);
    const start = this.#random.below(shape.slots);
    for (let i = 0; i < shape.slots; i += 1) {
      const slot = (start + i) % shape.slots;
      if (this.#model.isMapped(slot) !== wantsFree) return slot;
    }
    return start;
  }

  #reads(): readonly Access[] {
    const count = this.#random.below(MAX_DURING + 1);
    return Array.from({ length: count }, () => ({ place: this.#somewhere(), chunk: this.#chunk() }));
  }

  #access(place: Place): Operation {
    const chunk = this.#chunk();
    return this.#random.below(2) === 0 ? this.#write(place, chunk) : { op: 'read', place, chunk };
  }

  #write(place: Place, chunk: number): Operation {
    this.#version += 1;
    return { op: 'write', place, chunk, version: this.#version };
  }

  #chunk(): number {
    return this.#random.below(this.#model.shape.chunks);
  }

  /** Memory that is there after this change. */
  #placeOf(change: MemoryOperation): Place | undefined {
    if (change.op === 'map') return this.#in('slot', change.slot);
    if (change.op === 'plug') return this.#in('dimm', change.dimm);
    if (change.op === 'resize' && change.units > 0) return this.#in('vmem', change.vmem);
    if (change.op === 'unmap') return this.#neighbour(change.slot);
    return undefined;
  }

  #neighbour(slot: number): Place | undefined {
    const near = [slot - 1, slot + 1].find((each) => this.#model.isMapped(each));
    return near === undefined ? undefined : this.#in('slot', near);
  }

  #somewhere(): Place {
    const random = this.#random;
    const { shape, facts, mapped } = this.#model;
    const kind = random.below(8);
    if (kind === 0) return this.#ram();
    if (kind === 1 && shape.dimms > 0) {
      const dimm = random.below(shape.dimms);
      if (this.#model.isPlugged(dimm)) return this.#in('dimm', dimm);
    }
    if (kind === 2 && facts.vmemSlotSizes.length > 0) {
      const vmem = random.below(facts.vmemSlotSizes.length);
      if (this.#model.unitsOf(vmem) > 0) return this.#in('vmem', vmem);
    }
    return mapped === 0 ? this.#ram() : this.#in('slot', this.#slot(false));
  }

  #ram(): Place {
    return { in: 'ram', index: 0, at: this.#random.below(4) * this.#model.shape.chunkSize };
  }

  /** Near the start of a piece of memory, or at its very end; if that is wanted, also across it into the next slot. */
  #in(kind: 'slot' | 'dimm' | 'vmem', index: number): Place {
    const { shape, facts } = this.#model;
    if (
      facts.crossesSlots &&
      kind === 'slot' &&
      this.#model.isMapped(index + 1) &&
      this.#random.below(4) === 0
    )
      return { in: kind, index, at: shape.slotSize - shape.chunkSize / 2 };
    const units = kind === 'vmem' ? Math.max(1, this.#model.unitsOf(index)) : 0;
    const size = { slot: shape.slotSize, dimm: shape.dimmSize, vmem: units * shape.vmemUnit }[kind];
    const most = size - shape.chunkSize;
    const atEnd = this.#random.below(2) === 0;
    const step = this.#random.below(EDGE) * 1000;
    return { in: kind, index, at: atEnd ? most : Math.min(step, most) };
  }
}
