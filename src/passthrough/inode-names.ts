/** Where inodes without file handle were last seen: directory and name, to open them again by. Under the lock. */
import type { InodeTable } from './inode-table.ts';
import type { OctetPool } from './octet-pool.ts';
import { HeaderWord, type TableMemory } from './table-memory.ts';

export class InodeNames {
  readonly #header: Int32Array;
  readonly #table: InodeTable;
  readonly #pool: OctetPool;

  constructor({ header }: TableMemory, table: InodeTable, pool: OctetPool) {
    this.#header = header;
    this.#table = table;
    this.#pool = pool;
  }

  /** Inodes with a name noted. Any time. */
  get count(): number {
    return this.#header[HeaderWord.NAME_COUNT]!;
  }

  /** Whether this is what is noted already. */
  is(slot: number, parent: number, octets: Uint8Array, start: number, length: number): boolean {
    const table = this.#table;
    return (
      table.parent(slot) === parent &&
      table.nameLength(slot) === length &&
      this.#pool.are(table.nameAt(slot), length, octets, start)
    );
  }

  /** Notes a name; none is noted before. @returns false if there is no room for it */
  set(slot: number, parent: number, octets: Uint8Array, start: number, length: number): boolean {
    const at = this.#pool.allocate(length);
    if (at === 0) return false;
    this.#pool.set(at, octets, start, length);
    this.#table.setName(slot, parent, at, length);
    this.#header[HeaderWord.NAME_COUNT]! += 1;
    return true;
  }

  /** Forgets the name. @returns the directory it was in, 0 if none was noted */
  drop(slot: number): number {
    const table = this.#table;
    const parent = table.parent(slot);
    if (parent === 0) return 0;
    this.#pool.free(table.nameAt(slot), table.nameLength(slot));
    table.setName(slot, 0, 0, 0);
    this.#header[HeaderWord.NAME_COUNT]! -= 1;
    return parent;
  }

  /** Copies the name and its NUL to `to[0]`. */
  copy(slot: number, to: Uint8Array): void {
    this.#pool.copy(this.#table.nameAt(slot), this.#table.nameLength(slot), to);
  }
}
