/**
 * The guest's memory as a thread sees it that does not change it: its own copy of what another thread has published.
 *
 * `refresh` at the begin of each turn takes over what has changed. Within a turn the copy may be older than the table:
 * an address it does not know makes it look again, and one that it knows is safe, because who removes a region waits
 * for the end of the turn before unmapping it.
 */
import { arena } from './arena.ts';
import { DirtyLog } from './dirty-log.ts';
import type { ReachableMemory } from './reachable-memory.ts';
import { RegionColumns } from './region-columns.ts';
import type { Notes, SharedRegions } from './shared-regions.ts';

export class GuestMemoryView implements ReachableMemory {
  readonly #shared: SharedRegions;
  readonly #columns = new RegionColumns();
  #uvas = new BigUint64Array(0);
  /** Index of the region that `resolveUva` found last. */
  #lastUva = 0;
  #generation = 0;
  #isChanged = false;
  #log: DirtyLog | undefined;
  #logAddress = 0;
  #logSize = 0;
  #notes: Notes = { flags: 0, fd: -1 };
  lastAddress = 0;

  constructor(shared: SharedRegions) {
    this.#shared = shared;
  }

  /** What was published beside the table. */
  get notes(): Notes {
    return this.#notes;
  }

  get isLogging(): boolean {
    return this.#log !== undefined;
  }

  get lastWordsAddress(): number {
    return arena.lastWordsAddress;
  }

  /** Takes over what has changed. @returns true if something has since this was last asked */
  refresh(): boolean {
    this.#catchUp();
    const isChanged = this.#isChanged;
    this.#isChanged = false;
    return isChanged;
  }

  translate(gpa: number, size: number): number {
    let index = this.#columns.find(gpa);
    if (index < 0) {
      if (!this.#catchUp()) return 0;
      index = this.#columns.find(gpa);
      if (index < 0) return 0;
    }
    const { starts, ends, addresses } = this.#columns;
    this.lastAddress = addresses[index]! + (gpa - starts[index]!);
    const available = ends[index]! - gpa;
    return available < size ? available : size;
  }

  resolveUva(uva: bigint, size: number): number {
    const { count } = this.#columns;
    // A ring is looked for again after each change: it is where it was, or beside it.
    for (let i = Math.max(0, this.#lastUva - 1); i < Math.min(count, this.#lastUva + 2); i += 1)
      if (this.#holds(i, uva, size)) return this.#addressOfUva(i, uva);
    for (let i = 0; i < count; i += 1) if (this.#holds(i, uva, size)) return this.#addressOfUva(i, uva);
    return -1;
  }

  ringView(address: number, size: number): DataView<ArrayBuffer> {
    return arena.view(address, size);
  }

  wordsAround(address: number): Uint32Array {
    return arena.wordsAround(address);
  }

  markDirty(gpa: number, size: number): void {
    this.#log?.mark(gpa, size);
  }

  #holds(index: number, uva: bigint, size: number): boolean {
    const { starts, ends } = this.#columns;
    const start = this.#uvas[index]!;
    return uva >= start && uva + BigInt(size) <= start + BigInt(ends[index]! - starts[index]!);
  }

  #addressOfUva(index: number, uva: bigint): number {
    this.#lastUva = index;
    return this.#columns.addresses[index]! + Number(uva - this.#uvas[index]!);
  }

  /** @returns true if there was something new */
  #catchUp(): boolean {
    if (this.#shared.generation === this.#generation) return false;
    this.#generation = this.#shared.read((table) => this.#copy(table));
    this.#isChanged = true;
    return true;
  }

  #copy(table: SharedRegions): void {
    const { count, log } = table;
    const columns = this.#columns;
    columns.resize(count);
    if (this.#uvas.length < count) this.#uvas = new BigUint64Array(2 * count);
    columns.starts.set(table.starts);
    columns.ends.set(table.ends);
    columns.addresses.set(table.addresses);
    this.#uvas.set(table.uvas);
    for (const { address, size } of table.reservations) arena.adopt(address, size);
    if (log.address !== this.#logAddress || log.size !== this.#logSize) {
      this.#log = log.size === 0 ? undefined : DirtyLog.at(log.address, log.size);
      this.#logAddress = log.address;
      this.#logSize = log.size;
    }
    this.#notes = table.notes;
  }
}
