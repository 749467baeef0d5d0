/**
 * The guest's memory as this process sees it: the memory table of a vhost-user session, mapped.
 *
 * The only place that turns an address from guest or front-end into one of this process, and only after it was found in
 * a region. Every change of the table is all or nothing; a refused one leaves the table as it was, and the file
 * descriptors that came with it closed.
 */
import { errnoName, ProtocolError } from '../errors.ts';
import { Cleanup, type OwnedFd } from '../host/owned-fd.ts';
import { hex } from '../units.ts';
import { arena } from './arena.ts';
import { DirtyLog } from './dirty-log.ts';
import {
  checkFile,
  type CheckedRegion,
  checkRegion,
  describe,
  type MappedRegion,
  type RegionDescription,
} from './region.ts';
import type { ReachableMemory } from './reachable-memory.ts';
import { RegionTable } from './region-table.ts';
import type { SharedRegions } from './shared-regions.ts';

/** The part of a logger that is used here. */
export interface GuestMemoryLog {
  debug(fields: object, event: string): void;
}

/** Other threads that reach this memory through what is published to them. */
export interface MemoryReaders {
  readonly shared: SharedRegions;
  /** Waits until none of them, nor the kernel on behalf of one, uses what was published before the last change. */
  waitForAll(): void;
}

interface Options {
  /** Regions the table may hold. */
  readonly maxSlots: number;
  readonly log?: GuestMemoryLog;
  readonly readers?: MemoryReaders | undefined;
}

export class GuestMemory implements ReachableMemory, Disposable {
  readonly maxSlots: number;
  readonly #log: GuestMemoryLog | undefined;
  readonly #readers: MemoryReaders | undefined;
  #table = new RegionTable();
  #dirtyLog: DirtyLog | undefined;
  #generation = 0;
  /** The region that an address of the front-end was found in last: rings are looked for again after each change. */
  #lastHolding: MappedRegion | undefined;

  /** Where the last `translate` that found something starts in this process. Only valid until the table changes. */
  lastAddress = 0;

  constructor({ maxSlots, log, readers }: Options) {
    this.maxSlots = maxSlots;
    this.#log = log;
    this.#readers = readers;
  }

  /** Counts the changes of the table: what was translated under another generation must be translated again. */
  get generation(): number {
    return this.#generation;
  }

  /** As described by the front-end, in order of guest physical address. */
  get regions(): readonly RegionDescription[] {
    return this.#table.regions.map((region) => region.described);
  }

  /**
   * Maps one more region (ADD_MEM_REG).
   *
   * @param fd owned from here on: closed once the region is mapped or refused
   * @throws {ProtocolError} SLOT_LIMIT, REGION_INVALID, REGION_OVERLAP, or SYSTEM if the kernel does not map it
   */
  addRegion(region: RegionDescription, fd: OwnedFd): void {
    using file = fd;
    const limit = this.maxSlots;
    if (this.#table.count >= limit)
      throw new ProtocolError(
        'SLOT_LIMIT',
        `${describe(region)} would be memslot ${limit + 1}, allowed ${limit}`,
      );
    this.#publish(mapInto(this.#table, checkRegion(region), file));
    this.#log?.debug({ ...shown(region), slots: this.#table.count }, 'memory_region_add');
  }

  /**
   * Unmaps one region (REM_MEM_REG); its pages are released before this returns.
   *
   * @param region guest physical address, size and user address must match; the offset is not looked at
   * @throws {ProtocolError} REGION_UNKNOWN; SYSTEM if the kernel does not unmap it
   */
  removeRegion(region: Omit<RegionDescription, 'mmapOffset'>): void {
    const found = this.#table.startingAt(Number(region.guestPhysAddr));
    if (found === undefined || !isSame(found.described, region)) {
      const { guestPhysAddr, memorySize, userspaceAddr } = region;
      const wanted = `${hex(guestPhysAddr)}+${hex(memorySize)} at user address ${hex(userspaceAddr)}`;
      throw new ProtocolError('REGION_UNKNOWN', `no region ${wanted}; the table has ${this.#table.count}`);
    }
    this.#publish(this.#table.remove(found));
    if (this.#lastHolding === found) this.#lastHolding = undefined;
    this.#readers?.waitForAll();
    const unmapped = arena.unmap(found.address, found.mappedSize);
    if (unmapped < 0) {
      this.#publish(this.#table.insert(found));
      throw new ProtocolError(
        'SYSTEM',
        `${describe(found.described)}: not unmapped, ${errnoName(-unmapped)}`,
      );
    }
    this.#log?.debug({ ...shown(found.described), slots: this.#table.count }, 'memory_region_del');
  }

  /**
   * Replaces the whole table (SET_MEM_TABLE): all of it, or nothing.
   *
   * @param fds one per region, owned from here on: closed whatever happens
   * @throws {ProtocolError} BAD_FDS, and what `addRegion` throws
   */
  replaceAll(regions: readonly RegionDescription[], fds: readonly OwnedFd[]): void {
    using files = new Cleanup();
    for (const fd of fds) files.use(fd);
    if (fds.length !== regions.length)
      throw new ProtocolError(
        'BAD_FDS',
        `${fds.length} descriptors, allowed one per region: ${regions.length}`,
      );
    if (regions.length > this.maxSlots)
      throw new ProtocolError('SLOT_LIMIT', `${regions.length} memslots, allowed ${this.maxSlots}`);
    const table = new RegionTable();
    using undo = new Cleanup();
    undo.defer(() => unmapAll(table));
    regions.forEach((region, i) => mapInto(table, checkRegion(region), fds[i]!));
    undo.keep();
    const replaced = this.#table;
    this.#table = table;
    this.#lastHolding = undefined;
    this.#publish(0);
    this.#readers?.waitForAll();
    unmapAll(replaced);
    this.#log?.debug({ slots: table.count, replaced: replaced.count }, 'memory_table_set');
  }

  /** Unmaps all regions. The dirty log stays. */
  clear(): void {
    this.replaceAll([], []);
  }

  /**
   * Where guest physical memory is in this process. Sets `lastAddress` if the answer is not 0.
   *
   * @param gpa any number: one that is in no region is answered with 0
   * @param size bytes, > 0
   * @returns how many of the bytes from `gpa` on lie in one region, at most `size`; the rest, if any, begins another
   *   region or is unmapped: ask again
   */
  translate(gpa: number, size: number): number {
    const index = this.#table.find(gpa);
    if (index < 0) return 0;
    this.lastAddress = this.#table.addressOf(index, gpa);
    const available = this.#table.endOf(index) - gpa;
    return available < size ? available : size;
  }

  /**
   * Where front-end memory is in this process. User addresses of regions may overlap: any that holds the range will do.
   *
   * @returns the address, or −1 if no region holds the whole range
   */
  resolveUva(uva: bigint, size: number): number {
    const region = this.#holding(uva, size);
    return region === undefined ? -1 : region.address + Number(uva - region.described.userspaceAddr);
  }

  /** @returns the guest physical address of front-end memory, or −1 if no region holds the whole range */
  gpaOfUva(uva: bigint, size: number): number {
    const region = this.#holding(uva, size);
    return region === undefined ? -1 : region.gpa + Number(uva - region.described.userspaceAddr);
  }

  /**
   * A view for a ring, which may be kept: once the region is removed it shows zeros, or memory of a later region.
   *
   * @param address from `resolveUva` or `translate`; typed arrays with atomic access need it aligned to their elements
   * @throws {RangeError} if the range was never guest memory
   */
  ringView(address: number, size: number): DataView<ArrayBuffer> {
    return arena.view(address, size);
  }

  /**
   * Permanent 32-bit words that include the one at `address`, for tables read in place. They may end before the region
   * does. Sets `lastWordsAddress`. Nothing is allocated per call.
   *
   * @param address from `translate`
   */
  wordsAround(address: number): Uint32Array {
    return arena.wordsAround(address);
  }

  /** Where in this process the first of the words is that `wordsAround` answered. */
  get lastWordsAddress(): number {
    return arena.lastWordsAddress;
  }

  /**
   * Starts logging dirty pages, or goes on in another log (SET_LOG_BASE). Regions may come before or after it.
   *
   * @param fd owned from here on: closed whatever happens
   * @throws {ProtocolError} BAD_VALUE or SYSTEM; the old log, if any, stays in use then
   */
  setLog(fd: OwnedFd, offset: bigint, size: bigint): void {
    this.#replaceLog(DirtyLog.map(fd, offset, size));
  }

  /** Stops logging. Idempotent. */
  clearLog(): void {
    if (this.#dirtyLog !== undefined) this.#replaceLog(undefined);
  }

  get isLogging(): boolean {
    return this.#dirtyLog !== undefined;
  }

  /** Marks the pages of a range dirty, after the bytes were written; does nothing while there is no log. */
  markDirty(gpa: number, size: number): void {
    this.#dirtyLog?.mark(gpa, size);
  }

  [Symbol.dispose](): void {
    this.clear();
    this.clearLog();
  }

  /** @param from index of the first region that has changed or moved */
  #publish(from: number): void {
    this.#generation++;
    this.#readers?.shared.publish(this.#table.regions, from, arena.reservations);
  }

  #replaceLog(log: DirtyLog | undefined): void {
    const replaced = this.#dirtyLog;
    this.#dirtyLog = log;
    this.#readers?.shared.publishLog(log?.range ?? { address: 0, size: 0 }, arena.reservations);
    this.#readers?.waitForAll();
    replaced?.unmap();
  }

  #holding(uva: bigint, size: number): MappedRegion | undefined {
    const last = this.#lastHolding;
    if (last !== undefined && holds(last, uva, size)) return last;
    this.#lastHolding = this.#table.regions.find((region) => holds(region, uva, size));
    return this.#lastHolding;
  }
}

const holds = (
  { described: { userspaceAddr, memorySize } }: MappedRegion,
  uva: bigint,
  size: number,
): boolean => uva >= userspaceAddr && uva + BigInt(size) <= userspaceAddr + memorySize;

/** Maps a region and inserts it. @param fd borrowed. @returns its index in the table */
function mapInto(table: RegionTable, region: CheckedRegion, fd: OwnedFd): number {
  const other = table.overlapping(region.gpa, region.size);
  if (other !== undefined)
    throw new ProtocolError(
      'REGION_OVERLAP',
      `${describe(region.described)} overlaps ${describe(other.described)}`,
    );
  const range = checkFile(region, fd.fd);
  const address = arena.map(range);
  if (address < 0)
    throw new ProtocolError('SYSTEM', `${describe(region.described)}: mmap ${errnoName(-address)}`);
  return table.insert({ ...region, address, mappedSize: range.size });
}

/** What the kernel refuses to unmap stays mapped, out of reach: there is nobody to tell. */
function unmapAll(table: RegionTable): void {
  for (const { address, mappedSize } of table.regions) arena.unmap(address, mappedSize);
}

/** What a removal has to name. Addresses beyond 2^53 are of no region, and differ from any here. */
const isSame = (
  a: Omit<RegionDescription, 'mmapOffset'>,
  b: Omit<RegionDescription, 'mmapOffset'>,
): boolean =>
  a.guestPhysAddr === b.guestPhysAddr && a.memorySize === b.memorySize && a.userspaceAddr === b.userspaceAddr;

const shown = ({ guestPhysAddr, memorySize }: RegionDescription): object => ({
  gpa: hex(guestPhysAddr),
  size: hex(memorySize),
});
