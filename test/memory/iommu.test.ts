import { expect, test } from 'vitest';
import {
  addIommuNotifier,
  IommuEvent,
  notifyIommu,
  removeIommuNotifier,
  replayIommu,
  type IommuEntry,
  type IommuNotifier,
} from '../../src/memory/iommu.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';

/** An IOMMU that maps its first two pages, and what it is told of its notifiers. */
function machine() {
  const topology = new MemoryTopology();
  const flags: string[] = [];
  const system = topology.createRegion({ kind: 'container', name: 'system', size: 0x10000n });
  const target = topology.createAddressSpace('memory', system);
  const entry = (address: bigint): IommuEntry => ({
    target,
    address: address & ~0xfffn,
    translated: (address & ~0xfffn) + 0x8000n,
    addressMask: 0xfffn,
    access: address < 0x2000n ? 3 : 0,
  });
  const region = topology.createRegion({
    kind: 'iommu',
    name: 'iommu',
    size: 0x10000n,
    iommu: { translate: entry, notifierFlagsChanged: (old, next) => void flags.push(`${old} to ${next}`) },
  });
  return { region, entry, flags };
}

const notifier = (heard: string[], options: Partial<IommuNotifier> = {}): IommuNotifier => ({
  events: IommuEvent.MAP | IommuEvent.UNMAP,
  start: 0n,
  end: 0x10000n,
  index: 0,
  notify: ({ address, addressMask }) => heard.push(`${address} ${addressMask + 1n}`),
  ...options,
});

test('a notifier hears the events it asked for, in its range', () => {
  const { region, entry, flags } = machine();
  const [all, maps, high]: string[][] = [[], [], []];
  const first = notifier(all!);
  addIommuNotifier(region, first);
  addIommuNotifier(region, notifier(maps!, { events: IommuEvent.MAP }));
  addIommuNotifier(region, notifier(high!, { start: 0x8000n }));
  notifyIommu(region, 0, IommuEvent.UNMAP, entry(0x1000n));
  notifyIommu(region, 0, IommuEvent.MAP, entry(0x9000n));
  expect([all, maps, high]).toEqual([['4096 4096', '36864 4096'], ['36864 4096'], ['36864 4096']]);
  removeIommuNotifier(region, first);
  notifyIommu(region, 0, IommuEvent.MAP, entry(0n));
  expect(all).toHaveLength(2);
  expect(flags[0]).toBe('0 to 3');
});

test('an entry is cut for a device with a TLB, and refused for others that see a part of it', () => {
  const { region, entry } = machine();
  const heard: string[] = [];
  const range = { start: 0x800n, end: 0x1000n };
  addIommuNotifier(region, notifier(heard, { ...range, events: IommuEvent.DEVIOTLB_UNMAP }));
  notifyIommu(region, 0, IommuEvent.DEVIOTLB_UNMAP, entry(0n));
  expect(heard).toEqual(['2048 2048']);
  addIommuNotifier(region, notifier(heard, range));
  expect(() => notifyIommu(region, 0, IommuEvent.UNMAP, entry(0n))).toThrow(
    expect.objectContaining({ code: 'BAD_STATE' }),
  );
});

test('a replay tells of every page that is mapped', () => {
  const { region } = machine();
  const heard: string[] = [];
  replayIommu(region, notifier(heard));
  expect(heard).toEqual(['0 4096', '4096 4096']);
});
