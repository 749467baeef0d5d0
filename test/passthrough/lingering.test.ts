import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Lingering } from '../../src/passthrough/lingering.ts';
import { HeaderWord, MAX_LINGERING, type TableMemory } from '../../src/passthrough/table-memory.ts';

const newList = (turns = 0): Lingering => {
  const header = new Int32Array(64);
  // As after so many entries: the counters run over at some time.
  header[HeaderWord.LINGER_HEAD] = turns;
  header[HeaderWord.LINGER_TAIL] = turns;
  header[HeaderWord.LINGER_MARK] = turns;
  const memory: Pick<TableMemory, 'header' | 'lingering'> = {
    header,
    lingering: new Int32Array(2 * MAX_LINGERING),
  };
  return new Lingering(memory as TableMemory);
};

interface Entry {
  readonly slot: number;
  /** −1 for an owner. */
  readonly fd: number;
}

type Step =
  | { readonly kind: 'add'; readonly slot: number; readonly isOwner: boolean }
  | { readonly kind: 'takeReader' | 'dropOwner'; readonly slot: number }
  | { readonly kind: 'takeOldest' | 'takeDue' | 'beginPeriod' };

const slots = fc.integer({ min: 1, max: 5 });
const add = fc.record({ kind: fc.constant('add' as const), slot: slots, isOwner: fc.boolean() });
const takeReader = fc.record({
  kind: fc.constantFrom('takeReader' as const, 'dropOwner' as const),
  slot: slots,
});
const rest = fc.record({
  kind: fc.constantFrom('takeOldest' as const, 'takeDue' as const, 'beginPeriod' as const),
});
const steps: fc.Arbitrary<Step> = fc.oneof(add, add, add, add, takeReader, takeReader, rest);

test.each([0, 0x7fff_fff0, -20])('the list does what an array does (counters from %d)', (turns) => {
  fc.assert(
    fc.property(fc.array(steps, { maxLength: 300 }), (all) => {
      const list = newList(turns);
      const model: Entry[] = [];
      let due: Entry[] = [];
      let nextFd = 0;
      for (const step of all)
        if (step.kind === 'add') {
          // Holes take room, too: the list may be full before the model is, never after.
          if (model.length === MAX_LINGERING) expect(list.isFull).toBe(true);
          if (list.isFull) continue;
          nextFd += 1;
          const entry = { slot: step.slot, fd: step.isOwner ? -1 : nextFd };
          if (step.isOwner) list.addOwner(step.slot);
          else list.addReader(step.slot, nextFd);
          model.push(entry);
        } else if (step.kind === 'takeReader') {
          const found = model.findLast(({ slot, fd }) => slot === step.slot && fd >= 0);
          expect(list.takeReader(step.slot)).toBe(found?.fd ?? -1);
          if (found !== undefined) model.splice(model.indexOf(found), 1);
        } else if (step.kind === 'dropOwner') {
          const found = model.findLast(({ slot, fd }) => slot === step.slot && fd < 0);
          list.dropOwner(step.slot);
          if (found !== undefined) model.splice(model.indexOf(found), 1);
        } else if (step.kind === 'beginPeriod') {
          list.beginPeriod(0);
          due = [...model];
        } else {
          const oldest = step.kind === 'takeDue' ? model.find((entry) => due.includes(entry)) : model[0];
          expect(step.kind === 'takeDue' ? list.takeDue() : list.takeOldest()).toBe(oldest !== undefined);
          if (oldest === undefined) continue;
          expect([list.slot, list.fd]).toEqual([oldest.slot, oldest.fd]);
          model.splice(model.indexOf(oldest), 1);
        }
      while (model.length > 0) {
        expect(list.takeOldest()).toBe(true);
        expect(list.slot).toBe(model.shift()!.slot);
      }
      expect(list.takeOldest()).toBe(false);
      expect(list.isEmpty).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test('a period takes 10 ms, across where the clock runs over 32 bits', () => {
  for (const start of [1, 0x7fff_fffb, 0xffff_fffb]) {
    const list = newList();
    expect(list.beginPeriod(start)).toBe(10);
    expect(list.untilEnd(start + 4)).toBe(6);
    expect(list.untilEnd(start + 9.5)).toBe(1);
    expect(list.untilEnd(start + 10)).toBe(0);
    expect(list.untilEnd(start + 1e6)).toBe(0);
  }
});
