/**
 * `npm run bench:memory`: what a change of memory costs the model, and a lookup.
 *
 * The fastest of many short batches is what counts: on a machine with other work the rest measures that work. Exit status 1: a bar
 * of the project was missed.
 */
import { findSection } from '../../src/memory/find.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';

const SLOT = 0x20_0000n;
const BASE = 0x1_0000_0000n;
const BATCH = 2_000;
const BATCHES = 150;

const BARS = { ratio: 2, mapsPerSecond: 200_000, findNs: 200 } as const;

class Machine {
  readonly slots: readonly MemoryRegion[];
  readonly #system: MemoryRegion;
  readonly #container: MemoryRegion;
  #next = 0;
  /** What the listener was told: the work cannot be left out. */
  told = 0;

  /** `count` unmergeable aliases side by side in one container, all mapped, and one listener. */
  constructor(count: number) {
    const topology = new MemoryTopology();
    const size = SLOT * BigInt(count);
    this.#system = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 64n });
    this.#container = topology.createRegion({ kind: 'container', name: 'device-memory', size });
    const block = { id: 'mem0', size, pageSize: 4096 };
    const target = topology.createRegion({ kind: 'ram', name: 'mem0', size, block });
    this.#system.addSubregion(BASE, this.#container);
    topology.createAddressSpace('memory', this.#system).addListener({
      regionAdd: () => {
        this.told += 1;
      },
      regionDel: () => {
        this.told += 1;
      },
    });
    this.slots = Array.from({ length: count }, (_, index) => {
      const offset = SLOT * BigInt(index);
      const slot = topology.createRegion({
        kind: 'alias',
        name: `memslot-${index}`,
        size: SLOT,
        target,
        offset,
      });
      slot.setUnmergeable(true);
      return slot;
    });
    topology.transaction(() => {
      for (const slot of this.slots) this.#container.addSubregion(slot.aliasOffset, slot);
    });
  }

  /** Unmaps and maps slots, each its own transaction. @returns nanoseconds for one */
  changeBatch(): number {
    const began = process.hrtime.bigint();
    for (let index = 0; index < BATCH; index += 2) {
      const slot = this.slots[this.#next]!;
      this.#next = (this.#next + 1) % this.slots.length;
      this.#container.removeSubregion(slot);
      this.#container.addSubregion(slot.aliasOffset, slot);
    }
    return Number(process.hrtime.bigint() - began) / BATCH;
  }

  /** Looks up one address in each of many slots. @returns nanoseconds for one */
  findBatch(): number {
    const addresses = Array.from(
      { length: BATCH },
      (_, index) => BASE + SLOT * BigInt((index * 7919) % this.slots.length) + 8n,
    );
    const began = process.hrtime.bigint();
    for (const address of addresses) if (findSection(this.#system, address, 4n) !== undefined) this.told += 1;
    return Number(process.hrtime.bigint() - began) / BATCH;
  }
}

const fastest = (measure: () => number): number => Math.min(...Array.from({ length: BATCHES }, measure));

const [small, large] = [new Machine(10), new Machine(10_000)];
for (const machine of [small, large]) for (let round = 0; round < 20; round += 1) machine.changeBatch();
const [smallNs, largeNs] = [fastest(() => small.changeBatch()), fastest(() => large.changeBatch())];
const findNs = fastest(() => large.findBatch());
const ratio = largeNs / smallNs;

console.log(`map or unmap one of 10      ${smallNs.toFixed(0)} ns`);
console.log(
  `map or unmap one of 10,000  ${largeNs.toFixed(0)} ns, ${ratio.toFixed(2)} times that (bar ${BARS.ratio})`,
);
console.log(`  a second                  ${(1e9 / largeNs).toFixed(0)} (bar ${BARS.mapsPerSecond})`);
console.log(`find in 10,000 ranges       ${findNs.toFixed(0)} ns (bar ${BARS.findNs})`);
const isMissed = ratio > BARS.ratio || 1e9 / largeNs < BARS.mapsPerSecond || findNs > BARS.findNs;
process.exitCode = isMissed ? 1 : 0;
