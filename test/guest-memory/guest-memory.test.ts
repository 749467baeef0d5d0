import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { arena } from '../../src/guest-memory/arena.ts';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import type { RegionDescription } from '../../src/guest-memory/region.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { copyMemory, NativeMemory } from '../../src/host/native-memory.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { GiB, KiB, MiB, TiB } from '../../src/units.ts';
import { octetsOf, wordsOf } from '../support/views.ts';

const PAGE = 4 * KiB;
const NAME = 'vhost-user-test-guest';

const openFdCount = (): number => readdirSync('/proc/self/fd').length;
const mappingLines = (): string[] => readFileSync('/proc/self/maps', 'latin1').trimEnd().split('\n');
const ownMappings = (): string[] => mappingLines().filter((line) => line.includes(NAME));
/** Mappings of the whole arena, reserved parts too. V8's come and go elsewhere. */
const arenaMappings = (): string[] =>
  mappingLines().filter((line) => arena.contains(Number.parseInt(line.slice(0, line.indexOf('-')), 16), 1));
const memfd = (size: number): OwnedFd => new OwnedFd(createMemfd(NAME, size));
const region = (gpa: number, size: number, fields: Partial<RegionDescription> = {}): RegionDescription => ({
  guestPhysAddr: BigInt(gpa),
  memorySize: BigInt(size),
  userspaceAddr: 0x7f00_0000_0000n + BigInt(gpa),
  mmapOffset: 0n,
  ...fields,
});
/** Where `gpa` is; the test fails if it is not mapped. */
function addressOf(memory: GuestMemory, gpa: number): number {
  expect(memory.translate(gpa, 1)).toBe(1);
  return memory.lastAddress;
}

let memory: GuestMemory;
let fdsBefore: number;
beforeEach(() => {
  fdsBefore = openFdCount();
  memory = new GuestMemory({ maxSlots: 8 });
});
afterEach(() => {
  memory[Symbol.dispose]();
  expect(ownMappings()).toEqual([]);
  expect(openFdCount()).toBe(fdsBefore);
});

describe('a region', () => {
  test('is the same memory as its descriptor, at its offset, and needs the descriptor no more', () => {
    const fd = memfd(4 * PAGE);
    memory.addRegion(region(0x1000_0000, PAGE, { mmapOffset: BigInt(2 * PAGE) }), new OwnedFd(fd.release()));
    const view = wordsOf(memory.ringView(addressOf(memory, 0x1000_0000), PAGE));
    view[1] = 0xfeed_f00d;
    expect(ownMappings()).toHaveLength(1);
    expect(ownMappings()[0]).toMatch(/rw-s 00002000/);
    expect(openFdCount()).toBe(fdsBefore);
  });

  test('is found by any address in it, and only by those', () => {
    memory.addRegion(region(0x1_0000, PAGE), memfd(PAGE));
    const first = addressOf(memory, 0x1_0000);
    expect(memory.translate(0x1_0000 + 100, PAGE)).toBe(PAGE - 100);
    expect(memory.lastAddress).toBe(first + 100);
    expect(memory.translate(0xffff, 1)).toBe(0);
    expect(memory.translate(0x1_1000, 1)).toBe(0);
    for (const gpa of [-1, -0x8000, Number.NaN, Infinity, 2 ** 53, 2 ** 64 - 1, 0])
      expect(memory.translate(gpa, 1)).toBe(0);
  });

  test('at guest physical address 0 is found, and nothing is once it is gone', () => {
    memory.addRegion(region(0, PAGE), memfd(PAGE));
    expect(memory.translate(0, PAGE)).toBe(PAGE);
    memory.removeRegion(region(0, PAGE));
    expect(memory.translate(0, PAGE)).toBe(0);
  });

  test('larger than 4 GiB, at an offset beyond 2 GiB, is mapped to its last byte', () => {
    const fd = createMemfd(NAME, 16 * GiB);
    memory.addRegion(region(4 * GiB, 10 * GiB, { mmapOffset: BigInt(6 * GiB) }), new OwnedFd(fd));
    const first = addressOf(memory, 4 * GiB);
    expect(memory.translate(14 * GiB - 8, 100)).toBe(8);
    expect(memory.lastAddress).toBe(first + 10 * GiB - 8);
    wordsOf(memory.ringView(memory.lastAddress, 8))[1] = 1;
    expect(ownMappings()[0]).toMatch(/rw-s 180000000/);
  });

  test('of 600 GiB, sparse, and one larger than the arena reserves at a time, are mapped', () => {
    memory.addRegion(region(4 * GiB, 600 * GiB), memfd(600 * GiB));
    memory.addRegion(region(2 * TiB, 2 * TiB), memfd(2 * TiB));
    expect(memory.translate(4 * TiB - 16, 16)).toBe(16);
  });

  test('whose size is no multiple of a page ends where it says', () => {
    memory.addRegion(region(0x1_0000, PAGE + 100), memfd(PAGE + 100));
    expect(memory.translate(0x1_0000 + PAGE, PAGE)).toBe(100);
    expect(memory.translate(0x1_0000 + PAGE + 100, 1)).toBe(0);
    memory.removeRegion(region(0x1_0000, PAGE + 100));
    expect(ownMappings()).toEqual([]);
  });

  test('of 2 MiB or more keeps its place within huge pages', () => {
    memory.addRegion(region(0, 3 * PAGE), memfd(3 * PAGE)); // shifts what comes after
    memory.addRegion(region(1 * GiB, 4 * MiB, { mmapOffset: BigInt(5 * PAGE) }), memfd(5 * MiB));
    expect(addressOf(memory, 1 * GiB) % (2 * MiB)).toBe(5 * PAGE);
  });
});

describe('a region is refused, with nothing changed and its descriptor closed', () => {
  const END = 2n ** 64n;
  test.each([
    ['size 0', region(0, 0), 'REGION_INVALID', /size 0/],
    ['guest address wraps', region(0, PAGE, { guestPhysAddr: END - 1n }), 'REGION_INVALID', /wraps around/],
    [
      'user address wraps',
      region(0, PAGE, { userspaceAddr: END - 1n }),
      'REGION_INVALID',
      /user address .* wraps/,
    ],
    ['offset wraps', region(0, PAGE, { mmapOffset: END - 1n }), 'REGION_INVALID', /offset .* wraps around/],
    [
      'guest address from 2^53',
      region(0, PAGE, { guestPhysAddr: 2n ** 53n }),
      'REGION_INVALID',
      /below 2\^53/,
    ],
    ['offset misaligned', region(0, PAGE, { mmapOffset: 512n }), 'REGION_INVALID', /offset 0x200 misaligned/],
    ['offset beyond', region(0, PAGE, { mmapOffset: 65536n }), 'REGION_INVALID', /beyond the descriptor/],
    ['larger than the file', region(0, 4 * PAGE + 1), 'REGION_INVALID', /larger than the descriptor/],
    ['offset + size beyond', region(0, 4 * PAGE, { mmapOffset: 4096n }), 'REGION_INVALID', /larger than/],
    ['overlap: same', region(0x10_0000, PAGE), 'REGION_OVERLAP', /overlaps region 0x100000\+0x2000/],
    ['overlap: end', region(0x10_1000, 2 * PAGE), 'REGION_OVERLAP', /overlaps/],
    ['overlap: around', region(0xf_f000, 4 * PAGE), 'REGION_OVERLAP', /overlaps/],
  ] as const)('%s', (_name, refused, code, text) => {
    memory.addRegion(region(0x10_0000, 2 * PAGE), memfd(2 * PAGE));
    const { generation, regions } = memory;
    const before = openFdCount();
    const fd = memfd(4 * PAGE);
    expect(() => memory.addRegion(refused, fd)).toThrow(expect.objectContaining({ code }));
    expect(() => memory.addRegion(refused, memfd(4 * PAGE))).toThrow(text);
    expect(fd.isClosed).toBe(true);
    expect(openFdCount()).toBe(before);
    expect(memory.generation).toBe(generation);
    expect(memory.regions).toEqual(regions);
    expect(ownMappings()).toHaveLength(1);
  });

  test('one more than the slots: the limit is named', () => {
    for (let i = 0; i < 8; i++) memory.addRegion(region(i * PAGE, PAGE), memfd(PAGE));
    const refused = expect(() => memory.addRegion(region(8 * PAGE, PAGE), memfd(PAGE)));
    refused.toThrow(/memslot 9, allowed 8/);
    expect(memory.regions).toHaveLength(8);
    memory.removeRegion(region(3 * PAGE, PAGE));
    memory.addRegion(region(8 * PAGE, PAGE), memfd(PAGE));
  });

  test('what cannot be mapped: the kernel says so, and the arena is whole', () => {
    const kick = new OwnedFd(createEventfd());
    expect(() => memory.addRegion(region(0, PAGE), kick)).toThrow(
      expect.objectContaining({ code: 'SYSTEM' }),
    );
    const first = memory.generation;
    memory.addRegion(region(0, PAGE), memfd(PAGE));
    const view = octetsOf(memory.ringView(addressOf(memory, 0), PAGE));
    expect(view[0]).toBe(0);
    expect(memory.generation).toBe(first + 1);
  });

  test('sizes no process has room for', () => {
    const huge = 2 ** 50;
    expect(() => memory.addRegion(region(0, huge), memfd(huge))).toThrow(
      expect.objectContaining({ code: 'SYSTEM' }),
    );
  });
});

describe('removing a region', () => {
  test('needs guest address, size and user address to match', () => {
    memory.addRegion(region(0, PAGE), memfd(PAGE));
    const wrong = [region(PAGE, PAGE), region(0, 2 * PAGE), region(0, PAGE, { userspaceAddr: 1n })];
    for (const each of wrong)
      expect(() => memory.removeRegion(each)).toThrow(expect.objectContaining({ code: 'REGION_UNKNOWN' }));
    expect(memory.regions).toHaveLength(1);
    memory.removeRegion(region(0, PAGE, { mmapOffset: 99n }));
    expect(memory.regions).toEqual([]);
  });

  test('releases its memory at once: a stale view shows zeros, and writing it harms nobody', () => {
    const fd = memfd(MiB);
    const copy = readFileSync(`/proc/self/fd/${fd.fd}`);
    expect(copy.every((octet) => octet === 0)).toBe(true);
    memory.addRegion(region(0, MiB), fd);
    const address = addressOf(memory, 0);
    const stale = wordsOf(memory.ringView(address, MiB));
    stale.fill(0xffff_ffff);
    memory.removeRegion(region(0, MiB));
    expect(stale[0]).toBe(0);
    expect(stale.at(-1)).toBe(0);
    stale[0] = 5;
    memory.addRegion(region(0, MiB), memfd(MiB));
    expect(addressOf(memory, 0)).toBe(address);
    expect(stale[0]).toBe(0);
  });

  test('a view must be of the arena', () => {
    const elsewhere = NativeMemory.allocate(PAGE);
    expect(() => memory.ringView(elsewhere.address, PAGE)).toThrow(RangeError);
  });
});

describe('replacing the table', () => {
  test('takes all of the new and nothing of the old', () => {
    memory.addRegion(region(0, PAGE), memfd(PAGE));
    memory.replaceAll([region(0, 2 * PAGE), region(8 * PAGE, PAGE)], [memfd(2 * PAGE), memfd(PAGE)]);
    expect(memory.regions.map((each) => each.guestPhysAddr)).toEqual([0n, BigInt(8 * PAGE)]);
    expect(memory.translate(0, 9 * PAGE)).toBe(2 * PAGE);
    expect(ownMappings()).toHaveLength(2);
  });

  test.each([
    ['one of them invalid', [region(0, PAGE), region(PAGE, 0)], 2, 'REGION_INVALID'],
    ['two of them overlap', [region(0, PAGE), region(0, PAGE)], 2, 'REGION_OVERLAP'],
    ['a descriptor missing', [region(0, PAGE), region(PAGE, PAGE)], 1, 'BAD_FDS'],
    ['a descriptor too many', [region(0, PAGE)], 2, 'BAD_FDS'],
    ['too many', Array.from({ length: 9 }, (_, i) => region(i * PAGE, PAGE)), 9, 'SLOT_LIMIT'],
  ] as const)('%s: refused, the old table works on', (_name, regions, fdCount, code) => {
    memory.addRegion(region(0x5_0000, PAGE), memfd(PAGE));
    const before = openFdCount();
    const fds = Array.from({ length: fdCount }, () => memfd(PAGE));
    expect(() => memory.replaceAll(regions, fds)).toThrow(expect.objectContaining({ code }));
    expect(memory.regions).toEqual([region(0x5_0000, PAGE)]);
    expect(memory.translate(0x5_0000, PAGE)).toBe(PAGE);
    expect(ownMappings()).toHaveLength(1);
    expect(openFdCount()).toBe(before);
  });
});

describe('user addresses', () => {
  test('resolve to host and guest addresses within one region only', () => {
    memory.addRegion(region(0x4000, 2 * PAGE, { userspaceAddr: 2n ** 64n - 0x2000n }), memfd(2 * PAGE));
    const first = addressOf(memory, 0x4000);
    expect(memory.resolveUva(2n ** 64n - 0x1000n, 0x1000)).toBe(first + PAGE);
    expect(memory.gpaOfUva(2n ** 64n - 0x1000n, 0x1000)).toBe(0x5000);
    expect(memory.resolveUva(2n ** 64n - 0x1000n, 0x1001)).toBe(-1);
    expect(memory.resolveUva(2n ** 64n - 0x2001n, 1)).toBe(-1);
    expect(memory.gpaOfUva(0n, 1)).toBe(-1);
  });

  test('may overlap', () => {
    memory.addRegion(region(0, PAGE, { userspaceAddr: 0n }), memfd(PAGE));
    memory.addRegion(region(PAGE, 2 * PAGE, { userspaceAddr: 0n }), memfd(2 * PAGE));
    expect(memory.gpaOfUva(BigInt(PAGE), PAGE)).toBe(2 * PAGE);
  });
});

test('any sequence of changes answers as a plain list of regions would', () => {
  const pages = fc.nat({ max: 40 });
  const size = fc.nat({ max: 6 });
  const command = fc.oneof(
    fc.record({ kind: fc.constant('add'), at: pages, size }),
    fc.record({ kind: fc.constant('remove'), at: pages, size }),
    fc.record({ kind: fc.constant('removeNth'), at: pages, size }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      using tested = new GuestMemory({ maxSlots: 20 });
      let model: { at: number; size: number; tag: number }[] = [];
      commands.forEach((each, tag) => {
        if (each.kind === 'add') {
          const overlaps = model.some((m) => each.at < m.at + m.size && m.at < each.at + each.size);
          const isAllowed = each.size > 0 && !overlaps && model.length < 20;
          const fd = memfd(Math.max(1, each.size) * PAGE);
          const add = (): void => tested.addRegion(region(each.at * PAGE, each.size * PAGE), fd);
          if (!isAllowed) expect(add).toThrow(expect.objectContaining({ name: 'ProtocolError' }));
          else {
            add();
            model.push({ at: each.at, size: each.size, tag });
            for (let page = 0; page < each.size; page++) {
              const address = addressOf(tested, (each.at + page) * PAGE);
              wordsOf(tested.ringView(address, 4))[0] = tag * 100 + page;
            }
          }
        } else {
          const victim = each.kind === 'remove' ? each : (model[each.at % Math.max(1, model.length)] ?? each);
          const held = model.find((m) => m.at === victim.at && m.size === victim.size);
          const remove = (): void => tested.removeRegion(region(victim.at * PAGE, victim.size * PAGE));
          if (held === undefined) expect(remove).toThrow(expect.objectContaining({ code: 'REGION_UNKNOWN' }));
          else remove();
          model = model.filter((m) => m !== held);
        }
      });
      for (let page = 0; page < 48; page++) {
        const held = model.find((m) => page >= m.at && page < m.at + m.size);
        const expected = held === undefined ? 0 : Math.min((held.at + held.size - page) * PAGE, 3 * PAGE);
        expect(tested.translate(page * PAGE, 3 * PAGE)).toBe(expected);
        if (held !== undefined)
          expect(wordsOf(tested.ringView(tested.lastAddress, 4))[0]).toBe(held.tag * 100 + page - held.at);
      }
      expect(tested.regions).toHaveLength(model.length);
    }),
    { numRuns: 60 },
  );
});

test('20,000 slots added and removed, with views and copies in between, leave no mapping, descriptor or memory', () => {
  using many = new GuestMemory({ maxSlots: 64 });
  using copy = NativeMemory.allocate(PAGE);
  const sizes = [PAGE, 3 * PAGE, 2 * MiB, 4 * MiB];
  const cycle = (i: number): void => {
    const slot = (i * 7) % 64;
    const size = sizes[slot % sizes.length]!;
    const described = region(slot * 16 * MiB, size);
    many.addRegion(described, memfd(4 * MiB));
    copyMemory(copy.address, addressOf(many, slot * 16 * MiB), PAGE);
    if (i >= 32) {
      const old = ((i - 32) * 7) % 64;
      many.removeRegion(region(old * 16 * MiB, sizes[old % sizes.length]!));
    }
  };
  for (let i = 0; i < 1000; i++) cycle(i);
  const own = ownMappings().length;
  const pieces = arenaMappings().length;
  const fds = openFdCount();
  for (let i = 1000; i < 21_000; i++) cycle(i);
  expect(ownMappings().length).toBe(own);
  expect(openFdCount()).toBe(fds);
  expect(arenaMappings().length).toBeLessThan(pieces + 4);
  many.clear();
  expect(ownMappings()).toEqual([]);
  // Reserved memory that touches merges again.
  expect(arena.freeRangeCount).toBeLessThan(4);
  expect(arenaMappings().length).toBeLessThan(8);
});
