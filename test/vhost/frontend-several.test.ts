/** Several devices on one machine: each has its own back-end, and its own trouble. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { FrontendRig, type RigOptions, type Verdict } from './frontend-rig.ts';
import { openFds } from './rig.ts';

const failure = (code: string) => expect.objectContaining({ name: 'ProtocolError', code });

/** Started devices that see the same memory: some that is always there, and modules that come and go. */
class Several implements Disposable {
  readonly rigs: readonly FrontendRig[];
  readonly #root: MemoryRegion;
  readonly #modules: readonly MemoryRegion[];

  constructor(...options: readonly RigOptions[]) {
    this.rigs = options.map((each) => new FrontendRig(each));
    const topology = new MemoryTopology();
    this.#root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 48n });
    const space = topology.createAddressSpace('memory', this.#root);
    this.#modules = [0n, 1n, 2n, 3n].map((index) => {
      const size = index === 0n ? 0x10000n : 0x1000n;
      const block = this.rigs[0]!.block(`ram${index}`, { size, hostAddress: (index + 1n) << 44n });
      return topology.createRegion({ kind: 'ram', name: block.id, size, block });
    });
    this.plug(0);
    for (const rig of this.rigs) {
      rig.device.connect();
      space.addListener(rig.device.listener);
      rig.start();
      rig.take();
    }
  }

  plug(index: number): void {
    this.#root.addSubregion(BigInt(index) << 32n, this.#modules[index]!);
  }

  unplug(index: number): void {
    this.#root.removeSubregion(this.#modules[index]!);
  }

  /** Modules each back-end has. */
  get tables(): number[][] {
    return this.rigs.map(({ table }) =>
      [...table.keys()].map((address) => Number(address >> 32n)).sort((a, b) => a - b),
    );
  }

  [Symbol.dispose](): void {
    for (const rig of this.rigs) rig[Symbol.dispose]();
  }
}

/** The next message that begins so gets this verdict. */
function once(rig: FrontendRig, start: string, verdict: Verdict): void {
  rig.judge = (text) => {
    if (!text.startsWith(start)) return 'accept';
    rig.judge = () => 'accept';
    return verdict;
  };
}

let before = 0;
beforeEach(() => (before = openFds()));
afterEach(() => {
  expect(openFds()).toBe(before);
});

test('each is told what changes, one after the other', () => {
  using several = new Several({}, { dialect: 'cloud-hypervisor' }, { mode: 'qemu' });
  several.plug(1);
  several.plug(2);
  several.unplug(1);
  expect(several.tables).toEqual([
    [0, 2],
    [0, 2],
    [0, 2],
  ]);
  for (const rig of several.rigs)
    expect(rig.take()).toEqual([
      'ADD 0x100000000+0x1000',
      'ADD 0x200000000+0x1000',
      'REM 0x100000000+0x1000',
    ]);
});

test('one that refuses fails the operation; the others have done it, and the next one is nobody’s trouble', () => {
  using several = new Several({}, {}, {});
  once(several.rigs[1]!, 'ADD', 'refuse');
  expect(() => several.plug(1)).toThrow(failure('REFUSED'));
  expect(several.tables).toEqual([[0, 1], [0], [0, 1]]);
  several.plug(2);
  expect(several.tables).toEqual([
    [0, 1, 2],
    [0, 2],
    [0, 1, 2],
  ]);
  several.unplug(1); // as who plugged it would
  expect(several.tables).toEqual([
    [0, 2],
    [0, 2],
    [0, 2],
  ]);
});

test('one that dies fails the operation that notices; the others go on, and so does it when another takes its place', () => {
  using several = new Several({}, {}, {});
  const dead = several.rigs[1]!;
  once(dead, 'ADD', 'die');
  expect(() => several.plug(1)).toThrow(failure('CLOSED'));
  several.plug(2);
  several.unplug(1);
  several.plug(3);
  expect(several.rigs.map(({ device }) => device.failure?.code)).toEqual([undefined, 'CLOSED', undefined]);
  expect([several.tables[0], several.tables[2]]).toEqual([
    [0, 2, 3],
    [0, 2, 3],
  ]);
  dead.reconnect();
  expect(several.tables[1]).toEqual([0, 2, 3]);
  several.plug(1);
  expect(several.tables).toEqual([
    [0, 1, 2, 3],
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ]);
});

test('the first of several troubles is told; each device knows its own', () => {
  using several = new Several({}, {}, { slots: 2n });
  once(several.rigs[0]!, 'ADD', 'die');
  several.rigs[1]!.judge = (text) => (text.startsWith('ADD') ? 'refuse' : 'accept');
  expect(() => several.plug(1)).toThrow(failure('CLOSED'));
  expect(several.rigs.map(({ device }) => device.failure?.code)).toEqual(['CLOSED', undefined, undefined]);
  expect(several.tables).toEqual([[0], [0], [0, 1]]);
  several.rigs[1]!.judge = () => 'accept';
  expect(() => several.plug(2)).toThrow(failure('SLOT_LIMIT'));
  expect(several.tables.slice(1)).toEqual([
    [0, 2],
    [0, 1],
  ]);
});

test('one in the mode of QEMU reports; it keeps nobody from anything', () => {
  using several = new Several({ mode: 'qemu' }, {});
  once(several.rigs[0]!, 'ADD', 'refuse');
  several.plug(1);
  expect(several.rigs[0]!.errors).toEqual([failure('REFUSED')]);
  several.plug(2);
  expect(several.tables).toEqual([
    [0, 1, 2],
    [0, 1, 2],
  ]);
});
