/** Regions of a vhost back-end, folded anew around what changed, against folding everything each time. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { foldSections, isVhostSection, type FoldedSection } from '../../src/memory-devices/vhost-sections.ts';
import { sectionOf, type MemorySection } from '../../src/memory/listener.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { VhostMemoryListener, type RegionChange } from '../../src/vhost/memory-listener.ts';

const PIECE = 0x1000n;
const PIECES = 12;
/** Pages of four pieces: a hole of one to three pieces disappears between two that are there. */
const PAGE_SIZES = [0x1000, 0x4000];

/** Two RAM blocks in pieces, side by side, each piece an alias that can come, go and change. */
function memory() {
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 40n });
  const space = topology.createAddressSpace('memory', root);
  const pieces = PAGE_SIZES.flatMap((pageSize, position) => {
    const block = { id: `ram${position}`, size: 1n << 32n, pageSize, fd: 0, hostAddress: 1n << 44n };
    const target = topology.createRegion({ kind: 'ram', name: block.id, size: block.size, block });
    return Array.from({ length: PIECES }, (_, index) => {
      const offset = PIECE * BigInt(index);
      const alias = topology.createRegion({
        kind: 'alias',
        name: `${block.id}.${index}`,
        size: PIECE,
        target,
        offset,
      });
      return { alias, address: 0x10_0000n + PIECE * BigInt(PIECES * position) + offset };
    });
  });
  return { topology, root, space, pieces };
}

const rowOf = ({ section, start, size, offset }: FoldedSection): string =>
  [section.region.name, start, size, offset].join();

const edit = fc.record({
  piece: fc.nat({ max: PIECES * PAGE_SIZES.length - 1 }),
  what: fc.constantFrom('map', 'map', 'readonly', 'unmergeable'),
});

function apply(root: MemoryRegion, piece: ReturnType<typeof memory>['pieces'][number], what: string): void {
  const { alias, address } = piece;
  if (what === 'readonly') alias.setReadonly(!alias.readonly);
  else if (what === 'unmergeable') alias.setUnmergeable(!alias.unmergeable);
  else if (alias.container === undefined) root.addSubregion(address, alias);
  else root.removeSubregion(alias);
}

test('after every transaction, regions and what is told of them are those of folding everything', () => {
  fc.assert(
    fc.property(fc.array(fc.array(edit, { minLength: 1, maxLength: 6 }), { maxLength: 40 }), (commits) => {
      const { topology, root, space, pieces } = memory();
      const told = new Set<string>();
      const change = ({ gone, come }: RegionChange): void => {
        for (const region of gone) expect(told.delete(rowOf(region))).toBe(true);
        for (const region of come) {
          expect(told.has(rowOf(region))).toBe(false);
          told.add(rowOf(region));
        }
      };
      const listener = new VhostMemoryListener('fs0', change);
      space.addListener(listener);
      for (const edits of commits) {
        topology.transaction(() => {
          for (const { piece, what } of edits) apply(root, pieces[piece]!, what);
        });
        const sections = space.view.ranges.map((range) => sectionOf(range, space.view));
        const all = foldSections(sections.filter(isVhostSection)).map(rowOf);
        expect(listener.regions.map(rowOf)).toEqual(all);
        expect([...told].sort()).toEqual([...all].sort());
      }
      space.removeListener(listener);
      expect([...told, ...listener.regions]).toEqual([]);
    }),
    { numRuns: 150 },
  );
});

test('what is not shareable memory is left out', () => {
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 40n });
  const space = topology.createAddressSpace('memory', root);
  const listener = new VhostMemoryListener('fs0', () => expect.unreachable());
  space.addListener(listener);
  const block = { id: 'ram', size: 0x1000n, pageSize: 0x1000, hostAddress: 0n };
  root.addSubregion(0n, topology.createRegion({ kind: 'ram', name: 'private', size: 0x1000n, block }));
  const shared = { ...block, fd: 0 };
  root.addSubregion(
    0x1000n,
    topology.createRegion({ kind: 'rom', name: 'bios', size: 0x1000n, block: shared }),
  );
  root.addSubregion(0x2000n, topology.createRegion({ kind: 'io', name: 'uart', size: 0x1000n }));
  expect(listener.regions).toEqual([]);
});

test('memory that becomes read-only itself goes, and comes back', () => {
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 40n });
  const space = topology.createAddressSpace('memory', root);
  const listener = new VhostMemoryListener('fs0', () => undefined);
  space.addListener(listener);
  const block = { id: 'ram', size: 0x1000n, pageSize: 0x1000, hostAddress: 0n, fd: 0 };
  const ram = topology.createRegion({ kind: 'ram', name: 'ram', size: 0x1000n, block });
  root.addSubregion(0n, ram);
  ram.setReadonly(true);
  expect(listener.regions.length).toBe(0);
  ram.setReadonly(false);
  expect(listener.regions.length).toBe(1);
});

test('a commit looks at few sections, however many there are', () => {
  const topology = new MemoryTopology();
  const block = { id: 'ram', size: 1n << 40n, pageSize: 0x1000, hostAddress: 0n, fd: 0 };
  const region = topology.createRegion({ kind: 'ram', name: 'ram', size: 1n << 40n, block });
  const space = topology.createAddressSpace('memory', region);
  let looks = 0;
  const section = (index: number): MemorySection => ({
    region,
    view: space.view,
    offsetWithinRegion: PIECE * BigInt(index),
    get offsetWithinAddressSpace() {
      looks += 1;
      return PIECE * BigInt(index);
    },
    size: PIECE,
    readonly: false,
    nonvolatile: false,
    unmergeable: true,
  });
  const cost = (count: number): number => {
    const listener = new VhostMemoryListener('fs0', () => undefined);
    for (let index = 0; index < count; index += 1) listener.regionAdd(section(index));
    listener.commit();
    looks = 0;
    listener.regionDel(section(count / 2));
    listener.commit();
    return looks;
  };
  // a bisection is 4 steps among 16 and 12 among 4,096; nothing else may grow
  expect(cost(4096) / cost(16)).toBeLessThan(3);
});
