/**
 * The window of guest physical memory into which memory devices are plugged, and who is in it.
 *
 * Plugging has two steps, as in QEMU: `prePlug` finds out whether it is possible and where, `plug` maps. Every refusal comes in the first
 * step and changes nothing.
 */
import { MemoryDeviceError } from '../errors.ts';
import type { AddressSpace } from '../memory/address-space.ts';
import type { MemoryRegion } from '../memory/region.ts';
import type { MemoryTopology } from '../memory/topology.ts';
import { hex } from '../units.ts';
import { findAddress, type AddressRange, type OccupiedRange } from './address-search.ts';
import type { MemoryDevice, MemoryDeviceDescription } from './memory-device.ts';
import type { MemslotBudget } from './memslot-budget.ts';
import { undo } from './undo.ts';

export interface DeviceMemoryOptions {
  readonly topology: MemoryTopology;
  /** Where the window is mapped; usually the machine's system memory. */
  readonly container: MemoryRegion;
  /** Guest physical address of the window. */
  readonly base: bigint;
  /** What devices may have together: maxmem − RAM. 0: the machine takes no memory devices. */
  readonly space: bigint;
  /** Size of the window, at least `space`; the rest is lost to alignment. Default: `space`. */
  readonly windowSize?: bigint;
  readonly budget: MemslotBudget;
}

/** A device that passed `prePlug`, and what it was found to need. */
interface Placement {
  readonly region: MemoryRegion | undefined;
  readonly memslots: number;
}

export class DeviceMemory {
  readonly region: MemoryRegion;
  readonly space: bigint;
  readonly window: AddressRange;
  readonly budget: MemslotBudget;
  readonly #addressSpace: AddressSpace;
  readonly #placed = new Map<MemoryDevice, Placement>();
  /** Plugged ones that are not empty, in address order. */
  readonly #devices: MemoryDevice[] = [];
  readonly #empty: MemoryDevice[] = [];
  #usedSpace = 0n;

  constructor(options: DeviceMemoryOptions) {
    const { topology, container, base, space, windowSize = space, budget } = options;
    this.space = space;
    this.window = { start: base, size: windowSize };
    this.budget = budget;
    this.region = topology.createRegion({ name: 'device-memory', kind: 'container', size: windowSize });
    if (windowSize > 0n) container.addSubregion(base, this.region);
    this.#addressSpace = topology.createAddressSpace('device-memory', this.region);
    this.#addressSpace.addListener({
      name: 'memory-device',
      regionAdd: (section) => {
        if (section.region.isRam) budget.mappedChanged(1);
      },
      regionDel: (section) => {
        if (section.region.isRam) budget.mappedChanged(-1);
      },
    });
  }

  /** What is plugged, in address order; devices without memory last. */
  get devices(): readonly MemoryDevice[] {
    return [...this.#devices, ...this.#empty];
  }
  /** Bytes of the space that plugged devices take, whether the guest has them or not. */
  get usedSpace(): bigint {
    return this.#usedSpace;
  }
  /** Bytes the guest can use of all devices: the machine's memory is this and its RAM. */
  get pluggedSize(): bigint {
    return this.#devices.reduce((sum, device) => sum + device.pluggedSize(), 0n);
  }

  /** Every plugged device, in address order: `query-memory-devices`. */
  describe(): readonly MemoryDeviceDescription[] {
    return this.devices.map((device) => device.describe());
  }

  /**
   * Finds out whether and where a device can be plugged, lets it decide for memslots and gives it its address.
   *
   * @throws {MemoryDeviceError} NOT_PREPARED, HYPERVISOR_SLOTS, VHOST_SLOTS, NO_SPACE, SIZE, ADDRESS, FRAGMENTED, DUPLICATE_ID,
   *   BACKEND_BUSY, NOT_PLUGGED if it is plugged already, and what the device itself throws
   */
  prePlug(device: MemoryDevice): void {
    if (this.#isPlugged(device))
      throw new MemoryDeviceError('NOT_PLUGGED', `device ${device.id ?? '(unnamed)'} is plugged already`);
    this.#assertUnique(device);
    device.assertPluggable?.();
    const region = device.region();
    if (region === undefined) {
      this.#placed.set(device, { region: undefined, memslots: 0 });
      return;
    }
    if (this.space === 0n) {
      throw new MemoryDeviceError(
        'NOT_PREPARED',
        'the configuration is not prepared for memory devices (e.g., for memory hotplug), consider specifying the maxmem option',
      );
    }
    const memslots = this.#checkAddable(device, region);
    const address = this.#findAddress(device, region);
    device.assertRealizable?.();
    device.setAddress(address);
    this.#placed.set(device, { region, memslots });
  }

  /**
   * Maps a device that has passed `prePlug`.
   *
   * @throws {MemoryDeviceError} NOT_PLUGGED if it has not
   * @throws what a listener of memory threw, such as a vhost back-end's refusal; the device is not plugged then
   */
  plug(device: MemoryDevice): void {
    const placement = this.#placed.get(device);
    if (placement === undefined || this.#isPlugged(device))
      throw new MemoryDeviceError('NOT_PLUGGED', `device ${device.id ?? '(unnamed)'} is not prepared`);
    const { region } = placement;
    if (region === undefined) this.#empty.push(device);
    else {
      this.#takeIn(device, placement, 1);
      try {
        this.region.addSubregion(device.address - this.window.start, region);
      } catch (refused) {
        this.#takeIn(device, placement, -1);
        this.#placed.delete(device);
        undo(() => this.region.removeSubregion(region));
        throw refused;
      }
    }
    device.plugged?.();
  }

  /** `prePlug` and `plug`. */
  add(device: MemoryDevice): void {
    this.prePlug(device);
    this.plug(device);
  }

  /**
   * Takes a device out.
   *
   * @throws {MemoryDeviceError} NOT_PLUGGED; STILL_IN_USE if the guest has memory of it
   * @throws what a listener of memory threw; the device is plugged as before then
   */
  unplug(device: MemoryDevice): void {
    const placement = this.#placed.get(device);
    if (placement === undefined || !this.#isPlugged(device))
      throw new MemoryDeviceError('NOT_PLUGGED', `device ${device.id ?? '(unnamed)'} is not plugged`);
    device.assertUnpluggable?.();
    const { region } = placement;
    if (region === undefined) this.#empty.splice(this.#empty.indexOf(device), 1);
    else {
      try {
        this.region.removeSubregion(region);
      } catch (refused) {
        undo(() => this.region.addSubregion(device.address - this.window.start, region));
        throw refused;
      }
      this.#takeIn(device, placement, -1);
    }
    this.#placed.delete(device);
    device.unplugged?.();
  }

  /** Keeps account of a device that comes (1) or goes (−1). */
  #takeIn(device: MemoryDevice, { region, memslots }: Placement, by: 1 | -1): void {
    const at = this.#devices.findIndex((other) =>
      by === 1 ? other.address > device.address : other === device,
    );
    if (by === -1) this.#devices.splice(at, 1);
    else this.#devices.splice(at < 0 ? this.#devices.length : at, 0, device);
    this.#usedSpace += BigInt(by) * (region?.size ?? 0n);
    this.budget.deviceChanged(by, memslots, hasDecided(device, memslots));
  }

  #isPlugged(device: MemoryDevice): boolean {
    return this.#devices.includes(device) || this.#empty.includes(device);
  }

  #assertUnique(device: MemoryDevice): void {
    const { id, backend } = device;
    for (const other of this.devices) {
      if (id !== undefined && other.id === id)
        throw new MemoryDeviceError('DUPLICATE_ID', `Duplicate device ID '${id}'`);
      if (backend !== undefined && other.backend === backend)
        throw new MemoryDeviceError('BACKEND_BUSY', `can't use already busy memdev: ${backend.id}`);
    }
    if (backend?.region.isMapped === true)
      throw new MemoryDeviceError('BACKEND_BUSY', `can't use already busy memdev: ${backend.id}`);
  }

  /** @returns memslots it needs */
  #checkAddable(device: MemoryDevice, region: MemoryRegion): number {
    const { space, budget } = this;
    device.decideMemslots?.(
      budget.decisionLimit({
        size: Number(region.size),
        space: Number(space),
        usedSpace: Number(this.#usedSpace),
      }),
    );
    const memslots = device.memslots?.() ?? 1;
    budget.assertFree(memslots);
    if (this.#usedSpace + region.size > space) {
      throw new MemoryDeviceError(
        'NO_SPACE',
        `not enough space, currently ${hex(this.#usedSpace)} in use of total space for memory devices ${hex(space)}`,
      );
    }
    return memslots;
  }

  #findAddress(device: MemoryDevice, region: MemoryRegion): bigint {
    const memoryAlignment = device.backend?.alignment ?? 1n;
    if (region.size % memoryAlignment !== 0n) {
      throw new MemoryDeviceError('SIZE', `backend memory size must be multiple of ${hex(memoryAlignment)}`);
    }
    const own = device.minAlignment?.() ?? 1n;
    const occupied: OccupiedRange[] = this.#devices.map((other) => ({
      id: other.id,
      start: other.address,
      size: this.#placed.get(other)?.region?.size ?? 0n,
    }));
    return findAddress(this.window, occupied, {
      size: region.size,
      alignment: own > memoryAlignment ? own : memoryAlignment,
      hint: device.address,
    });
  }
}

const hasDecided = (device: MemoryDevice, memslots: number): boolean =>
  device.decideMemslots !== undefined && memslots > 1;
