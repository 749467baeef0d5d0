import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HandleTable } from '../../src/passthrough/handle-table.ts';
import { InUse } from '../../src/passthrough/in-use.ts';
import { InodeTable, nodeidHigh, nodeidLow, ROOT_SLOT } from '../../src/passthrough/inode-table.ts';
import { OctetPool } from '../../src/passthrough/octet-pool.ts';
import { TableMemory } from '../../src/passthrough/table-memory.ts';

interface Known {
  readonly slot: number;
  readonly mount: number;
  readonly lo: number;
  readonly hi: number;
  readonly handle: readonly number[];
}

type Step =
  | {
      readonly kind: 'insert';
      readonly mount: number;
      readonly lo: number;
      readonly hi: number;
      readonly words: number;
    }
  | { readonly kind: 'remove' | 'unindex'; readonly pick: number };

// Few identities, so that they collide; a few high words, so that both halves count.
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('insert' as const),
      mount: fc.integer({ min: 0, max: 2 }),
      lo: fc.integer({ min: 0, max: 40 }),
      hi: fc.constantFrom(0, 1, 0xffff_ffff),
      words: fc.integer({ min: 0, max: 12 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('remove' as const, 'unindex' as const), pick: fc.nat() }),
  },
);

function handleOf(slot: number, words: number): number[] {
  return words === 0 ? [] : [words * 4, 7, ...Array.from({ length: words }, (_, i) => slot * 100 + i)];
}

function found(table: InodeTable, { mount, lo, hi }: Known): number[] {
  const slots: number[] = [];
  for (let slot = table.find(mount, lo, hi); slot >= 0; slot = table.findNext(slot)) slots.push(slot);
  return slots.sort((a, b) => a - b);
}

/** A row with a nodeid. */
function insert(table: InodeTable, mount: number, lo: number, hi: number): number {
  const slot = table.insert(mount, lo, hi, 0o100000);
  table.publish(slot);
  return slot;
}

function nodeidOf(table: InodeTable, slot: number): number {
  const serial = table.serial(slot);
  return (nodeidLow(slot, serial) >>> 0) + nodeidHigh(serial) * 2 ** 32;
}

function octetsOf(table: InodeTable, memory: TableMemory, slot: number, words: number): number[] {
  const address = table.handleAddress(slot);
  const isInRow = address >= memory.tails.address && address < memory.tails.address + memory.tails.size;
  const from = isInRow ? memory.tails : memory.octets;
  const at = (address - from.address) / 4;
  return [...from.u32.subarray(at, at + words)];
}

test('the table finds what a Map finds, through growth, removal and reuse', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 900, minLength: 300 }), (steps) => {
      using memory = TableMemory.reserve(100, false);
      const table = new InodeTable(memory, new OctetPool(memory));
      const known = new Map<number, Known>(); // by nodeid
      const hidden = new Set<number>();
      const everGiven = new Set<number>();
      for (const s of steps) {
        if (s.kind === 'insert') {
          const slot = insert(table, s.mount, s.lo, s.hi);
          const nodeid = nodeidOf(table, slot);
          expect(everGiven.has(nodeid)).toBe(false);
          everGiven.add(nodeid);
          const handle = handleOf(slot, s.words);
          if (handle.length > 0) expect(table.setHandle(slot, Uint32Array.from(handle))).toBe(true);
          known.set(nodeid, { slot, mount: s.mount, lo: s.lo, hi: s.hi, handle });
        } else if (known.size > 0) {
          const nodeid = [...known.keys()][s.pick % known.size]!;
          const { slot } = known.get(nodeid)!;
          if (s.kind === 'unindex') {
            table.unindex(slot);
            hidden.add(nodeid);
          } else {
            table.unpublish(slot);
            table.recycle(slot);
            known.delete(nodeid);
          }
        }
      }
      expect(table.count).toBe(known.size);
      for (const nodeid of everGiven) expect(table.slotOf(nodeid)).toBe(known.get(nodeid)?.slot ?? -1);
      for (const [nodeid, row] of known) {
        const same = [...known].filter(
          ([id, r]) => !hidden.has(id) && r.mount === row.mount && r.lo === row.lo && r.hi === row.hi,
        );
        expect(found(table, row)).toEqual(same.map(([, r]) => r.slot).sort((a, b) => a - b));
        expect(table.hasHandle(row.slot)).toBe(row.handle.length > 0);
        if (row.handle.length === 0) continue;
        expect(octetsOf(table, memory, row.slot, row.handle.length)).toEqual(row.handle);
        expect(table.isHandle(row.slot, Uint32Array.from(row.handle))).toBe(true);
        expect(table.slotOf(nodeid + 2 ** 26)).toBe(-1);
      }
    }),
    { numRuns: 30 },
  );
});

test('the first inode is the root, nodeid 1', () => {
  using memory = TableMemory.reserve(100, false);
  const table = new InodeTable(memory, new OctetPool(memory));
  expect(nodeidOf(table, insert(table, 0, 5, 0))).toBe(1);
  expect(table.slotOf(1)).toBe(ROOT_SLOT);
});

test('a cold row has no nodeid, keeps its handle, and comes back with another nodeid', () => {
  using memory = TableMemory.reserve(100, false);
  const table = new InodeTable(memory, new OctetPool(memory));
  const slot = insert(table, 0, 5, 0);
  const before = nodeidOf(table, slot);
  table.setHandle(slot, Uint32Array.of(4, 1, 99));
  table.unpublish(slot);
  expect(table.chill(slot)).toBe(0);
  expect(table.slotOf(before)).toBe(-1);
  expect(table.find(0, 5, 0)).toBe(slot);
  table.warm(slot);
  expect(table.slotOf(before)).toBe(-1);
  expect(table.slotOf(nodeidOf(table, slot))).toBe(slot);
  expect(table.isHandle(slot, Uint32Array.of(4, 1, 99))).toBe(true);
});

test('a handle that was closed is unknown for ever, its row serves again', () => {
  using memory = TableMemory.reserve(100, false);
  const inUse = new InUse(memory);
  const handles = new HandleTable(memory, inUse);
  const fhOf = (row: number): number => (handles.low(row) >>> 0) + handles.high(row) * 2 ** 32;
  const given = new Set<number>();
  for (let i = 0; i < 500; i += 1) {
    const rows = [0, 1, 2].map((n) => handles.insert(100 + n, 1, 0));
    for (const row of rows) {
      expect(given.has(fhOf(row))).toBe(false);
      given.add(fhOf(row));
    }
    for (const row of rows) {
      handles.remove(row);
      handles.recycle(row);
    }
  }
  expect(handles.count).toBe(0);
  expect(handles.top).toBeLessThan(8);
  for (const fh of given) {
    expect(handles.find(fh)).toBe(-1);
    inUse.clear();
  }
});
