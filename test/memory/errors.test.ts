import { expect, test } from 'vitest';
import type { MemoryErrorCode } from '../../src/errors.ts';
import type { RamDiscardManager } from '../../src/memory/ram-discard.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { byteBlock } from './byte-block.ts';

const expectCode = (code: MemoryErrorCode, action: () => unknown): void => {
  expect(action).toThrow(expect.objectContaining({ name: 'MemoryError', code }));
};

function machine() {
  const topology = new MemoryTopology();
  const container = (name: string, size = 0x1000n) =>
    topology.createRegion({ kind: 'container', name, size });
  const io = (name: string, size = 0x100n) => topology.createRegion({ kind: 'io', name, size });
  const root = container('root');
  const space = topology.createAddressSpace('memory', root);
  const heard: string[] = [];
  space.addListener({
    regionAdd: ({ region }) => heard.push(`add ${region.name}`),
    regionDel: ({ region }) => heard.push(`del ${region.name}`),
  });
  return { topology, container, io, root, space, heard };
}

test('a region that is mapped is not mapped a second time', () => {
  const { root, io, container, heard } = machine();
  const device = io('dev');
  root.addSubregion(0n, device);
  expectCode('ALREADY_MAPPED', () => root.addSubregion(0x200n, device));
  expectCode('ALREADY_MAPPED', () => container('other').addSubregion(0n, device));
  expect([device.address, heard]).toEqual([0n, ['add dev']]);
});

test('a region is removed from its own container only', () => {
  const { root, io, container } = machine();
  const device = io('dev');
  expectCode('NOT_MAPPED', () => root.removeSubregion(device));
  root.addSubregion(0n, device);
  expectCode('NOT_MAPPED', () => container('other').removeSubregion(device));
  expect(device.container).toBe(root);
});

test('a region in itself is refused', () => {
  const { root, container } = machine();
  const inner = container('inner');
  root.addSubregion(0n, inner);
  expectCode('ALIAS_CYCLE', () => inner.addSubregion(0n, root));
  expectCode('ALIAS_CYCLE', () => inner.addSubregion(0n, inner.container!));
  expect(root.container).toBeUndefined();
});

test('an alias that shows itself at the same place is refused, one that shows another place is not', () => {
  const { topology, root, io, heard } = machine();
  root.addSubregion(0x100n, io('dev'));
  const alias = topology.createRegion({
    kind: 'alias',
    name: 'mirror',
    size: 0x400n,
    target: root,
    offset: 0n,
  });
  expectCode('ALIAS_CYCLE', () => root.addSubregion(0n, alias));
  expect([alias.container, alias.address]).toEqual([undefined, 0n]);
  root.addSubregion(0x800n, alias);
  expect(heard).toEqual(['add dev', 'add dev']);
  expectCode('ALIAS_CYCLE', () => alias.setAddress(0n));
  expectCode('ALIAS_CYCLE', () => alias.setAliasOffset(0x800n));
  expect([alias.address, alias.aliasOffset, heard.length]).toEqual([0x800n, 0n, 2]);
});

test('sizes and addresses end at 64 bits', () => {
  const { topology, root, io } = machine();
  expectCode('BAD_SIZE', () => io('dev', -1n));
  expectCode('BAD_SIZE', () => io('dev', (1n << 64n) + 1n));
  expectCode('BAD_ADDRESS', () => root.addSubregion(1n << 64n, io('dev')));
  expect(topology.createRegion({ kind: 'container', name: 'all', size: (1n << 64n) - 1n }).size).toBe(
    1n << 64n,
  );
});

test('a RAM region is not larger than its block', () => {
  const { topology } = machine();
  const block = byteBlock('ram', 0x1000);
  const ram = (size: bigint) => topology.createRegion({ kind: 'ram', name: 'ram', size, block });
  expectCode('SIZE_MISMATCH', () => ram(0x1001n));
  const region = ram(0x1000n);
  expectCode('SIZE_MISMATCH', () => region.setSize(0x2000n));
  expect(region.size).toBe(0x1000n);
});

test('a discard manager belongs to RAM that is not mapped, and there is one', () => {
  const { topology, root, io } = machine();
  const manager = {} as RamDiscardManager;
  expectCode('WRONG_KIND', () => io('dev').setDiscardManager(manager));
  const ram = topology.createRegion({ kind: 'ram', name: 'ram', size: 16n, block: byteBlock('ram', 16) });
  ram.setDiscardManager(manager);
  expectCode('DISCARD_MANAGER', () => ram.setDiscardManager({} as RamDiscardManager));
  root.addSubregion(0n, topology.createRegion({ kind: 'alias', name: 'slot', size: 8n, target: ram }));
  expectCode('DISCARD_MANAGER', () => ram.setDiscardManager(undefined));
  expect(ram.discardManager).toBe(manager);
});

test('a commit needs a begin', () => {
  const { topology } = machine();
  expectCode('UNBALANCED', () => topology.commit());
  topology.begin();
  topology.commit();
  expectCode('UNBALANCED', () => topology.commit());
});

test('a listener cannot edit what it is being told about; what it heard of stands, and others hear it, too', () => {
  const { topology, root, space, io, heard } = machine();
  const [first, second] = [io('first'), io('second')];
  space.addListener({ regionAdd: () => root.addSubregion(0x800n, second) });
  expectCode('BUSY', () => root.addSubregion(0n, first));
  expect([second.container, space.view.ranges[0]?.region.name]).toEqual([undefined, 'first']);
  expect(heard).toEqual(['add first']);
  expect(() => topology.transaction(() => {})).not.toThrow();
});

test('listeners and address spaces end once', () => {
  const { space } = machine();
  const listener = {};
  space.addListener(listener);
  expectCode('BAD_STATE', () => space.addListener(listener));
  expectCode('BAD_STATE', () => space.destroy());
  space.removeListener(listener);
  expectCode('BAD_STATE', () => space.removeListener(listener));
});

test('dirty tracking ends only for reasons it began for', () => {
  const { topology } = machine();
  expectCode('BAD_STATE', () => topology.tracking.start(8));
  expectCode('BAD_STATE', () => topology.tracking.stop(1));
  topology.tracking.start(1);
  topology.tracking.stop(1);
});
