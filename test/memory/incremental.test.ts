import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSameRange, type FlatRange } from '../../src/memory/flat-range.ts';
import type { MemoryListener, MemorySection } from '../../src/memory/listener.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { viewRootOf } from '../../src/memory/containment.ts';
import { renderAll } from '../../src/memory/render.ts';
import { applyEdit, closeTransactions, createRegions, editPlans, regionPlans } from './random-tree.ts';

/** What can be seen of a range, with the region by name. */
const visible = (range: FlatRange): unknown => ({ ...range, region: range.region.name, path: undefined });

const sectionText = (section: MemorySection): string =>
  [
    section.region.name,
    section.offsetWithinAddressSpace,
    section.size,
    section.offsetWithinRegion,
    section.readonly,
    section.nonvolatile,
    section.unmergeable,
  ].join(' ');

function recorder(label: string, log: string[], options: { readonly hasNop: boolean }): MemoryListener {
  const note = (text: string): void => {
    log.push(`${label} ${text}`);
  };
  return {
    begin: () => note('begin'),
    commit: () => note('commit'),
    regionAdd: (section) => note(`add ${sectionText(section)}`),
    regionDel: (section) => note(`del ${sectionText(section)}`),
    logStart: (section, old, next) => note(`log start ${sectionText(section)} ${old} ${next}`),
    logStop: (section, old, next) => note(`log stop ${sectionText(section)} ${old} ${next}`),
    logGlobalStart: () => note('global start'),
    logGlobalStop: () => note('global stop'),
    ...(options.hasNop ? { regionNop: (section: MemorySection) => note(`nop ${sectionText(section)}`) } : {}),
  };
}

/** A topology with the planned regions, four address spaces on them, and listeners. */
function build(
  plans: Parameters<typeof createRegions>[1],
  options: { rendersAll: boolean; hasNop: boolean },
) {
  const topology = new MemoryTopology({ logsCode: true, rendersAll: options.rendersAll });
  const regions = createRegions(topology, plans);
  const log: string[] = [];
  for (const index of [0, 1, 2, 0]) {
    const space = topology.createAddressSpace(`as${index}`, regions[index % regions.length]!);
    space.addListener(recorder(space.name, log, options));
  }
  return { topology, regions, log };
}

test('a view kept up to date is the view rendered anew, range by range', () => {
  fc.assert(
    fc.property(regionPlans, editPlans(60), (plans, edits) => {
      const { topology, regions } = build(plans, { rendersAll: false, hasNop: false });
      for (const edit of edits) {
        applyEdit(topology, regions, edit);
        if (topology.isInTransaction) continue;
        // an address moved outside any container counts from the next change on, as in QEMU
        regions[0]!.setNonvolatile(!regions[0]!.nonvolatile);
        for (const space of topology.addressSpaces) {
          const root = viewRootOf(space.root);
          const expected = root === undefined || !regions[0]!.enabled ? undefined : renderAll(root);
          if (expected !== undefined) expect(space.view.ranges.map(visible)).toEqual(expected.map(visible));
        }
      }
    }),
    { numRuns: 500 },
  );
});

test.each([true, false])('listeners hear the same as with full rendering (with nop: %s)', (hasNop) => {
  fc.assert(
    fc.property(regionPlans, editPlans(60), (plans, edits) => {
      const fast = build(plans, { rendersAll: false, hasNop });
      const slow = build(plans, { rendersAll: true, hasNop });
      for (const edit of edits) {
        applyEdit(fast.topology, fast.regions, edit);
        applyEdit(slow.topology, slow.regions, edit);
        expect(fast.log).toEqual(slow.log);
      }
      closeTransactions(fast.topology);
      closeTransactions(slow.topology);
      expect(fast.log).toEqual(slow.log);
    }),
    { numRuns: 300 },
  );
});

test('what a listener was told adds up to the view', () => {
  fc.assert(
    fc.property(regionPlans, editPlans(60), (plans, edits) => {
      const topology = new MemoryTopology();
      const regions = createRegions(topology, plans);
      const space = topology.createAddressSpace('as', regions[0]!);
      const told = new Set<string>();
      space.addListener({
        regionAdd: (section) => {
          expect(told.has(sectionText(section))).toBe(false);
          told.add(sectionText(section));
        },
        regionDel: (section) => {
          expect(told.delete(sectionText(section))).toBe(true);
        },
      });
      for (const edit of edits) applyEdit(topology, regions, edit);
      closeTransactions(topology);
      const replayed: string[] = [];
      space.addListener({ regionAdd: (section) => replayed.push(sectionText(section)) });
      expect([...told].sort()).toEqual(replayed.sort());
    }),
    { numRuns: 200 },
  );
});

test('mapping or unmapping one unmergeable alias is heard of that alias only', () => {
  const SLOTS = 12;
  fc.assert(
    fc.property(
      fc.array(fc.nat(SLOTS - 1), { maxLength: 60 }),
      fc.bigInt({ min: 1n, max: 4096n }),
      (toggles, size) => {
        const topology = new MemoryTopology();
        const total = size * BigInt(SLOTS);
        const system = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 64n });
        const block = { id: 'mem0', size: total, pageSize: 4096 };
        const memory = topology.createRegion({ kind: 'ram', name: 'mem0', size: total, block });
        const container = topology.createRegion({ kind: 'container', name: 'virtio-mem', size: total });
        system.addSubregion(0x1_0000_0000n, container);
        const slots = Array.from({ length: SLOTS }, (_, index) => {
          const offset = size * BigInt(index);
          const slot = topology.createRegion({
            kind: 'alias',
            name: `memslot-${index}`,
            size,
            target: memory,
            offset,
          });
          slot.setUnmergeable(true);
          return slot;
        });
        const heard: string[] = [];
        topology.createAddressSpace('memory', system).addListener({
          regionAdd: ({ offsetWithinRegion, size: bytes }) =>
            heard.push(`add ${offsetWithinRegion} ${bytes}`),
          regionDel: ({ offsetWithinRegion, size: bytes }) =>
            heard.push(`del ${offsetWithinRegion} ${bytes}`),
        });
        for (const index of toggles) {
          const slot = slots[index]!;
          const isMapped = slot.container !== undefined;
          heard.length = 0;
          if (isMapped) container.removeSubregion(slot);
          else container.addSubregion(slot.aliasOffset, slot);
          expect(heard).toEqual([`${isMapped ? 'del' : 'add'} ${slot.aliasOffset} ${size}`]);
        }
      },
    ),
    { numRuns: 100 },
  );
});

test('two ranges are the same only if every field a listener sees is', () => {
  const topology = new MemoryTopology();
  const region = topology.createRegion({ kind: 'io', name: 'io', size: 16n });
  topology.createAddressSpace('as', region);
  const range = topology.spaceOf(region)!.view.ranges[0]!;
  for (const change of [
    { start: 1n },
    { end: 8n },
    { offset: 1n },
    { romdMode: false },
    { readonly: true },
  ]) {
    expect(isSameRange(range, { ...range, ...change })).toBe(false);
  }
  expect(isSameRange(range, { ...range, dirtyMask: 4 })).toBe(true);
});
