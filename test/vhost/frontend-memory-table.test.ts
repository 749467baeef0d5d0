/** What a back-end is told of memory that comes and goes, against lists compared as QEMU does. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { foldSections, isVhostSection } from '../../src/memory-devices/vhost-sections.ts';
import { sectionOf } from '../../src/memory/listener.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { FrontendRig, NO_SLOTS, SLOTS, type RigOptions } from './frontend-rig.ts';

const PIECE = 0x1000n;
const PIECES = 14;

interface Row {
  readonly gpa: bigint;
  readonly size: bigint;
  readonly uva: bigint;
}

const isSame = (a: Row, b: Row): boolean => a.gpa === b.gpa && a.size === b.size && a.uva === b.uva;
const show = ({ gpa, size }: Row): string => `0x${gpa.toString(16)}+0x${size.toString(16)}`;

/** All lists, all compared with all. */
class NaiveTable {
  shadow: Row[] = [];
  #wanted: Row[] = [];
  readonly #hasSlots: boolean;
  readonly #isRefused: () => boolean;

  constructor(hasSlots: boolean, isRefused: () => boolean) {
    this.#hasSlots = hasSlots;
    this.#isRefused = isRefused;
  }

  /** @returns whether anything is different now */
  want(rows: Row[]): boolean {
    const before = this.#wanted;
    this.#wanted = rows;
    return before.length !== rows.length || before.some((row, index) => !isSame(row, rows[index]!));
  }

  /** @returns messages, and whether all went well */
  round(): { readonly messages: string[]; readonly isDone: boolean } {
    return this.#hasSlots ? this.#difference() : this.#table();
  }

  #table(): { readonly messages: string[]; readonly isDone: boolean } {
    if (this.#wanted.length > 8) return { messages: [], isDone: false };
    return { messages: [`TABLE ${this.#wanted.map(show).join(' ')}`], isDone: !this.#isRefused() };
  }

  #difference(): { readonly messages: string[]; readonly isDone: boolean } {
    const messages: string[] = [];
    for (const row of this.shadow.toReversed()) {
      if (this.#wanted.some((wanted) => isSame(wanted, row))) continue;
      messages.push(`REM ${show(row)}`);
      if (this.#isRefused()) return { messages, isDone: false };
      this.shadow = this.shadow.filter((other) => other !== row);
    }
    for (const row of this.#wanted) {
      if (this.shadow.some((held) => isSame(held, row))) continue;
      messages.push(`ADD ${show(row)}`);
      if (this.#isRefused()) return { messages, isDone: false };
      this.shadow.push(row);
    }
    return { messages, isDone: true };
  }
}

/** Low memory that is always there, and pieces of two RAM blocks above it. */
function machine(options: RigOptions) {
  const rig = new FrontendRig(options);
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 48n });
  const space = topology.createAddressSpace('memory', root);
  const ram = (id: string, hostAddress: bigint, pageSize: number) => {
    const block = rig.block(id, { hostAddress, pageSize });
    return topology.createRegion({ kind: 'ram', name: id, size: block.size, block });
  };
  const low = ram('low', 1n << 44n, 0x1000);
  const lowAlias = topology.createRegion({ kind: 'alias', name: 'low', size: 0x10000n, target: low });
  root.addSubregion(0n, lowAlias);
  const pieces = [ram('a', 2n << 44n, 0x1000), ram('b', 3n << 44n, 0x4000)].flatMap((target, position) =>
    Array.from({ length: PIECES }, (_, index) => {
      const offset = PIECE * BigInt(index);
      const name = `${target.name}.${index}`;
      const alias = topology.createRegion({ kind: 'alias', name, size: PIECE, target, offset });
      return { alias, address: 0x10_0000n + BigInt(position) * 0x10_0000n + offset };
    }),
  );
  rig.device.connect();
  space.addListener(rig.device.listener);
  const toggle = (indices: readonly number[]): void =>
    topology.transaction(() => {
      for (const index of indices) {
        const { alias, address } = pieces[index]!;
        if (alias.container === undefined) root.addSubregion(address, alias);
        else root.removeSubregion(alias);
      }
    });
  const setUnmergeable = (index: number): void =>
    pieces[index]!.alias.setUnmergeable(!pieces[index]!.alias.unmergeable);
  const rows = (): Row[] =>
    foldSections(space.view.ranges.map((range) => sectionOf(range, space.view)).filter(isVhostSection)).map(
      ({ section, start, size, offset }) => ({
        gpa: start,
        size,
        uva: section.region.block!.hostAddress! + offset,
      }),
    );
  return { rig, toggle, setUnmergeable, rows };
}

const isMemory = (text: string): boolean => /^(ADD|REM|TABLE)/.test(text);
const piece = fc.nat({ max: 2 * PIECES - 1 });
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ toggle: fc.uniqueArray(piece, { minLength: 1, maxLength: 8 }) }) },
  { weight: 2, arbitrary: fc.record({ unmergeable: piece }) },
  { weight: 3, arbitrary: fc.constant({ run: true }) },
  { weight: 1, arbitrary: fc.constant({ run: false }) },
);

test.each([
  ['ADD and REM', SLOTS],
  ['whole tables', NO_SLOTS],
])('as QEMU, refusals included: %s', (_, protocolFeatures) => {
  fc.assert(
    fc.property(
      fc.array(operation, { minLength: 10, maxLength: 40 }),
      fc.uniqueArray(fc.integer({ min: 2, max: 60 }), { minLength: 3, maxLength: 15 }), // which memory messages are refused
      (operations, refusals) => {
        const { rig, toggle, setUnmergeable, rows } = machine({ mode: 'qemu', protocolFeatures });
        using _rig = rig;
        const roll = (): (() => boolean) => {
          let count = 0;
          return () => refusals.includes((count += 1));
        };
        const isRefused = roll();
        rig.judge = (text) => (isMemory(text) && isRefused() ? 'refuse' : 'accept');
        const naive = new NaiveTable(protocolFeatures === SLOTS, roll());
        let isStarted = false;
        for (const op of [{ run: true }, ...operations]) {
          let expected: string[] = [];
          if ('run' in op && op.run !== isStarted) {
            naive.want(rows());
            if (op.run) {
              const { messages, isDone } = naive.round();
              expected = messages;
              isStarted = isDone;
              if (isDone) rig.start();
              else expect(() => rig.start()).toThrow(expect.objectContaining({ name: 'ProtocolError' }));
            } else {
              rig.device.stop();
              isStarted = false;
            }
          } else {
            if ('toggle' in op) toggle(op.toggle);
            if ('unmergeable' in op) setUnmergeable(op.unmergeable);
            const { messages } = naive.want(rows()) && isStarted ? naive.round() : { messages: [] };
            expected = messages;
          }
          expect(rig.take().filter(isMemory)).toEqual(expected);
          expect(rig.device.table.held.map(({ guestPhysAddr }) => guestPhysAddr)).toEqual(
            protocolFeatures === SLOTS ? naive.shadow.map(({ gpa }) => gpa) : [...rig.table.keys()],
          );
        }
      },
    ),
    { numRuns: 25 },
  );
});

test('strict: an operation fails exactly if one of its own messages is refused, and undone it leaves nothing behind', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ toggle: fc.uniqueArray(piece, { minLength: 1, maxLength: 6 }), nth: fc.nat({ max: 8 }) }),
        {
          maxLength: 25,
        },
      ),
      (operations) => {
        const { rig, toggle, rows } = machine({ mode: 'strict' });
        using _rig = rig;
        rig.start();
        for (const { toggle: indices, nth } of operations) {
          let count = 0;
          let hasRefused = false;
          rig.judge = (text) => {
            if (!isMemory(text) || (count += 1) !== nth) return 'accept';
            hasRefused = true;
            return 'refuse';
          };
          let error: unknown;
          try {
            toggle(indices);
          } catch (caught) {
            error = caught;
          }
          expect(error !== undefined).toBe(hasRefused);
          rig.judge = () => 'accept';
          if (hasRefused) {
            expect(error).toMatchObject({ name: 'ProtocolError', code: 'REFUSED' });
            expect(rig.device.table.held.length).toBe(rig.table.size);
            toggle(indices);
          }
          expect(rig.device.table.held.toSorted(byAddress)).toEqual([...rig.table.values()].sort(byAddress));
          expect([...rig.table.values()].sort(byAddress).map(({ guestPhysAddr }) => guestPhysAddr)).toEqual(
            rows().map(({ gpa }) => gpa),
          );
        }
      },
    ),
    { numRuns: 25 },
  );
});

const byAddress = (a: { readonly guestPhysAddr: bigint }, b: { readonly guestPhysAddr: bigint }): number =>
  a.guestPhysAddr < b.guestPhysAddr ? -1 : 1;
