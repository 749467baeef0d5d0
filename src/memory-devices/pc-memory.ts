/**
 * The memory of a PC (q35, or i440FX), as far as memory devices and vhost back-ends see it: RAM below and above 4 GiB, the hole that the
 * firmware opens and closes, the window for memory devices above it all.
 *
 *     0 ──── RAM ────┤   (PCI)   4 GiB ── rest of RAM ──┤  up to 1 GiB ├── device memory: maxmem − RAM, + 1 GiB for each socket ──
 */
import type { MemoryRegion } from '../memory/region.ts';
import type { AddressSpace } from '../memory/address-space.ts';
import { SPACE_SIZE } from '../memory/region-description.ts';
import { MemoryTopology } from '../memory/topology.ts';
import { GiB } from '../units.ts';
import { alignUp } from './address-search.ts';
import { DeviceMemory } from './device-memory.ts';
import { DimmSlots } from './dimm-slots.ts';
import { MemslotBudget, UNLIMITED_MEMSLOTS, type MemslotConsumer } from './memslot-budget.ts';
import { createRamBackend, type RamBackendOptions } from './ram-backend.ts';
import { VhostSlotCounter } from './vhost-sections.ts';

const FOUR_GIB = 4n << 30n;
const ONE_GIB = 1n << 30n;
/** With `split` bytes of RAM or more, only `low` are below 4 GiB. */
const LOW_RAM = {
  q35: { split: 0xb000_0000n, low: 0x8000_0000n },
  pc: { split: 0xe000_0000n, low: 0xc000_0000n },
};
/** Where the firmware's ROMs are seen until it has copied itself into RAM. */
const FIRMWARE_HOLE = { start: 0xc_0000n, size: 0x4_0000n };

/** How far the machine has got: while it is `created`, all RAM is seen; then the firmware hides a part until it is done. */
export type PcPhase = 'created' | 'paused' | 'booted';

export interface PcMemoryOptions {
  /** RAM, in pieces with memory of their own; usually one. Bytes. */
  readonly ram: readonly (bigint | RamBackendOptions)[];
  /** RAM and all memory devices together, in bytes. Default: no memory devices. */
  readonly maxmem?: bigint;
  /** Sockets for memory modules. Default 0. */
  readonly dimmSlots?: number;
  /** Which of QEMU's PCs; they differ in how much RAM is below 4 GiB. Default `q35`. */
  readonly machine?: 'q35' | 'pc';
  /** How many memslots the hypervisor has. Default: no limit. */
  readonly hypervisorLimit?: number;
}

export class PcMemory {
  readonly topology = new MemoryTopology();
  /** The root of what the CPUs see. */
  readonly system: MemoryRegion;
  readonly space: AddressSpace;
  readonly budget: MemslotBudget;
  readonly devices: DeviceMemory;
  readonly dimmSlots: DimmSlots;
  /** What a vhost back-end without any limit would use. */
  readonly observer = new VhostSlotCounter('observer', UNLIMITED_MEMSLOTS);
  readonly #hole: MemoryRegion;

  /** @throws {MemoryDeviceError} BAD_PROPERTY */
  constructor(options: PcMemoryOptions) {
    const { ram, maxmem, dimmSlots = 0, machine = 'q35', hypervisorLimit } = options;
    const { topology } = this;
    this.dimmSlots = new DimmSlots(dimmSlots);
    this.system = topology.createRegion({ name: 'system', kind: 'container', size: SPACE_SIZE });
    const all = this.#createRam(ram);
    const low = all.size >= LOW_RAM[machine].split ? LOW_RAM[machine].low : all.size;
    this.#show('ram-below-4g', all, { at: 0n, offset: 0n, size: low });
    if (all.size > low) this.#show('ram-above-4g', all, { at: FOUR_GIB, offset: low, size: all.size - low });
    this.#hole = topology.createRegion({ name: 'firmware', kind: 'io', size: FIRMWARE_HOLE.size });
    this.#hole.setEnabled(false);
    this.system.addSubregion(FIRMWARE_HOLE.start, this.#hole, 1);
    this.space = topology.createAddressSpace('memory', this.system);
    this.space.addListener(this.observer);
    this.budget = new MemslotBudget(this.#hypervisor(hypervisorLimit));
    const space = maxmem === undefined || maxmem < all.size ? 0n : maxmem - all.size;
    this.devices = new DeviceMemory({
      topology,
      container: this.system,
      base: alignUp(FOUR_GIB + (all.size - low), ONE_GIB),
      space,
      windowSize: space === 0n ? 0n : space + BigInt(dimmSlots) * BigInt(GiB),
      budget: this.budget,
    });
  }

  setPhase(phase: PcPhase): void {
    this.#hole.setEnabled(phase === 'paused');
  }

  /**
   * A vhost device is created: it counts what is mapped, and is taken in if its limit allows.
   *
   * @throws {MemoryDeviceError} BACKEND_RESTRICTS, BACKEND_LIMIT
   */
  connect(name: string, limit: number): VhostSlotCounter {
    const counter = new VhostSlotCounter(name, limit);
    this.space.addListener(counter);
    try {
      this.budget.attach(counter);
    } catch (refused) {
      this.space.removeListener(counter);
      throw refused;
    }
    return counter;
  }

  disconnect(counter: VhostSlotCounter): void {
    this.budget.detach(counter);
    this.space.removeListener(counter);
  }

  #createRam(pieces: PcMemoryOptions['ram']): MemoryRegion {
    const { topology } = this;
    const backends = pieces.map((piece, index) =>
      createRamBackend(
        topology,
        typeof piece === 'bigint'
          ? { id: `ram${index}`, size: piece, block: { fd: 0, isShared: true } }
          : piece,
      ),
    );
    if (backends.length === 1) return backends[0]!.region;
    const size = backends.reduce((sum, { region }) => sum + region.size, 0n);
    const all = topology.createRegion({ name: 'ram', kind: 'container', size });
    let at = 0n;
    for (const { region } of backends) {
      all.addSubregion(at, region);
      at += region.size;
    }
    return all;
  }

  #show(
    name: string,
    target: MemoryRegion,
    { at, offset, size }: { readonly at: bigint; readonly offset: bigint; readonly size: bigint },
  ): void {
    const alias = this.topology.createRegion({ name, kind: 'alias', target, offset, size });
    this.system.addSubregion(at, alias);
  }

  /** It has one memslot for each entry of a vhost table: what is folded there is one section here, too, but for small holes. */
  #hypervisor(limit: number | undefined): MemslotConsumer | undefined {
    const { observer } = this;
    if (limit === undefined) return undefined;
    return {
      name: 'hypervisor',
      limit,
      get used() {
        return observer.used;
      },
    };
  }
}
