/**
 * Replays what a real machine did to its memory, and compares every callback of every commit.
 *
 * A recording has, for each commit, the regions as they were after it. The edits that lead there are made here; what comes of
 * them is compared: all callbacks in order, and the views.
 */
import type { AddressSpace } from '../../src/memory/address-space.ts';
import { addCoalescing, clearCoalescing } from '../../src/memory/coalesced.ts';
import { addIoeventfd, removeIoeventfd, type Ioeventfd } from '../../src/memory/ioeventfd.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import type { RegionDescription } from '../../src/memory/region-description.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { afterDirtyLogSync } from '../../src/memory/dirty-log.ts';
import { bigOf, expectSameRows, rangeRow, recordingListener, type Row } from './recorder.ts';

export interface SequenceCase {
  readonly kind: 'sequence';
  readonly listen: readonly string[];
  readonly steps: readonly Step[];
}

interface Step {
  readonly op: string;
  readonly commits: readonly Commit[];
  readonly tail: readonly Row[];
}

interface Commit {
  readonly events: readonly Row[];
  readonly regions: Readonly<Record<string, RecordedRegion>>;
  readonly roots: Readonly<Record<string, number>>;
  readonly views: Readonly<Record<string, { readonly root: number | null; readonly ranges: readonly Row[] }>>;
}

interface RecordedRegion {
  readonly name: string | null;
  readonly addr: string;
  readonly size: string;
  readonly prio: number;
  readonly flags: string;
  readonly alias?: number;
  readonly alias_offset?: string;
  readonly dirty_log_mask?: number;
  readonly subregions: readonly number[];
  readonly coalesced?: readonly (readonly [string, string])[];
  readonly ioeventfds?: readonly (readonly [string, string, number, string, number])[];
}

const MIGRATION = 1;

export function checkSequence({ listen, steps }: SequenceCase): void {
  const replay = new Replay();
  const [first, ...others] = steps.flatMap(({ commits, op }) => commits.map((commit) => ({ ...commit, op })));
  const tails = steps.flatMap(({ tail }) => tail);
  if (first === undefined) throw new Error('no commit');
  replay.edit(first);
  replay.expectViews('registration', first);
  replay.listen(listen);
  replay.expectEvents('registration', first.events);
  for (const [index, commit] of others.entries()) {
    const next = others[index + 1]?.events ?? tails;
    const what = `commit ${index + 1} (${commit.op})`;
    replay.perform(commit, stopsTracking(next));
    replay.expectEvents(what, commit.events, stopsTracking(next) ? leading(next, 'log_global_stop') : []);
    replay.expectViews(what, commit);
  }
}

/** Whether the commit before these callbacks was the end of dirty tracking. */
const stopsTracking = (events: readonly Row[]): boolean => events[0]?.[0] === 'log_global_stop';

const leading = (events: readonly Row[], name: string): readonly Row[] => {
  const end = events.findIndex((event) => event[0] !== name);
  return end < 0 ? events : events.slice(0, end);
};

class Replay {
  readonly #topology = new MemoryTopology({ logsCode: true });
  readonly #regions = new Map<number, MemoryRegion>();
  readonly #ids = new Map<MemoryRegion, number>();
  readonly #recorded = new Map<number, RecordedRegion>();
  readonly #spaces = new Map<string, AddressSpace>();
  readonly #notifiers = new Map<number, { readonly order: number }>();
  readonly #events: Row[] = [];
  /** Not mapped anywhere: resizing it makes a transaction count as a change of topology. */
  readonly #scratch = this.#topology.createRegion({ kind: 'container', name: 'scratch', size: 1n });
  /** Callbacks already seen and compared that the next commit's recording repeats. */
  #seenAhead = 0;

  #idOf = (region: MemoryRegion): number => this.#ids.get(region) ?? -1;

  listen(names: readonly string[]): void {
    const record = (row: Row): void => {
      this.#events.push(row);
    };
    for (const name of names) {
      const listener = recordingListener(name, this.#idOf, record, { priority: 10, hasEventfds: true });
      this.#space(name).addListener(listener);
    }
  }

  /** Does what led to the commit's callbacks. */
  perform(commit: Commit, isEndOfTracking: boolean): void {
    const begin = commit.events.findIndex(([name]) => name === 'begin');
    const early = begin < 0 ? commit.events : commit.events.slice(0, begin);
    this.#performEarly(early);
    if (begin < 0) {
      this.#withoutTopology(commit);
      return;
    }
    const edit = (): void => {
      this.edit(commit);
    };
    if (isEndOfTracking && Object.keys(commit.regions).length === 0) this.#topology.tracking.stop(MIGRATION);
    else if (early[0]?.[0] === 'log_global_start')
      this.#topology.transaction(() => (this.#topology.tracking.start(MIGRATION), edit()));
    else edit();
  }

  /** A transaction that makes the regions what the recording says. */
  edit({ regions, roots }: Commit): void {
    const topology = this.#topology;
    topology.begin();
    this.#scratch.setSize(this.#scratch.size + 1n);
    for (const id of Object.keys(regions)) this.#create(Number(id), regions);
    const changed = Object.entries(regions).map(([id, recorded]) => ({ id: Number(id), recorded }));
    for (const { id, recorded } of changed) this.#recorded.set(id, recorded);
    for (const { id, recorded } of changed) this.#setAttributes(this.#region(id), recorded);
    const containers = new Set(changed.map(({ id }) => id));
    for (const { id } of changed) {
      const container = this.#region(id).container;
      if (container !== undefined) containers.add(this.#idOf(container));
    }
    for (const id of containers) this.#removeStrangers(id);
    for (const id of containers) this.#arrange(id);
    topology.commit();
    for (const [name, root] of Object.entries(roots)) {
      if (!this.#spaces.has(name))
        this.#spaces.set(name, topology.createAddressSpace(name, this.#region(root)));
    }
  }

  expectEvents(what: string, expected: readonly Row[], ahead: readonly Row[] = []): void {
    const rest = expected.slice(this.#seenAhead);
    expectSameRows(what, this.#events, [...rest, ...ahead]);
    this.#seenAhead = ahead.length;
    this.#events.length = 0;
  }

  expectViews(what: string, { views }: Commit): void {
    for (const [name, { root, ranges }] of Object.entries(views)) {
      const { view } = this.#space(name);
      const ourRoot = view.root === undefined ? null : this.#idOf(view.root);
      if (ourRoot !== root)
        throw new Error(`${what}: view of ${name} is rendered from ${ourRoot}, QEMU's from ${root}`);
      const ours = view.ranges.map((range) => rangeRow(range, this.#idOf));
      expectSameRows(`${what}: view of ${name}`, ours, ranges);
    }
  }

  /** Callbacks that came without a transaction say what was done. */
  #performEarly(events: readonly Row[]): void {
    for (const [index, event] of events.entries()) {
      if (index < this.#seenAhead) continue;
      const [name, spaceName, ...rest] = event as [string, string, ...(string | number)[]];
      const previous = events[index - 1];
      const isRepeat =
        previous !== undefined &&
        previous[0] === name &&
        JSON.stringify(previous.slice(2)) === JSON.stringify(rest);
      if (name === 'log_global_after_sync' && !isRepeat) afterDirtyLogSync(this.#topology);
      if ((name === 'eventfd_add' || name === 'eventfd_del') && !isRepeat)
        this.#doorbellChanged(name, spaceName, rest);
    }
  }

  #doorbellChanged(name: string, spaceName: string, row: readonly (string | number)[]): void {
    const [start, size, matchData, data, notifier] = row as [string, string, number, string, number];
    const range = this.#space(spaceName).view.rangeAt(bigOf(start));
    if (range === undefined) throw new Error(`no region for a doorbell at ${start}`);
    const address = bigOf(start) - range.start + range.offset;
    const fd = this.#doorbell([address.toString(16), size, matchData, data, notifier]);
    if (name === 'eventfd_add') addIoeventfd(range.region, fd);
    else removeIoeventfd(range.region, fd);
  }

  /** Regions changed, but nothing that counts as a change of topology. */
  #withoutTopology({ regions }: Commit): void {
    for (const [id, recorded] of Object.entries(regions)) {
      this.#create(Number(id), regions);
      this.#recorded.set(Number(id), recorded);
      this.#setDoorbells(this.#region(Number(id)), recorded);
    }
  }

  #space(name: string): AddressSpace {
    const space = this.#spaces.get(name);
    if (space === undefined) throw new Error(`no address space ${name}`);
    return space;
  }

  #region(id: number): MemoryRegion {
    const region = this.#regions.get(id);
    if (region === undefined) throw new Error(`no region ${id}`);
    return region;
  }

  #create(id: number, recorded: Readonly<Record<string, RecordedRegion>>): MemoryRegion {
    const known = this.#regions.get(id);
    if (known !== undefined) return known;
    const region = recorded[String(id)];
    if (region === undefined) throw new Error(`region ${id} is not described`);
    const target = region.alias === undefined ? undefined : this.#create(region.alias, recorded);
    const created = this.#topology.createRegion(describe(region, target));
    this.#regions.set(id, created);
    this.#ids.set(created, id);
    return created;
  }

  #setAttributes(region: MemoryRegion, recorded: RecordedRegion): void {
    const { flags } = recorded;
    region.setEnabled(flags.includes('E'));
    region.setReadonly(flags.includes('R'));
    region.setNonvolatile(flags.includes('N'));
    region.setUnmergeable(flags.includes('U'));
    region.setRomdMode(flags.includes('M'));
    region.setSize(bigOf(recorded.size));
    if (recorded.alias_offset !== undefined) region.setAliasOffset(bigOf(recorded.alias_offset));
    const isLogged = ((recorded.dirty_log_mask ?? 0) & 1) !== 0;
    if (isLogged !== region.vgaLogging > 0) region.setVgaLogging(isLogged);
    if (region.container === undefined) region.setAddress(bigOf(recorded.addr));
    this.#setCoalesced(region, recorded);
    this.#setDoorbells(region, recorded);
  }

  #setCoalesced(region: MemoryRegion, { coalesced = [] }: RecordedRegion): void {
    const wanted = coalesced.map(([address, size]) => ({ address: bigOf(address), size: bigOf(size) }));
    const isSame =
      wanted.length === region.coalesced.length &&
      wanted.every(
        ({ address, size }, at) =>
          region.coalesced[at]!.address === address && region.coalesced[at]!.size === size,
      );
    if (isSame) return;
    clearCoalescing(region);
    for (const { address, size } of wanted) addCoalescing(region, address, size);
  }

  #setDoorbells(region: MemoryRegion, { ioeventfds = [] }: RecordedRegion): void {
    const wanted = ioeventfds.map((row) => this.#doorbell(row));
    const isIn = (list: readonly Ioeventfd[], fd: Ioeventfd): boolean =>
      list.some(
        (other) =>
          other.address === fd.address &&
          other.size === fd.size &&
          other.data === fd.data &&
          other.notifier === fd.notifier,
      );
    for (const fd of region.ioeventfds) if (!isIn(wanted, fd)) removeIoeventfd(region, fd);
    for (const fd of wanted) if (!isIn(region.ioeventfds, fd)) addIoeventfd(region, fd);
  }

  #doorbell([address, size, matchData, data, order]: readonly [
    string,
    string,
    number,
    string,
    number,
  ]): Ioeventfd {
    let notifier = this.#notifiers.get(order);
    if (notifier === undefined) {
      notifier = { order };
      this.#notifiers.set(order, notifier);
    }
    return {
      address: bigOf(address),
      size: bigOf(size),
      matchData: matchData !== 0,
      data: bigOf(data),
      notifier,
    };
  }

  /** Takes out subregions that are no longer there, or are elsewhere. */
  #removeStrangers(id: number): void {
    const region = this.#region(id);
    const wanted = new Set(this.#recorded.get(id)?.subregions ?? []);
    for (const child of region.subregions) {
      const { addr, prio } = this.#recorded.get(this.#idOf(child))!;
      const isHere =
        wanted.has(this.#idOf(child)) && child.address === bigOf(addr) && child.priority === prio;
      if (!isHere) region.removeSubregion(child);
    }
  }

  /** Adds what is missing; if the order is wrong then, adds everything again, the lowest first. */
  #arrange(id: number): void {
    const region = this.#region(id);
    const wanted = (this.#recorded.get(id)?.subregions ?? []).toReversed();
    const add = (childId: number): void => {
      const child = this.#region(childId);
      const { addr, prio } = this.#recorded.get(childId)!;
      if (child.container === undefined) region.addSubregion(bigOf(addr), child, prio);
    };
    for (const childId of wanted) add(childId);
    const isInOrder = (): boolean =>
      region.subregions.every((child, at) => this.#idOf(child) === wanted[wanted.length - 1 - at]);
    if (isInOrder()) return;
    for (const child of region.subregions) region.removeSubregion(child);
    for (const childId of wanted) add(childId);
    if (!isInOrder()) throw new Error(`subregions of ${id} cannot be put in the recorded order`);
  }
}

function describe(recorded: RecordedRegion, target: MemoryRegion | undefined): RegionDescription {
  const { flags } = recorded;
  const has = (flag: string): boolean => flags.includes(flag);
  const name = recorded.name ?? '(null)';
  const common = { name, size: bigOf(recorded.size) };
  const block = { id: name, size: 1n << 64n, pageSize: 4096, isMigratable: true };
  if (target !== undefined)
    return { ...common, kind: 'alias', target, offset: bigOf(recorded.alias_offset ?? '0') };
  if (has('I')) return { ...common, kind: 'iommu' };
  if (has('D')) return { ...common, kind: 'ram-device', block };
  if (has('O')) return { ...common, kind: 'rom-device', block };
  if (has('A')) return { ...common, kind: has('R') ? 'rom' : 'ram', block };
  return { ...common, kind: has('T') ? 'io' : 'container' };
}
