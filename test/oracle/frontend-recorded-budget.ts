/**
 * The tables of a recorded machine's vhost devices, as QEMU counts them.
 *
 * QEMU 10.0.2 has one count for all devices: any device's change overwrites it, a device that goes sets it to zero, and where it exceeds a
 * limit, what is left wraps around to a great deal. So it may let in what the rules, which are those of 10.0.13, refuse. What was let in is an
 * input of the recording: it is let in here, too, and said so.
 */
import { MemoryDeviceError } from '../../src/errors.ts';
import type { MemslotConsumer } from '../../src/memory-devices/memslot-budget.ts';
import type { PcMemory } from '../../src/memory-devices/pc-memory.ts';
import { VhostSlotCounter } from '../../src/memory-devices/vhost-sections.ts';

/** What only the count of used memslots decides. */
const BY_COUNT: ReadonlySet<string> = new Set(['VHOST_SLOTS', 'BACKEND_LIMIT']);

export class RecordedBudget {
  /** What was let in against the rules. */
  readonly forced: string[] = [];
  readonly #memory: PcMemory;
  readonly #tables = new Map<
    number,
    { readonly counter: VhostSlotCounter; readonly consumer: MemslotConsumer }
  >();
  #isForcing = false;

  constructor(memory: PcMemory) {
    this.#memory = memory;
  }

  /** Whether a vhost device has been taken in. */
  get hasTables(): boolean {
    return this.#tables.size > 0;
  }

  /**
   * A vhost device with room for so many regions.
   *
   * @param isUsed it works in QEMU
   * @throws {MemoryDeviceError} it is refused
   */
  connect(dev: number, limit: number, isUsed: boolean): void {
    const { space, budget } = this.#memory;
    const name = `device ${dev}`;
    const counter = new VhostSlotCounter(name, limit);
    const isForcing = (): boolean => this.#isForcing;
    const consumer: MemslotConsumer = {
      name,
      limit,
      get used() {
        return isForcing() ? -Infinity : counter.used;
      },
    };
    space.addListener(counter);
    try {
      if (isUsed) this.admit(name, () => budget.attach(consumer));
      else budget.attach(consumer);
    } catch (refused) {
      space.removeListener(counter);
      throw refused;
    }
    this.#tables.set(dev, { counter, consumer });
  }

  disconnect(dev: number): void {
    const table = this.#tables.get(dev);
    if (table === undefined) return;
    this.#memory.budget.detach(table.consumer);
    this.#memory.space.removeListener(table.counter);
    this.#tables.delete(dev);
  }

  /** Does what QEMU did: again, with as much room as anybody could want, if it is refused for want of memslots. */
  admit(what: string, change: () => void): void {
    try {
      change();
    } catch (error) {
      if (!(error instanceof MemoryDeviceError) || !BY_COUNT.has(error.code)) throw error;
      this.#isForcing = true;
      change();
      this.forced.push(`${what} is let in by QEMU; the rules refuse it: ${error.message}`);
    } finally {
      this.#isForcing = false;
    }
  }
}
