/** Where inodes without file handle were last seen: directory and name, to open them again by. */
import type { InodeTable } from './inode-table.ts';
import { NameArena } from './name-arena.ts';

export class InodeNames {
  #arena = new NameArena();
  #count = 0;
  readonly #table: InodeTable;

  constructor(table: InodeTable) {
    this.#table = table;
  }

  /** Inodes with a name noted. */
  get count(): number {
    return this.#count;
  }

  /** Whether this is what is noted already. */
  is(slot: number, parent: number, octets: Uint8Array, start: number, length: number): boolean {
    const table = this.#table;
    return (
      table.parent[slot] === parent &&
      table.nameLength[slot] === length &&
      this.#arena.equals(table.nameAt[slot]!, length, octets, start)
    );
  }

  /** Notes a name in place of the one before. @returns the directory before, 0 if none was noted */
  set(slot: number, parent: number, octets: Uint8Array, start: number, length: number): number {
    const before = this.drop(slot);
    const table = this.#table;
    table.nameAt[slot] = this.#arena.add(octets, start, length);
    table.nameLength[slot] = length;
    table.parent[slot] = parent;
    this.#count += 1;
    if (this.#arena.isWasteful) this.#compact();
    return before;
  }

  /** Forgets the name. @returns the directory it was in, 0 if none was noted */
  drop(slot: number): number {
    const table = this.#table;
    const parent = table.parent[slot]!;
    if (parent === 0) return 0;
    this.#arena.drop(table.nameLength[slot]!);
    table.parent[slot] = 0;
    table.nameLength[slot] = 0;
    this.#count -= 1;
    return parent;
  }

  /** Copies the name and its NUL to `to[at]`. */
  copy(slot: number, to: Uint8Array, at: number): void {
    this.#arena.copy(this.#table.nameAt[slot]!, this.#table.nameLength[slot]!, to, at);
  }

  clear(): void {
    this.#arena = new NameArena();
    this.#count = 0;
  }

  #compact(): void {
    const table = this.#table;
    this.#arena.compact((move) => {
      for (let slot = 1; slot < table.top; slot += 1)
        if (table.nodeid[slot] !== 0 && table.parent[slot] !== 0)
          table.nameAt[slot] = move(table.nameAt[slot]!, table.nameLength[slot]!);
    });
  }
}
