import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MemoryDevice } from '../../src/memory-devices/memory-device.ts';
import { HvBalloon } from '../../src/memory-devices/hv-balloon.ts';
import { Nvdimm, PcDimm } from '../../src/memory-devices/pc-dimm.ts';
import type { PcMemory } from '../../src/memory-devices/pc-memory.ts';
import { createRamBackend } from '../../src/memory-devices/ram-backend.ts';
import { VirtioMem } from '../../src/memory-devices/virtio-mem.ts';
import { GiB, KiB, MiB } from '../../src/units.ts';
import { backend, codeOf, pc, WINDOW } from './rig.ts';

const dimm = (
  machine: PcMemory,
  size: number,
  options: { id?: string; address?: number; slot?: number } = {},
) =>
  new PcDimm({
    ...(options.id === undefined ? {} : { id: options.id }),
    ...(options.slot === undefined ? {} : { slot: options.slot }),
    backend: backend(machine, size),
    slots: machine.dimmSlots,
    address: BigInt(options.address ?? 0),
  });

const addressOf = (machine: PcMemory, device: MemoryDevice): number => {
  machine.devices.add(device);
  return Number(device.address);
};

/** All that a refused plug must leave as it was. */
const stateOf = ({ devices, budget, space }: PcMemory) => ({
  devices: devices.describe(),
  used: devices.usedSpace,
  required: budget.required,
  mapped: budget.mapped,
  isDecisionActive: budget.isDecisionActive,
  ranges: space.view.ranges.map(({ start, end, region }) => [start, end, region.name]),
});

describe('addresses', () => {
  test('are the first that fit, in QEMU’s example of modules of 128M, 4M, 4K, 128M and devices of 1G', () => {
    const machine = pc(8 * GiB, { dimmSlots: 8 });
    const sizes = [128 * MiB, 4 * MiB, 4 * KiB, 128 * MiB];
    const addresses = sizes.map((size) => addressOf(machine, dimm(machine, size)));
    const virtioMem = new VirtioMem({ backend: backend(machine, GiB) });
    addresses.push(addressOf(machine, virtioMem), addressOf(machine, dimm(machine, GiB)));
    expect(addresses.map((address) => address.toString(16))).toEqual([
      '100000000',
      '108000000',
      '108400000',
      '108401000',
      '110600000',
      '150600000',
    ]);
  });

  test('fill the gaps around a device that was put somewhere', () => {
    const machine = pc(8 * GiB, { dimmSlots: 8 });
    const addresses = [
      addressOf(machine, dimm(machine, GiB, { address: WINDOW + GiB })),
      addressOf(machine, dimm(machine, 512 * MiB)),
      addressOf(machine, dimm(machine, GiB)),
      addressOf(machine, dimm(machine, 512 * MiB)),
    ];
    expect(addresses).toEqual([WINDOW + GiB, WINDOW, WINDOW + 2 * GiB, WINDOW + 512 * MiB]);
  });

  test('are reused when a device is gone', () => {
    const machine = pc(8 * GiB, { dimmSlots: 8 });
    const first = dimm(machine, GiB);
    addressOf(machine, first);
    addressOf(machine, dimm(machine, GiB));
    machine.devices.unplug(first);
    expect(addressOf(machine, dimm(machine, GiB))).toBe(WINDOW);
  });

  test('never overlap, are aligned and inside the window, and are the lowest possible', () => {
    const step = fc.record({
      size: fc.integer({ min: 1, max: 12 }),
      alignment: fc.constantFrom(1, 2, 4, 8),
      unplug: fc.option(fc.nat(20), { nil: undefined, freq: 3 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const machine = pc(64 * MiB, { dimmSlots: 256 });
        const base = Number(machine.devices.window.start) / MiB;
        const taken = new Map<PcDimm, readonly [number, number]>();
        for (const { size, alignment, unplug } of steps) {
          const victim = [...taken.keys()][unplug ?? -1];
          if (victim !== undefined) {
            machine.devices.unplug(victim);
            taken.delete(victim);
          }
          const bytes = BigInt(size * alignment * MiB);
          const device = new PcDimm({
            backend: createRamBackend(machine.topology, {
              id: 'm',
              size: bytes,
              alignment: BigInt(alignment * MiB),
            }),
            slots: machine.dimmSlots,
          });
          const used = [...taken.values()].reduce((sum, [, blocks]) => sum + blocks, 0);
          const isFree = (at: number): boolean =>
            [...taken.values()].every(
              ([start, blocks]) => at + size * alignment <= start || start + blocks <= at,
            );
          let at = base;
          while (!isFree(at)) at += alignment;
          const code = codeOf(() => machine.devices.add(device));
          expect(code).toBe(used + size * alignment > 64 ? 'NO_SPACE' : undefined);
          if (code !== undefined) continue;
          expect(Number(device.address) / MiB).toBe(at);
          taken.set(device, [at, size * alignment]);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('a plug is refused, and nothing has changed:', () => {
  const cases: Readonly<Record<string, (machine: PcMemory) => MemoryDevice>> = {
    'NO_SPACE for more than maxmem': (machine) => dimm(machine, 4 * GiB),
    // A balloon wants its memory aligned to 32 GiB.
    'FRAGMENTED when no gap is large enough': (machine) =>
      new HvBalloon({ backend: backend(machine, 2 * GiB) }),
    'ADDRESS below the window': (machine) => dimm(machine, MiB, { address: 4096 }),
    'ADDRESS beyond the window': (machine) => dimm(machine, MiB, { address: WINDOW + 512 * GiB }),
    'ADDRESS of another device': (machine) => dimm(machine, GiB, { address: WINDOW }),
    'ADDRESS that is misaligned': (machine) => dimm(machine, MiB, { address: WINDOW + 1 }),
    'SIZE that is no multiple of a page': (machine) => dimm(machine, 4097),
    'DIMM_SLOT that is taken': (machine) => dimm(machine, MiB, { slot: 0 }),
    'DIMM_SLOT that does not exist': (machine) => dimm(machine, MiB, { slot: 2 }),
    DUPLICATE_ID: (machine) => dimm(machine, MiB, { id: 'd0' }),
    'BACKEND_BUSY for memory of another device': (machine) =>
      new PcDimm({ backend: machine.devices.devices[0]!.backend!, slots: machine.dimmSlots }),
  };

  test.each(Object.entries(cases))('%s', (name, make) => {
    const machine = pc(4 * GiB, { dimmSlots: 2 });
    machine.devices.add(dimm(machine, GiB, { id: 'd0' }));
    const device = make(machine);
    const before = stateOf(machine);
    expect(codeOf(() => machine.devices.add(device))).toBe(name.split(' ')[0]);
    expect(stateOf(machine)).toEqual(before);
  });

  test('NOT_PREPARED without maxmem', () => {
    const machine = pc(0, { dimmSlots: 1 });
    expect(codeOf(() => machine.devices.add(dimm(machine, MiB)))).toBe('NOT_PREPARED');
  });

  test('DIMM_SLOT without or after the last socket', () => {
    const none = pc(GiB);
    expect(codeOf(() => none.devices.add(dimm(none, MiB)))).toBe('DIMM_SLOT');
    const one = pc(GiB, { dimmSlots: 1 });
    one.devices.add(dimm(one, MiB));
    expect(codeOf(() => one.devices.add(dimm(one, MiB)))).toBe('DIMM_SLOT');
  });

  test('BAD_PROPERTY for more than 256 sockets', () => {
    expect(codeOf(() => pc(GiB, { dimmSlots: 257 }))).toBe('BAD_PROPERTY');
  });

  test('NOT_PLUGGED for the wrong order of steps', () => {
    const machine = pc(GiB, { dimmSlots: 2 });
    const device = dimm(machine, MiB);
    expect(codeOf(() => machine.devices.plug(device))).toBe('NOT_PLUGGED');
    expect(codeOf(() => machine.devices.unplug(device))).toBe('NOT_PLUGGED');
    machine.devices.add(device);
    expect(codeOf(() => machine.devices.add(device))).toBe('NOT_PLUGGED');
    machine.devices.unplug(device);
    expect(codeOf(() => machine.devices.unplug(device))).toBe('NOT_PLUGGED');
  });
});

describe('modules', () => {
  test('take the lowest free socket and give it back', () => {
    const machine = pc(GiB, { dimmSlots: 3 });
    const devices = [dimm(machine, MiB), dimm(machine, MiB, { slot: 2 }), dimm(machine, MiB)];
    for (const device of devices) machine.devices.add(device);
    expect(devices.map(({ slot }) => slot)).toEqual([0, 2, 1]);
    machine.devices.unplug(devices[0]!);
    const next = dimm(machine, MiB);
    machine.devices.add(next);
    expect(next.slot).toBe(0);
  });

  test('are described as query-memory-devices does, in address order', () => {
    const machine = pc(GiB, { dimmSlots: 2 });
    machine.devices.add(dimm(machine, MiB, { id: 'high', address: WINDOW + 512 * MiB }));
    machine.devices.add(dimm(machine, 2 * MiB, { id: 'low' }));
    expect(machine.devices.describe()).toMatchObject([
      { type: 'dimm', id: 'low', addr: BigInt(WINDOW), size: BigInt(2 * MiB), slot: 1 },
      { type: 'dimm', id: 'high', addr: BigInt(WINDOW + 512 * MiB), size: BigInt(MiB), slot: 0 },
    ]);
    expect(machine.devices.pluggedSize).toBe(BigInt(3 * MiB));
  });

  test('that are persistent keep their labels at the end to themselves', () => {
    const machine = pc(GiB, { dimmSlots: 1 });
    const device = new Nvdimm({
      backend: backend(machine, 64 * MiB),
      slots: machine.dimmSlots,
      labelSize: BigInt(128 * KiB),
    });
    machine.devices.add(device);
    const range = machine.space.view.rangeAt(BigInt(WINDOW));
    expect(range).toMatchObject({ end: BigInt(WINDOW + 64 * MiB - 128 * KiB), nonvolatile: true });
    expect(machine.devices.describe()).toMatchObject([
      { type: 'nvdimm', size: BigInt(64 * MiB - 128 * KiB) },
    ]);
  });

  test('that are persistent refuse labels that are too small, and memory that is all labels', () => {
    const machine = pc(GiB, { dimmSlots: 1 });
    const nvdimm = (size: number, labelSize: number) => () =>
      new Nvdimm({ backend: backend(machine, size), slots: machine.dimmSlots, labelSize: BigInt(labelSize) });
    expect(codeOf(nvdimm(MiB, 4096))).toBe('BAD_PROPERTY');
    expect(codeOf(nvdimm(128 * KiB, 128 * KiB))).toBe('SIZE');
  });

  test('that are read-only persistent memory are not shown to vhost back-ends', () => {
    const machine = pc(GiB, { dimmSlots: 1 });
    const fs = machine.connect('fs', 8);
    const options = { backend: backend(machine, MiB), slots: machine.dimmSlots };
    machine.devices.add(new Nvdimm({ ...options, isReadonly: true }));
    expect(fs.used).toBe(1);
  });
});
