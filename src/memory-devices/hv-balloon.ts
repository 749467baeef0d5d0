/**
 * The memory-device side of a Hyper-V dynamic memory balloon: memory it can hot-add, mapped memslot by memslot as it is added.
 *
 * Hot-added memory grows from the start; it does not shrink but as a whole, when the machine restarts. What the balloon itself does,
 * and the protocol by which the guest takes part, are not here.
 */
import { MemoryDeviceError } from '../errors.ts';
import type { MemoryRegion } from '../memory/region.ts';
import { GiB, hex, MiB } from '../units.ts';
import { DynamicMemslots, layoutOf } from './dynamic-memslots.ts';
import type { MemoryDevice, MemoryDeviceDescription } from './memory-device.ts';
import type { RamBackend } from './ram-backend.ts';

/** Memslots are multiples of this. */
const MEMSLOT_ALIGNMENT = 128 * MiB;
/** The guest may ask for memory aligned to up to this. */
const ADDRESS_ALIGNMENT = BigInt(32 * GiB);

export interface HvBalloonOptions {
  readonly id?: string;
  /** Memory to hot-add; absent: it only balloons, and is empty as a memory device. */
  readonly backend?: RamBackend;
  /** Wanted guest physical address; default: any. */
  readonly address?: bigint;
}

export class HvBalloon implements MemoryDevice {
  readonly id: string | undefined;
  readonly backend: RamBackend | undefined;
  readonly #container: MemoryRegion | undefined;
  readonly #wantedAddress: bigint;
  #memslots: DynamicMemslots | undefined;
  #address: bigint;
  #added = 0;
  #isPlugged = false;

  constructor({ id, backend, address = 0n }: HvBalloonOptions) {
    this.id = id;
    this.backend = backend;
    this.#wantedAddress = this.#address = address;
    this.#container = backend?.region.topology.createRegion({
      name: 'hv-balloon',
      kind: 'container',
      size: backend.region.size,
    });
  }

  get address(): bigint {
    return this.#address;
  }
  /** Bytes hot-added so far, from the start of the region. */
  get addedSize(): number {
    return this.#added;
  }
  get dynamicMemslots(): DynamicMemslots | undefined {
    return this.#memslots;
  }

  setAddress(address: bigint): void {
    this.#address = address;
  }

  /** All of it, whatever is added: the balloon reports what the guest has in its own way. */
  pluggedSize(): bigint {
    return this.#container?.size ?? 0n;
  }

  region(): MemoryRegion | undefined {
    return this.#container;
  }

  decideMemslots(limit: number): void {
    if (this.backend === undefined || this.#container === undefined || this.#isPlugged) return;
    const layout = layoutOf(Number(this.#container.size), limit, {
      alignment: MEMSLOT_ALIGNMENT,
      minSize: MEMSLOT_ALIGNMENT,
    });
    this.#memslots = new DynamicMemslots(this.#container, this.backend.region, layout);
  }

  memslots(): number {
    return this.#memslots?.layout.memslots ?? 1;
  }

  minAlignment(): bigint {
    return ADDRESS_ALIGNMENT;
  }

  describe(): MemoryDeviceDescription {
    return this.backend === undefined
      ? { type: 'hv-balloon', id: this.id, maxSize: 0n }
      : {
          type: 'hv-balloon',
          id: this.id,
          memaddr: this.#address,
          maxSize: this.backend.region.size,
          memdev: this.backend.id,
        };
  }

  plugged(): void {
    this.#isPlugged = true;
  }

  assertUnpluggable(): void {
    if (this.#added > 0)
      throw new MemoryDeviceError(
        'STILL_IN_USE',
        `the guest has ${hex(this.#added)} bytes of hot-added memory`,
      );
  }

  unplugged(): void {
    this.#isPlugged = false;
    this.#address = this.#wantedAddress;
  }

  /** Gives the guest `size` more bytes; the memslots they lie in are mapped. @throws {MemoryDeviceError} NOT_PLUGGED, SIZE */
  hotAdd(size: number): void {
    if (!this.#isPlugged || this.#memslots === undefined)
      throw new MemoryDeviceError('NOT_PLUGGED', 'the balloon has no memory to add');
    const left = this.#memslots.layout.size - this.#added;
    if (!(size > 0 && size <= left) || size % 4096 !== 0)
      throw new MemoryDeviceError('SIZE', `${hex(size)} bytes to add; allowed are pages, up to ${hex(left)}`);
    this.#memslots.activate(this.#added, size);
    this.#added += size;
  }

  /** The machine restarts: nothing is added any more. */
  systemReset(): void {
    if (this.#added === 0 || this.#memslots === undefined) return;
    this.#memslots.deactivate(0, this.#added, () => false);
    this.#added = 0;
  }
}
