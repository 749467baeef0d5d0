import { expect, test } from 'vitest';
import { shareableRanges } from '../../src/memory/shareable.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';

/** 1 MiB of RAM at 0 in pages of `pageSize`, with a hole of 4 KiB at 0xa0000 for a device. */
function machine(pageSize: number) {
  const topology = new MemoryTopology();
  const system = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 64n });
  const block = { id: 'ram', size: 0x100000n, pageSize, fd: 3 };
  const ram = topology.createRegion({ kind: 'ram', name: 'ram', size: 0x100000n, block });
  system.addSubregion(0n, ram);
  system.addSubregion(0xa0000n, topology.createRegion({ kind: 'io', name: 'vga', size: 0x1000n }), 1);
  return { topology, system, ram, space: topology.createAddressSpace('memory', system) };
}

test('a hole of whole pages parts a memory table; one inside a huge page does not', () => {
  const table = (pageSize: number) =>
    shareableRanges(machine(pageSize).space.view).map(({ start, size, offset }) => [start, size, offset]);
  expect(table(4096)).toEqual([
    [0n, 0xa0000n, 0n],
    [0xa1000n, 0x5f000n, 0xa1000n],
  ]);
  expect(table(0x200000)).toEqual([[0n, 0x100000n, 0n]]);
});

test('ROM and memory without a descriptor are left out, RAM behind a readonly alias is not', () => {
  const { topology, system, ram, space } = machine(4096);
  const shadow = topology.createRegion({
    kind: 'alias',
    name: 'pam-rom',
    size: 0x1000n,
    target: ram,
    offset: 0x8000n,
  });
  shadow.setReadonly(true);
  system.addSubregion(0x200000n, shadow);
  const block = { id: 'bios', size: 0x1000n, pageSize: 4096, fd: 4 };
  system.addSubregion(0x300000n, topology.createRegion({ kind: 'rom', name: 'bios', size: 0x1000n, block }));
  const private_ = { id: 'private', size: 0x1000n, pageSize: 4096 };
  system.addSubregion(
    0x400000n,
    topology.createRegion({ kind: 'ram', name: 'private', size: 0x1000n, block: private_ }),
  );
  expect(shareableRanges(space.view).map(({ start }) => start)).toEqual([0n, 0xa1000n, 0x200000n]);
});

test('unmergeable neighbours stay entries of their own', () => {
  const { topology, system, ram, space } = machine(4096);
  for (const at of [0n, 0x1000n]) {
    const slot = topology.createRegion({
      kind: 'alias',
      name: 'slot',
      size: 0x1000n,
      target: ram,
      offset: at,
    });
    slot.setUnmergeable(true);
    system.addSubregion(0x200000n + at, slot);
  }
  expect(
    shareableRanges(space.view)
      .map(({ size }) => size)
      .slice(-2),
  ).toEqual([0x1000n, 0x1000n]);
});
