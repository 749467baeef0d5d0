/** Runs a random program that QEMU's own memory API has run, and compares every callback, answer and view. */
import type { AddressSpace } from '../../src/memory/address-space.ts';
import { addCoalescing, clearCoalescing, setCoalescing } from '../../src/memory/coalesced.ts';
import { findSection, isPresent } from '../../src/memory/find.ts';
import {
  addIoeventfd,
  removeIoeventfd,
  type EventNotifier,
  type Ioeventfd,
} from '../../src/memory/ioeventfd.ts';
import type { MemoryListener } from '../../src/memory/listener.ts';
import type { RamBlock } from '../../src/memory/ram-block.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import type { RegionDescription } from '../../src/memory/region-description.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { checkTexts, type Texts } from './texts.ts';
import {
  bigOf,
  expectSameRows,
  hexOf,
  rangeRow,
  recordingListener,
  sectionFlags,
  type Row,
} from './recorder.ts';

export interface FuzzCase {
  readonly kind: 'fuzz';
  readonly ops: readonly FuzzStep[];
  readonly final?: Texts;
}

interface FuzzStep {
  readonly op: readonly string[];
  readonly events: readonly Row[];
  readonly result?: Row | boolean | null;
  readonly views?: Readonly<
    Record<string, { readonly root: string | null; readonly ranges: readonly Row[] }>
  >;
}

export function checkFuzz({ ops, final }: FuzzCase): void {
  const machine = new FuzzMachine();
  for (const [index, step] of ops.entries()) {
    const what = `op ${index} ${step.op.join(' ')}`;
    machine.events.length = 0;
    const result = machine.run(step.op);
    expectSameRows(`${what}: callbacks`, machine.events, step.events);
    if (step.result !== undefined)
      expectSameRows(`${what}: result`, [[JSON.stringify(result)]], [[JSON.stringify(step.result)]]);
    for (const [name, view] of Object.entries(step.views ?? {}))
      machine.expectView(what, name, view.root, view.ranges);
  }
  if (final !== undefined) checkTexts(machine.topology, final);
}

class FuzzMachine {
  readonly topology = new MemoryTopology({ logsCode: true });
  readonly events: Row[] = [];
  readonly #regions = new Map<string, MemoryRegion>();
  readonly #ids = new Map<MemoryRegion, number>();
  readonly #spaces = new Map<string, AddressSpace>();
  readonly #listeners = new Map<
    string,
    { readonly listener: MemoryListener; readonly space: AddressSpace }
  >();
  readonly #notifiers = new Map<string, EventNotifier>();

  constructor() {
    const { topology } = this;
    // QEMU's own two
    topology.createAddressSpace(
      'memory',
      topology.createRegion({ kind: 'container', name: 'system', size: 1n << 64n }),
    );
    topology.createAddressSpace('I/O', topology.createRegion({ kind: 'io', name: 'io', size: 0x10000n }));
  }

  run([name, ...args]: readonly string[]): unknown {
    const operation = OPERATIONS[name ?? ''];
    if (operation === undefined) throw new Error(`unknown operation ${name}`);
    return operation(this, args);
  }

  region(name: string | undefined): MemoryRegion {
    const region = this.#regions.get(name ?? '');
    if (region === undefined) throw new Error(`no region ${name}`);
    return region;
  }

  create(name: string, description: RegionDescription): void {
    const region = this.topology.createRegion(description);
    this.#regions.set(name, region);
    this.#ids.set(region, Number(name.slice(1)));
  }

  idOf = (region: MemoryRegion): number => this.#ids.get(region) ?? -1;

  createSpace(name: string, root: string): void {
    this.#spaces.set(name, this.topology.createAddressSpace(name.replace('a', 'as'), this.region(root)));
  }

  destroySpace(name: string): void {
    this.#spaces.get(name)!.destroy();
    this.#spaces.delete(name);
  }

  listen(name: string, spaceName: string, priority: number, hasEventfds: boolean): void {
    const space = this.#spaces.get(spaceName)!;
    const label = Number(name.slice(1));
    const record = (row: Row): void => {
      this.events.push(row);
    };
    const listener = recordingListener(label, this.idOf, record, { priority, hasEventfds });
    this.#listeners.set(name, { listener, space });
    space.addListener(listener);
  }

  unlisten(name: string): void {
    const { listener, space } = this.#listeners.get(name)!;
    space.removeListener(listener);
    this.#listeners.delete(name);
  }

  doorbell(args: readonly string[]): Ioeventfd {
    const [address, size, matchData, data, name] = args as [string, string, string, string, string];
    let notifier = this.#notifiers.get(name);
    if (notifier === undefined) {
      notifier = { order: Number(name.slice(1)) };
      this.#notifiers.set(name, notifier);
    }
    return {
      address: bigOf(address),
      size: bigOf(size),
      matchData: matchData === '1',
      data: bigOf(data),
      notifier,
    };
  }

  expectView(what: string, name: string, root: string | null, ranges: readonly Row[]): void {
    const view = this.#spaces.get(name)?.view;
    if (view === undefined) throw new Error(`${what}: no address space ${name}`);
    const rootName = view.root === undefined ? null : `r${this.idOf(view.root)}`;
    if (rootName !== root)
      throw new Error(`${what}: view of ${name} is rendered from ${rootName}, QEMU's from ${root}`);
    expectSameRows(
      `${what}: view of ${name}`,
      view.ranges.map((range) => rangeRow(range, this.idOf)),
      ranges,
    );
  }
}

/** A RAM block as large as any size a program may set. */
const ramBlock = (id: string, isMigratable: boolean): RamBlock => ({
  id,
  size: 1n << 64n,
  pageSize: 4096,
  isMigratable,
});

const KINDS: Readonly<Record<string, RegionDescription['kind']>> = {
  container: 'container',
  io: 'io',
  ram: 'ram',
  rom: 'rom',
  romd: 'rom-device',
  ramd: 'ram-device',
  alias: 'alias',
};

function describe(machine: FuzzMachine, args: readonly string[]): RegionDescription {
  const [name, kindName, size] = args as [string, string, string];
  const kind = KINDS[kindName];
  const common = { name, size: bigOf(size) };
  switch (kind) {
    case 'alias':
      return { ...common, kind, target: machine.region(args[3]), offset: bigOf(args[4]!) };
    case 'ram':
    case 'rom':
    case 'ram-device':
    case 'rom-device':
      return { ...common, kind, block: ramBlock(name, args[3] === '1') };
    case 'container':
    case 'io':
      return { ...common, kind };
    default:
      throw new Error(`unknown kind of region ${kindName}`);
  }
}

type Operation = (machine: FuzzMachine, args: readonly string[]) => unknown;

const OPERATIONS: Readonly<Record<string, Operation>> = {
  new: (m, args) => {
    m.create(args[0]!, describe(m, args));
  },
  add: (m, [parent, address, child]) => {
    m.region(parent).addSubregion(bigOf(address!), m.region(child));
  },
  add_overlap: (m, [parent, address, child, priority]) => {
    m.region(parent).addSubregion(bigOf(address!), m.region(child), Number(priority));
  },
  del: (m, [parent, child]) => {
    m.region(parent).removeSubregion(m.region(child));
  },
  enabled: (m, [region, value]) => {
    m.region(region).setEnabled(value === '1');
  },
  size: (m, [region, value]) => {
    m.region(region).setSize(bigOf(value!));
  },
  address: (m, [region, value]) => {
    m.region(region).setAddress(bigOf(value!));
  },
  alias_offset: (m, [region, value]) => {
    m.region(region).setAliasOffset(bigOf(value!));
  },
  readonly: (m, [region, value]) => {
    m.region(region).setReadonly(value === '1');
  },
  nonvolatile: (m, [region, value]) => {
    m.region(region).setNonvolatile(value === '1');
  },
  unmergeable: (m, [region, value]) => {
    m.region(region).setUnmergeable(value === '1');
  },
  romd: (m, [region, value]) => {
    m.region(region).setRomdMode(value === '1');
  },
  log: (m, [region, value]) => {
    m.region(region).setVgaLogging(value === '1');
  },
  begin: (m) => {
    m.topology.begin();
  },
  commit: (m) => {
    m.topology.commit();
  },
  as_init: (m, [space, root]) => {
    m.createSpace(space!, root!);
  },
  as_destroy: (m, [space]) => {
    m.destroySpace(space!);
  },
  listen: (m, [listener, space, priority, hasEventfds]) => {
    m.listen(listener!, space!, Number(priority), hasEventfds !== '0');
  },
  unlisten: (m, [listener]) => {
    m.unlisten(listener!);
  },
  add_eventfd: (m, [region, ...doorbell]) => {
    addIoeventfd(m.region(region), m.doorbell(doorbell));
  },
  del_eventfd: (m, [region, ...doorbell]) => {
    removeIoeventfd(m.region(region), m.doorbell(doorbell));
  },
  add_coalescing: (m, [region, address, size]) => {
    addCoalescing(m.region(region), bigOf(address!), bigOf(size!));
  },
  clear_coalescing: (m, [region]) => {
    clearCoalescing(m.region(region));
  },
  set_coalescing: (m, [region]) => {
    setCoalescing(m.region(region));
  },
  dirty_start: (m, [reasons]) => m.topology.tracking.start(Number(`0x${reasons}`)),
  dirty_stop: (m, [reasons]) => {
    m.topology.tracking.stop(Number(`0x${reasons}`));
  },
  find: (m, [region, address, size]) => {
    const section = findSection(m.region(region), bigOf(address!), bigOf(size!));
    if (section === undefined) return null;
    const { offsetWithinRegion, offsetWithinAddressSpace, size: found } = section;
    return [
      m.idOf(section.region),
      hexOf(offsetWithinRegion),
      hexOf(found),
      hexOf(offsetWithinAddressSpace),
      sectionFlags(section),
    ];
  },
  present: (m, [region, address]) => isPresent(m.region(region), bigOf(address!)),
};
