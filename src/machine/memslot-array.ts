/**
 * Memory above all devices, cut into memslots that are mapped and unmapped at will. QEMU has no device like it: virtio-mem uses 256
 * memslots of 1 GiB or more, and asks what there is. This asks nobody, so a back-end's limit is met where it is.
 */
import { DynamicMemslots } from '../memory-devices/dynamic-memslots.ts';
import type { MemoryRegion } from '../memory/region.ts';
import type { GuestBuffer } from './guest-ram.ts';
import type { HostBackend, MachineMemory } from './machine-memory.ts';

export interface MemslotArrayOptions {
  readonly id: string;
  readonly count: number;
  /** Bytes of each; whole pages. */
  readonly slotSize: number;
}

export class MemslotArray implements Disposable {
  readonly id: string;
  readonly count: number;
  readonly slotSize: number;
  /** Guest physical address of the first. */
  readonly address: number;
  readonly #memory: MachineMemory;
  readonly #backend: HostBackend;
  readonly #container: MemoryRegion;
  readonly #slots: DynamicMemslots;

  /** @param address where nothing else is. @throws {RangeError} if the host cannot have so much */
  constructor(memory: MachineMemory, address: number, { id, count, slotSize }: MemslotArrayOptions) {
    const size = count * slotSize;
    this.id = id;
    this.count = count;
    this.slotSize = slotSize;
    this.address = address;
    this.#memory = memory;
    this.#backend = memory.createBackend(id, size);
    const { topology, system } = memory.pc;
    this.#container = topology.createRegion({ name: id, kind: 'container', size: BigInt(size) });
    const layout = { size, memslots: count, memslotSize: slotSize };
    this.#slots = new DynamicMemslots(this.#container, this.#backend.backend.region, layout);
    system.addSubregion(BigInt(address), this.#container);
  }

  /** How many are mapped. */
  get mapped(): number {
    return this.#slots.mapped;
  }

  isMapped(slot: number): boolean {
    return this.#slots.isMapped(slot);
  }

  gpaOf(slot: number): number {
    return this.address + slot * this.slotSize;
  }

  /** Maps `count` of them from `slot` on, in one change of memory. @throws {ProtocolError} a back-end's refusal; none is mapped then */
  map(slot: number, count = 1): void {
    this.#slots.activate(slot * this.slotSize, count * this.slotSize);
  }

  /** @throws {ProtocolError} a back-end's refusal; they are mapped as before then */
  unmap(slot: number, count = 1): void {
    this.#slots.deactivate(slot * this.slotSize, count * this.slotSize, () => false);
  }

  /** Memory in a slot that is mapped. @throws {ProtocolError} UNMAPPED */
  buffer(slot: number, offset: number, size: number): GuestBuffer {
    return this.#memory.buffer(this.gpaOf(slot) + offset, size);
  }

  /** Memory in a slot, mapped or not: what a guest that misbehaves uses. */
  unmappedBuffer(slot: number, offset: number, size: number): GuestBuffer {
    const at = slot * this.slotSize + offset;
    return { gpa: this.address + at, bytes: this.#backend.host.view(at, size) };
  }

  /** Gives a slot's pages back; they read as zeros. @returns 0 or −errno */
  discard(slot: number): number {
    return this.#backend.host.discard(slot * this.slotSize, this.slotSize);
  }

  /** Unmaps all and gives the memory back. @throws {ProtocolError} a back-end's refusal; they are mapped as before then */
  [Symbol.dispose](): void {
    if (this.#container.container === undefined) return;
    this.unmap(0, this.count);
    this.#memory.pc.system.removeSubregion(this.#container);
    this.#backend[Symbol.dispose]();
  }
}
