import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MemorySection } from '../../src/memory/listener.ts';
import { BlockBitmap } from '../../src/memory-devices/block-bitmap.ts';
import { DiscardManager } from '../../src/memory-devices/discard-manager.ts';
import { DiscardPolicy } from '../../src/memory-devices/discard-policy.ts';
import { BlockSource } from '../../src/memory-devices/discard-source.ts';
import { GiB, MiB } from '../../src/units.ts';
import { backend, codeOf, pc, recordDiscards } from './rig.ts';

const BLOCK = 2 * MiB;

interface Source {
  readonly bitmap: BlockBitmap;
  readonly source: BlockSource;
}

function sourceOf(blocks: number, blockSize = BLOCK, ...populated: readonly number[]): Source {
  const bitmap = new BlockBitmap(blocks);
  for (const block of populated) bitmap.set(block, 1);
  return { bitmap, source: new BlockSource(bitmap, blockSize) };
}

/** A section of RAM that begins at 4 GiB: `blocks` blocks of the region from `from` on. */
function sectionOf(from: number, blocks: number): MemorySection {
  const machine = pc(GiB);
  const { region } = backend(machine, GiB);
  return {
    region,
    view: machine.space.view,
    offsetWithinRegion: BigInt(from * BLOCK),
    offsetWithinAddressSpace: BigInt(4 * GiB),
    size: BigInt(blocks * BLOCK),
    readonly: false,
    nonvolatile: false,
    unmergeable: false,
  };
}

describe('a manager with one source', () => {
  test('replays what is populated and what is not, cut to the section', () => {
    const { source } = sourceOf(16, BLOCK, 1, 2, 3, 7);
    const manager = new DiscardManager(source);
    const seen: string[] = [];
    const note = (verb: string) => (part: MemorySection) => {
      const { offsetWithinRegion, offsetWithinAddressSpace, size } = part;
      seen.push(
        `${verb} ${Number(offsetWithinRegion) / BLOCK}+${Number(size) / BLOCK} at ${Number(offsetWithinAddressSpace) / BLOCK - 2048}`,
      );
      return 0;
    };
    const section = sectionOf(2, 8);
    manager.replayPopulated(section, note('+'));
    manager.replayDiscarded(section, note('-'));
    expect(seen).toEqual(['+ 2+2 at 0', '+ 7+1 at 5', '- 4+3 at 2', '- 8+2 at 6']);
    expect(manager.minGranularity()).toBe(BigInt(BLOCK));
  });

  test('stops a replay at the first answer that is not 0', () => {
    const manager = new DiscardManager(sourceOf(16, BLOCK, 1, 3, 5).source);
    const answers = [0, -5, 0];
    let calls = 0;
    expect(manager.replayPopulated(sectionOf(0, 16), () => answers[calls++]!)).toBe(-5);
    expect(calls).toBe(2);
    calls = 0;
    expect(manager.replayDiscarded(sectionOf(0, 16), () => answers[calls++]!)).toBe(-5);
  });

  test('says populated only if no part is discarded, at any alignment', () => {
    const manager = new DiscardManager(sourceOf(16, BLOCK, 1, 2).source);
    const part = (start: number, size: number): MemorySection => ({
      ...sectionOf(0, 16),
      offsetWithinRegion: BigInt(start),
      size: BigInt(size),
    });
    expect(manager.isPopulated(part(BLOCK + 4096, BLOCK))).toBe(true);
    expect(manager.isPopulated(part(BLOCK, 2 * BLOCK))).toBe(true);
    expect(manager.isPopulated(part(BLOCK, 2 * BLOCK + 1))).toBe(false);
    expect(manager.isPopulated(part(BLOCK - 1, 2))).toBe(false);
  });

  test('tells a new listener what is there, and one that leaves that it is gone', () => {
    const manager = new DiscardManager(sourceOf(16, BLOCK, 1, 2, 7).source);
    const heard: string[] = [];
    const listener = recordDiscards(heard);
    expect(manager.registerListener(listener, sectionOf(0, 16))).toBe(0);
    expect(codeOf(() => manager.registerListener(listener, sectionOf(0, 16)))).toBe('NOT_PLUGGED');
    manager.unregisterListener(listener);
    expect(heard).toEqual(['populate 2+4', 'populate 14+2', 'discard 2+4', 'discard 14+2']);
    expect(codeOf(() => manager.unregisterListener(listener))).toBe('NOT_PLUGGED');
  });

  test('stops telling a new listener when it objects', () => {
    const manager = new DiscardManager(sourceOf(16, BLOCK, 1, 3, 5).source);
    const heard: string[] = [];
    expect(manager.registerListener(recordDiscards(heard, { objectsTo: 1 }), sectionOf(0, 16))).toBe(-12);
    expect(heard).toEqual(['populate 2+2', 'object 6+2']);
  });

  test('takes a population back from those already told when one objects, the newest is told first', () => {
    const { source } = sourceOf(16);
    const manager = new DiscardManager(source);
    const heard: string[] = [];
    manager.registerListener(recordDiscards(heard, { name: 'first ' }), sectionOf(0, 16));
    manager.registerListener(recordDiscards(heard, { name: 'second ', objectsTo: 0 }), sectionOf(0, 16));
    manager.registerListener(recordDiscards(heard, { name: 'third ' }), sectionOf(0, 16));
    manager.registerListener(recordDiscards(heard, { name: 'elsewhere ' }), sectionOf(8, 8));
    expect(manager.notifyPopulate(source, 0, 2 * BLOCK)).toBe(-12);
    expect(heard).toEqual(['third populate 0+4', 'second object 0+4', 'third discard 0+4']);
  });

  test('discards everything in one call for a listener that offers that, else run by run', () => {
    const manager = new DiscardManager(sourceOf(16, BLOCK, 1, 3).source);
    const heard: string[] = [];
    manager.registerListener(recordDiscards(heard, { name: 'a ' }), sectionOf(0, 16));
    manager.registerListener(recordDiscards(heard, { name: 'b ', hasAll: true }), sectionOf(0, 16));
    heard.length = 0;
    manager.notifyDiscardAll();
    expect(heard).toEqual(['b all 0+32', 'a discard 2+2', 'a discard 6+2']);
  });
});

describe('a manager with several sources', () => {
  test('has populated what is populated in all, and the finest granularity', () => {
    const coarse = sourceOf(4, 4 * BLOCK, 0, 2);
    const fine = sourceOf(16, BLOCK, 0, 1, 9, 10, 15);
    const manager = new DiscardManager(coarse.source, fine.source);
    expect(manager.minGranularity()).toBe(BigInt(BLOCK));
    const heard: string[] = [];
    manager.registerListener(recordDiscards(heard), sectionOf(0, 16));
    expect(heard).toEqual(['populate 0+4', 'populate 18+4']);
  });

  test('tells of a source that comes and goes', () => {
    const first = sourceOf(16, BLOCK, 0, 1, 2, 3);
    const second = sourceOf(16, BLOCK, 2, 3, 4);
    const manager = new DiscardManager(first.source);
    const heard: string[] = [];
    manager.registerListener(recordDiscards(heard), sectionOf(0, 16));
    manager.addSource(second.source);
    expect(manager.removeSource(second.source)).toBe(0);
    expect(heard).toEqual(['populate 0+8', 'discard 0+4', 'populate 0+4']);
    expect(codeOf(() => manager.addSource(sourceOf(32, MiB).source))).toBe('BAD_PROPERTY');
  });

  test('keeps a source when a listener objects to what its going would populate', () => {
    const first = sourceOf(16, BLOCK, 0, 1);
    const second = sourceOf(16, BLOCK, 1);
    const manager = new DiscardManager(first.source, second.source);
    const heard: string[] = [];
    manager.registerListener(recordDiscards(heard, { objectsTo: 1 }), sectionOf(0, 16));
    expect(manager.removeSource(second.source)).toBe(-12);
    expect(manager.isPopulated(sectionOf(0, 1))).toBe(false);
  });

  test('after any sequence a listener knows exactly what all sources populate', () => {
    const BLOCKS = 24;
    const step = fc.record({
      source: fc.nat(1),
      at: fc.nat(BLOCKS - 1),
      count: fc.integer({ min: 1, max: 6 }),
      populates: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), fc.nat(8), (steps, from) => {
        const sources = [sourceOf(BLOCKS), sourceOf(BLOCKS)] as const;
        const manager = new DiscardManager(sources[0].source, sources[1].source);
        const known = new Uint8Array(BLOCKS);
        const mark = (value: number) => (part: MemorySection) => {
          const start = Number(part.offsetWithinRegion) / BLOCK;
          const end = start + Number(part.size) / BLOCK;
          expect(known.subarray(start, end).every((each) => each !== value)).toBe(true);
          known.fill(value, start, end);
          return 0;
        };
        const listener = { populate: mark(1), discard: (part: MemorySection) => void mark(0)(part) };
        manager.registerListener(listener, sectionOf(from, BLOCKS - from));
        for (const { source, at, count, populates } of steps) {
          const { bitmap, source: notifying } = sources[source]!;
          const size = Math.min(count, BLOCKS - at);
          // Only blocks that are all in the other state may change, as virtio-mem demands.
          if (populates ? !bitmap.isAllClear(at, size) : !bitmap.isAllSet(at, size)) continue;
          const [start, end] = [at * BLOCK, (at + size) * BLOCK];
          if (populates) {
            manager.notifyPopulate(notifying, start, end);
            bitmap.set(at, size);
          } else {
            manager.notifyDiscard(notifying, start, end);
            bitmap.clear(at, size);
          }
        }
        const expected = Array.from({ length: BLOCKS }, (_, block) =>
          block >= from && sources.every(({ bitmap }) => bitmap.has(block)) ? 1 : 0,
        );
        expect([...known]).toEqual(expected);
      }),
    );
  });
});

describe('the policy', () => {
  test('refuses what excludes each other, in either order, and each release counts once', () => {
    const policy = new DiscardPolicy();
    const coordinated = policy.requireCoordinated();
    const again = policy.requireCoordinated();
    expect(codeOf(() => policy.disable())).toBe('DISCARD_DISABLED');
    expect(codeOf(() => policy.disableUncoordinated()())).toBeUndefined();
    coordinated();
    coordinated();
    expect(codeOf(() => policy.disable())).toBe('DISCARD_DISABLED');
    again();
    const uncoordinated = policy.disableUncoordinated();
    expect(codeOf(() => policy.require())).toBe('DISCARD_DISABLED');
    uncoordinated();
    const required = policy.require();
    expect(codeOf(() => policy.disableUncoordinated())).toBe('DISCARD_DISABLED');
    required();
    policy.disable();
    expect(codeOf(() => policy.requireCoordinated())).toBe('DISCARD_DISABLED');
    expect(codeOf(() => policy.require())).toBe('DISCARD_DISABLED');
  });
});

test('a region takes a manager only while it is unmapped, and one only', () => {
  const machine = pc(GiB);
  const { region } = backend(machine, GiB);
  const manager = new DiscardManager(sourceOf(16).source);
  region.setDiscardManager(manager);
  expect(codeOf(() => region.setDiscardManager(new DiscardManager()))).toBe('DISCARD_MANAGER');
  machine.system.addSubregion(BigInt(16 * GiB), region);
  expect(codeOf(() => region.setDiscardManager(undefined))).toBe('DISCARD_MANAGER');
});
