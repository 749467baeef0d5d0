/** The sockets for memory modules: numbered, shared by pc-dimm and nvdimm. */
import { MemoryDeviceError } from '../errors.ts';

export class DimmSlots {
  readonly count: number;
  readonly #taken = new Set<number>();

  /** @throws {MemoryDeviceError} BAD_PROPERTY: ACPI has 256 at most */
  constructor(count: number) {
    if (count > MAX_DIMM_SLOTS)
      throw new MemoryDeviceError('BAD_PROPERTY', `unsupported amount of memory slots: ${count}`);
    this.count = count;
  }

  /** The wanted socket, or the first free one. Does not take it. @throws {MemoryDeviceError} DIMM_SLOT */
  find(wanted: number | undefined): number {
    // In QEMU's order, and with its range of 64 bits where there is no socket.
    if (wanted !== undefined && wanted >= this.count) {
      const last = BigInt.asUintN(64, BigInt(this.count) - 1n);
      throw refusal(`invalid slot number ${wanted}, valid range is [0-${last}]`);
    }
    if (this.count === 0) throw refusal(`no slots where allocated, please specify the 'slots' option`);
    if (wanted !== undefined) {
      if (this.#taken.has(wanted)) throw refusal(`slot ${wanted} is busy`);
      return wanted;
    }
    for (let slot = 0; slot < this.count; slot += 1) if (!this.#taken.has(slot)) return slot;
    throw refusal('no free slots available');
  }

  take(slot: number): void {
    this.#taken.add(slot);
  }

  release(slot: number): void {
    this.#taken.delete(slot);
  }
}

/** ACPI_MAX_RAM_SLOTS. */
export const MAX_DIMM_SLOTS = 256;

const refusal = (text: string): MemoryDeviceError => new MemoryDeviceError('DIMM_SLOT', text);
