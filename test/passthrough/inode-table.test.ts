import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HandleTable } from '../../src/passthrough/handle-table.ts';
import { InodeTable, ROOT_SLOT } from '../../src/passthrough/inode-table.ts';

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
  for (let slot = table.find(mount, lo, hi); slot >= 0; slot = table.findNext()) slots.push(slot);
  return slots.sort((a, b) => a - b);
}

test('the table finds what a Map finds, through growth, removal and reuse', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 900, minLength: 300 }), (steps) => {
      const table = new InodeTable();
      const known = new Map<number, Known>(); // by nodeid
      const hidden = new Set<number>();
      const everGiven = new Set<number>();
      const scratch = new Uint32Array(64);
      for (const s of steps) {
        if (s.kind === 'insert') {
          const slot = table.insert(s.mount, s.lo, s.hi, 0o100000);
          const nodeid = table.nodeid[slot]!;
          expect(everGiven.has(nodeid)).toBe(false);
          everGiven.add(nodeid);
          const handle = handleOf(slot, s.words);
          if (handle.length > 0) table.setHandle(slot, Uint32Array.from(handle), 0);
          known.set(nodeid, { slot, mount: s.mount, lo: s.lo, hi: s.hi, handle });
        } else if (known.size > 0) {
          const nodeid = [...known.keys()][s.pick % known.size]!;
          if (s.kind === 'unindex') {
            table.unindex(known.get(nodeid)!.slot);
            hidden.add(nodeid);
          } else {
            table.remove(known.get(nodeid)!.slot);
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
        table.copyHandle(row.slot, scratch, 0);
        expect([...scratch.subarray(0, row.handle.length)]).toEqual(row.handle);
        expect(table.isHandle(row.slot, Uint32Array.from(row.handle), 0)).toBe(true);
        expect(table.slotOf(nodeid + 2 ** 26)).toBe(-1);
      }
    }),
    { numRuns: 30 },
  );
});

test('the first inode is the root, nodeid 1, also after a reset', () => {
  const table = new InodeTable();
  for (let round = 0; round < 2; round += 1) {
    expect(table.insert(0, 5, 0, 0o040000)).toBe(ROOT_SLOT);
    expect(table.nodeid[ROOT_SLOT]).toBe(1);
    table.insert(0, 6, 0, 0o040000);
    table.reset();
    expect(table.find(0, 5, 0)).toBe(-1);
    expect(table.slotOf(1)).toBe(-1);
  }
});

test('a handle that was closed is unknown for ever, its row serves again', () => {
  const handles = new HandleTable();
  const given = new Set<number>();
  for (let i = 0; i < 500; i += 1) {
    const rows = [0, 1, 2].map((n) => handles.insert(100 + n, 1, 0));
    for (const row of rows) {
      expect(given.has(handles.fh[row]!)).toBe(false);
      given.add(handles.fh[row]!);
    }
    for (const row of rows) handles.remove(row);
  }
  expect(handles.count).toBe(0);
  expect(handles.top).toBeLessThan(8);
  for (const fh of given) expect(handles.find(fh)).toBe(-1);
});
