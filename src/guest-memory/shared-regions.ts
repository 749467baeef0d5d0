/**
 * The memory table in native memory, for other threads: one publishes, the others copy what has changed.
 *
 * A copy is taken under a lock, never on the path of a request: readers look at `generation` alone, and copy when it
 * is another one than theirs. Who publishes the removal of a region, or another log, must wait for the readers before
 * what went is unmapped: `TurnGate`.
 */
import { NativeMemory } from '../host/native-memory.ts';
import { SharedLock } from '../host/shared-lock.ts';
import type { MappedRegion } from './region.ts';

/** Words of the header. */
const LOCK = 0;
const GENERATION = 1;
const COUNT = 2;
const RESERVATIONS = 3;
const NOTES = 4;
/** Numbers of the header, in units of 8 bytes. */
const LOG = 8;
const RESERVATION = 16;
const MAX_RESERVATIONS = 64;
const COLUMNS = 512;

/** A range of addresses. Size 0: none. */
export interface AddressRange {
  readonly address: number;
  readonly size: number;
}

/** Numbers that travel with the table: whoever publishes them gives them their meaning. */
export interface Notes {
  readonly flags: number;
  /** −1 at first. */
  readonly fd: number;
}

export class SharedRegions {
  readonly maxSlots: number;
  readonly #memory: NativeMemory;
  readonly #lock: SharedLock;
  readonly #numbers: Float64Array;
  readonly #uvas: BigUint64Array;

  private constructor(memory: NativeMemory, maxSlots: number) {
    this.maxSlots = maxSlots;
    this.#memory = memory;
    this.#lock = new SharedLock(memory, 4 * LOCK);
    this.#numbers = new Float64Array(memory.u8.buffer, 0, COLUMNS + 3 * maxSlots);
    this.#uvas = new BigUint64Array(memory.u8.buffer, 8 * (COLUMNS + 3 * maxSlots), maxSlots);
  }

  /** An empty table, with room for so many regions. It lives as long as the process. */
  static create(maxSlots: number): SharedRegions {
    const memory = NativeMemory.reserve(8 * (COLUMNS + 4 * maxSlots));
    memory.i32[NOTES + 1] = -1;
    return new SharedRegions(memory, maxSlots);
  }

  /** The table another thread has made. @param address its `address` */
  static at(address: number, maxSlots: number): SharedRegions {
    return new SharedRegions(NativeMemory.at(address, 8 * (COLUMNS + 4 * maxSlots)), maxSlots);
  }

  get address(): number {
    return this.#memory.address;
  }

  /** Counts what was published. */
  get generation(): number {
    return Atomics.load(this.#memory.i32, GENERATION);
  }

  /**
   * @param regions the whole table
   * @param from index of the first that is another one than before
   * @param reservations the arena they lie in
   */
  publish(regions: readonly MappedRegion[], from: number, reservations: readonly AddressRange[]): void {
    this.#change(() => {
      for (let i = from; i < regions.length; i += 1) {
        const { gpa, size, address, described } = regions[i]!;
        this.#numbers[COLUMNS + i] = gpa;
        this.#numbers[COLUMNS + this.maxSlots + i] = gpa + size;
        this.#numbers[COLUMNS + 2 * this.maxSlots + i] = address;
        this.#uvas[i] = described.userspaceAddr;
      }
      this.#memory.i32[COUNT] = regions.length;
      this.#memory.i32[RESERVATIONS] = Math.min(reservations.length, MAX_RESERVATIONS);
      reservations.slice(0, MAX_RESERVATIONS).forEach((range, i) => this.#store(RESERVATION + 2 * i, range));
    });
  }

  publishLog(log: AddressRange, reservations: readonly AddressRange[]): void {
    this.#change(() => {
      this.#store(LOG, log);
      this.#memory.i32[RESERVATIONS] = Math.min(reservations.length, MAX_RESERVATIONS);
      reservations.slice(0, MAX_RESERVATIONS).forEach((range, i) => this.#store(RESERVATION + 2 * i, range));
    });
  }

  publishNotes({ flags, fd }: Notes): void {
    this.#change(() => {
      this.#memory.i32[NOTES] = flags;
      this.#memory.i32[NOTES + 1] = fd;
    });
  }

  /** Calls `copy` while nobody publishes. @returns the generation copied */
  read(copy: (table: SharedRegions) => void): number {
    this.#lock.acquire();
    copy(this);
    const { generation } = this;
    this.#lock.release();
    return generation;
  }

  // Within `read` only:

  get count(): number {
    return this.#memory.i32[COUNT]!;
  }
  get starts(): Float64Array {
    return this.#column(0);
  }
  get ends(): Float64Array {
    return this.#column(1);
  }
  get addresses(): Float64Array {
    return this.#column(2);
  }
  get uvas(): BigUint64Array {
    return this.#uvas.subarray(0, this.count);
  }
  get log(): AddressRange {
    return this.#load(LOG);
  }
  get notes(): Notes {
    return { flags: this.#memory.i32[NOTES]!, fd: this.#memory.i32[NOTES + 1]! };
  }
  get reservations(): readonly AddressRange[] {
    return Array.from({ length: this.#memory.i32[RESERVATIONS]! }, (_, i) => this.#load(RESERVATION + 2 * i));
  }

  #column(column: number): Float64Array {
    const start = COLUMNS + column * this.maxSlots;
    return this.#numbers.subarray(start, start + this.count);
  }

  #change(change: () => void): void {
    this.#lock.acquire();
    change();
    // Inside the lock: who sees this generation and takes the lock after sees what belongs to it.
    Atomics.add(this.#memory.i32, GENERATION, 1);
    this.#lock.release();
  }

  #store(at: number, { address, size }: AddressRange): void {
    this.#numbers[at] = address;
    this.#numbers[at + 1] = size;
  }

  #load(at: number): AddressRange {
    return { address: this.#numbers[at]!, size: this.#numbers[at + 1]! };
  }
}
