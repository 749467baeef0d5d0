/** What another thread sees of guest memory; here both are in one. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { GuestMemoryView } from '../../src/guest-memory/guest-memory-view.ts';
import { SharedRegions } from '../../src/guest-memory/shared-regions.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { wordsOf } from '../support/views.ts';

const PAGE = 4096;
const MAX_SLOTS = 6;
const UVA = 0x7f00_0000_0000n;

function sharedMemory() {
  const shared = SharedRegions.create(MAX_SLOTS);
  const waits: number[] = [];
  const memory = new GuestMemory({
    maxSlots: MAX_SLOTS,
    readers: { shared, waitForAll: () => void waits.push(shared.generation) },
  });
  const view = new GuestMemoryView(SharedRegions.at(shared.address, MAX_SLOTS));
  return { shared, memory, view, waits };
}

const region = (page: number, pages = 1) => ({
  guestPhysAddr: BigInt(page * PAGE),
  memorySize: BigInt(pages * PAGE),
  userspaceAddr: UVA + BigInt(page * PAGE),
  mmapOffset: 0n,
});
const file = (pages = 1): OwnedFd => new OwnedFd(createMemfd('view', pages * PAGE));

test('a region is found as soon as it is added, without a refresh', () => {
  const { memory, view } = sharedMemory();
  expect(view.translate(5 * PAGE, 8)).toBe(0);
  memory.addRegion(region(5), file());
  expect(view.translate(5 * PAGE + 8, PAGE)).toBe(PAGE - 8);
  memory.translate(5 * PAGE + 8, 1);
  expect(view.lastAddress).toBe(memory.lastAddress);
  expect(view.resolveUva(UVA + BigInt(5 * PAGE), PAGE)).toBe(memory.lastAddress - 8);
  expect(view.resolveUva(UVA + BigInt(5 * PAGE), PAGE + 1)).toBe(-1);
});

test('a region that goes is withdrawn first, then waited for, then unmapped', () => {
  const { shared, memory, view, waits } = sharedMemory();
  memory.addRegion(region(5), file());
  view.refresh();
  memory.removeRegion(region(5));
  expect(waits).toEqual([shared.generation]);
  expect(view.translate(5 * PAGE, 8)).toBe(8); // until its turn ends
  expect([view.refresh(), view.refresh()]).toEqual([true, false]);
  expect(view.translate(5 * PAGE, 8)).toBe(0);
});

test('bytes are the same here and there, also through words and ring views', () => {
  const { memory, view } = sharedMemory();
  memory.addRegion(region(1), file());
  memory.translate(PAGE, 16);
  wordsOf(memory.ringView(memory.lastAddress, 16))[2] = 0xcafe;
  view.translate(PAGE, 16);
  expect(wordsOf(view.ringView(view.lastAddress, 16))[2]).toBe(0xcafe);
  const words = view.wordsAround(view.lastAddress);
  expect(words[(view.lastAddress - view.lastWordsAddress) / 4 + 2]).toBe(0xcafe);
});

test('the dirty log is switched there, too', () => {
  const { memory, view } = sharedMemory();
  const [first, second] = [createMemfd('log', PAGE), createMemfd('log', PAGE)];
  memory.setLog(new OwnedFd(first), 0n, 8n);
  expect(view.isLogging).toBe(false);
  view.refresh();
  expect(view.isLogging).toBe(true);
  view.markDirty(3 * PAGE, 1);
  memory.setLog(new OwnedFd(second), 0n, 8n);
  view.refresh();
  view.markDirty(0, 1);
  memory.clearLog();
  expect(view.isLogging).toBe(true);
  view.refresh();
  expect(view.isLogging).toBe(false);
});

test('notes travel with the table', () => {
  const { shared, view } = sharedMemory();
  expect(view.notes).toEqual({ flags: 0, fd: -1 });
  shared.publishNotes({ flags: 5, fd: 9 });
  expect([view.refresh(), view.refresh()]).toEqual([true, false]);
  expect(view.notes).toEqual({ flags: 5, fd: 9 });
});

test('whatever is done to the table, who refreshes sees it as it is', () => {
  const step = fc.record({
    kind: fc.constantFrom('add', 'remove', 'replace', 'refresh'),
    page: fc.nat(12),
    pages: fc.integer({ min: 1, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const { memory, view } = sharedMemory();
      for (const { kind, page, pages } of steps) {
        try {
          if (kind === 'add') memory.addRegion(region(page, pages), file(pages));
          else if (kind === 'remove') memory.removeRegion(region(page, pages));
          else if (kind === 'replace') memory.replaceAll([region(page, pages)], [file(pages)]);
          else view.refresh();
        } catch {
          // Refused: nothing has changed.
        }
      }
      view.refresh();
      for (let at = 0; at < 16 * PAGE; at += PAGE / 2) {
        const found = memory.translate(at, 2 * PAGE);
        expect(view.translate(at, 2 * PAGE)).toBe(found);
        if (found > 0) expect(view.lastAddress).toBe(memory.lastAddress);
        const uva = UVA + BigInt(at);
        expect(view.resolveUva(uva, 64)).toBe(memory.resolveUva(uva, 64));
      }
      memory[Symbol.dispose]();
    }),
    { numRuns: 60 },
  );
});
