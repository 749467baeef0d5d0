/**
 * The memory table of a back-end: what it should have, what it has, and the messages that make the second the first.
 *
 *     wanted   regions of guest memory now            difference   addresses where the two differ
 *     held     what the back-end has acknowledged     refused      of these, what it would not do (strict only)
 *
 * Removals come first, in reverse order of addition, then additions in address order. Regions are the same if guest address, size and
 * user address are. A removal names what was added, as remembered, whatever has become of that memory since.
 */
import { ProtocolFeature, SCM_MAX_FD } from '../../protocol/vhost-user.ts';
import type { MemoryRegionDescription } from '../../protocol/vhost-user-payloads.ts';
import { ProtocolError } from '../errors.ts';
import type { FoldedSection } from '../memory-devices/vhost-sections.ts';
import type { RamBlock } from '../memory/ram-block.ts';
import { hex } from '../units.ts';
import type { VhostUserFrontend } from './frontend.ts';
import { SortedByAddress } from './frontend-sorted.ts';
import type { RegionChange } from './memory-listener.ts';

interface Wanted {
  readonly region: MemoryRegionDescription;
  readonly block: RamBlock;
  readonly fd: number;
}

interface Held extends Wanted {
  /** Counts additions: the lower, the older. */
  readonly age: number;
}

export class FrontendMemoryTable {
  #frontend: VhostUserFrontend;
  readonly #wanted = new SortedByAddress<Wanted>(addressOf);
  readonly #held = new SortedByAddress<Held>(addressOf);
  readonly #difference = new SortedByAddress((address: bigint) => address);
  readonly #refused = new SortedByAddress((address: bigint) => address);
  #additions = 0;
  /** Entries the back-end has room for. */
  limit = 0;

  constructor(frontend: VhostUserFrontend) {
    this.#frontend = frontend;
  }

  /** Regions there should be. */
  get wanted(): number {
    return this.#wanted.size;
  }

  /** What the back-end has, oldest first: no more than it acknowledged, no less than it was not seen to give up. */
  get held(): readonly MemoryRegionDescription[] {
    if (this.#frontend.failure !== undefined) return []; // it has gone, and its memory with it
    return this.#held.all.toSorted((a, b) => a.age - b.age).map(({ region }) => region);
  }

  /** Takes note of a change. Nothing is sent. */
  note({ gone, come }: RegionChange): void {
    for (const { start } of gone) this.#wanted.delete(start);
    for (const folded of come) this.#wanted.set(wantedOf(folded));
    for (const { start } of gone) this.#compare(start);
    for (const { start } of come) this.#compare(start);
  }

  /**
   * Sends what has changed since the back-end was last told: during operation, after `note`.
   *
   * A refusal leaves the table as the back-end has it. `strict` does what else is to be removed, adds nothing more, and tries what
   * was refused again when that memory changes or at the next start, so that an operation fails for its own sake only. `qemu` stops at
   * once and begins with the same at the next change.
   *
   * @throws {ProtocolError} REFUSED; SLOT_LIMIT before anything is sent; what the front-end throws
   */
  update(): void {
    if (this.#frontend.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS)) this.#sendDifference();
    else this.#sendTable();
  }

  /** As `update`, at the start of a session: what was refused is tried again, and a table without slots is sent in any case. */
  start(): void {
    for (const address of this.#refused.all) this.#difference.set(address);
    this.#refused.clear();
    this.update();
  }

  /** As `start`, but with one table of everything, even if the back-end has slots. */
  startWhole(): void {
    this.#refused.clear();
    this.#sendTable();
  }

  /** Another connection, whose back-end has nothing yet. */
  reconnect(frontend: VhostUserFrontend, limit: number): void {
    this.#frontend = frontend;
    this.limit = limit;
    this.#held.clear();
    this.#refused.clear();
    this.#difference.clear();
    for (const { region } of this.#wanted.all) this.#difference.set(region.guestPhysAddr);
  }

  #compare(address: bigint): void {
    this.#refused.delete(address);
    const isSettled = this.#isSame(this.#wanted.get(address), this.#held.get(address));
    if (isSettled) this.#difference.delete(address);
    else this.#difference.set(address);
  }

  #isSame(a: Wanted | undefined, b: Wanted | undefined): boolean {
    if (a === undefined || b === undefined) return a === b;
    if (a.region.memorySize !== b.region.memorySize || a.region.userspaceAddr !== b.region.userspaceAddr)
      return false;
    // QEMU looks no further: other memory at the same user address would go unnoticed
    if (this.#frontend.mode === 'qemu') return true;
    return a.block === b.block && a.region.mmapOffset === b.region.mmapOffset;
  }

  #sendDifference(): void {
    const removals: Held[] = [];
    const additions: Wanted[] = [];
    for (const address of this.#difference.all) {
      const held = this.#held.get(address);
      const wanted = this.#wanted.get(address);
      if (held !== undefined) removals.push(held);
      if (wanted !== undefined) additions.push(wanted);
    }
    removals.sort((a, b) => b.age - a.age);
    const isStrict = this.#frontend.mode === 'strict';
    if (isStrict) this.#requireRoom(this.#held.size - removals.length + additions.length, additions);
    const failures: ProtocolError[] = [];
    for (const held of removals) {
      if (failures.length > 0 && !isStrict) break;
      collectRefusal(failures, () => this.#remove(held));
    }
    for (const wanted of additions) {
      if (failures.length > 0) break;
      collectRefusal(failures, () => this.#add(wanted));
    }
    if (failures.length > 0 && isStrict) this.#setAside();
    if (failures.length > 0) throw failures[0]!;
  }

  #remove(held: Held): void {
    this.#frontend.remMemReg(held.region);
    const address = held.region.guestPhysAddr;
    this.#held.delete(address);
    if (this.#wanted.get(address) === undefined) this.#difference.delete(address);
  }

  #add(wanted: Wanted): void {
    const address = wanted.region.guestPhysAddr;
    this.#frontend.addMemReg(wanted.region, wanted.fd);
    this.#held.set({ ...wanted, age: (this.#additions += 1) });
    this.#difference.delete(address);
  }

  #sendTable(): void {
    const regions = this.#wanted.all;
    this.#requireRoom(regions.length, regions, Math.min(this.limit, SCM_MAX_FD));
    if (regions.length === 0)
      throw new ProtocolError(
        'REGION_INVALID',
        'no memory that can be shared: a table has at least one region',
      );
    this.#frontend.setMemTable(
      regions.map(({ region }) => region),
      regions.map(({ fd }) => fd),
    );
    this.#held.clear();
    for (const wanted of regions) this.#held.set({ ...wanted, age: (this.#additions += 1) });
    this.#difference.clear();
  }

  /** The difference is the failed operation's: it is not made up for behind the back of the next one. */
  #setAside(): void {
    for (const address of this.#difference.all) this.#refused.set(address);
    this.#difference.clear();
  }

  #requireRoom(entries: number, additions: readonly Wanted[], limit = this.limit): void {
    if (entries <= limit || additions.length === 0) return;
    this.#setAside();
    const last = additions.at(-1)!.region.guestPhysAddr;
    throw new ProtocolError(
      'SLOT_LIMIT',
      `a memory table of ${entries} regions, up to that at ${hex(last)}; allowed ${limit}`,
    );
  }
}

const addressOf = ({ region }: Wanted): bigint => region.guestPhysAddr;

function collectRefusal(failures: ProtocolError[], attempt: () => void): void {
  try {
    attempt();
  } catch (error) {
    if (!(error instanceof ProtocolError) || error.code !== 'REFUSED') throw error;
    failures.push(error);
  }
}

function wantedOf({ section, start, size, offset }: FoldedSection): Wanted {
  const { block } = section.region;
  if (block?.fd === undefined || block.hostAddress === undefined)
    throw new TypeError(
      `${section.region.name}: shared with a back-end, but has no descriptor or no address`,
    );
  const region = {
    guestPhysAddr: start,
    memorySize: size,
    userspaceAddr: block.hostAddress + offset,
    mmapOffset: (block.fdOffset ?? 0n) + offset,
  };
  return { region, block, fd: block.fd };
}
