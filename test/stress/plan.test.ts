/** The plan and its model, against a naive account of the same operations. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { DEFAULT_SHAPE } from '../../src/stress/campaign-options.ts';
import { type StressFacts, StressModel } from '../../src/stress/model.ts';
import type { Operation, Place } from '../../src/stress/operation.ts';
import { Plan } from '../../src/stress/plan.ts';
import { Random } from '../../src/stress/random.ts';
import { GiB } from '../../src/units.ts';

interface Setup {
  readonly limit: number;
  readonly baseRegions: number;
  readonly vmemSlotSizes: readonly number[];
}
const setups = fc.record({
  limit: fc.integer({ min: 2, max: 40 }),
  baseRegions: fc.integer({ min: 1, max: 2 }),
  vmemSlotSizes: fc.array(fc.constantFrom(GiB, 4 * GiB), { maxLength: 2 }),
});

function modelOf({ limit, baseRegions, vmemSlotSizes }: Setup): StressModel {
  const facts: StressFacts = {
    limit,
    baseRegions,
    vmemSlotSizes,
    isAdvertised: true,
    hasDimms: true,
    canRestart: true,
    hasStore: true,
    crossesSlots: true,
  };
  return new StressModel({ ...DEFAULT_SHAPE, slots: limit }, facts);
}

/** The operations of a plan that can be done, each done before the next is asked for. */
function follow(model: StressModel, operations: Iterable<Operation>, count: number): Operation[] {
  const done: Operation[] = [];
  for (const operation of operations) {
    if (done.length >= count) break;
    if (!model.applies(operation)) continue;
    model.done(operation);
    done.push(operation);
  }
  return done;
}

/** Regions there are, counted anew. */
function countRegions(model: StressModel): number {
  const { shape, facts } = model;
  let regions = facts.baseRegions;
  for (let slot = 0; slot < shape.slots; slot += 1) if (model.isMapped(slot)) regions += 1;
  for (let dimm = 0; dimm < shape.dimms; dimm += 1) if (model.isPlugged(dimm)) regions += 1;
  for (const [vmem, slotSize] of facts.vmemSlotSizes.entries())
    regions += Math.ceil((model.unitsOf(vmem) * shape.vmemUnit) / slotSize);
  return regions;
}

test('a storm never takes more regions than there are, and counts them right', () => {
  fc.assert(
    fc.property(setups, fc.nat(), (setup, seed) => {
      const model = modelOf(setup);
      const plan = new Plan(model, new Random(seed));
      for (const operation of plan.storm()) {
        if (model.applies(operation)) model.done(operation);
        expect(model.used).toBe(countRegions(model));
        expect(model.used).toBeLessThanOrEqual(setup.limit);
        if (operation.op === 'write' && operation.version >= 300) break;
      }
    }),
    { numRuns: 30 },
  );
});

test('a seed repeats its operations', () => {
  const run = (seed: number): Operation[] => {
    const model = modelOf({ limit: 20, baseRegions: 1, vmemSlotSizes: [GiB] });
    return follow(model, new Plan(model, new Random(seed)).storm(), 500);
  };
  expect(run(7)).toEqual(run(7));
  expect(run(7)).not.toEqual(run(8));
});

test('a storm meets the limit, empties memory, and uses every kind of it', () => {
  const model = modelOf({ limit: 64, baseRegions: 1, vmemSlotSizes: [GiB, GiB] });
  const plan = new Plan(model, new Random(1));
  let most = 0;
  const kinds = new Set<string>();
  const places = new Set<Place['in']>();
  let count = 0;
  for (const operation of plan.storm()) {
    if ((count += 1) > 30_000) break;
    if (!model.applies(operation)) continue;
    model.done(operation);
    most = Math.max(most, model.used);
    kinds.add(operation.op);
    if (operation.op === 'read' || operation.op === 'write') places.add(operation.place.in);
  }
  expect(most).toBe(64);
  expect([...kinds].sort()).toEqual(
    ['map', 'pause', 'plug', 'read', 'reboot', 'resize', 'unmap', 'unplug', 'write'].sort(),
  );
  expect([...places].sort()).toEqual(['dimm', 'ram', 'slot', 'vmem']);
});

test('most of a storm can be done', () => {
  const model = modelOf({ limit: 509, baseRegions: 1, vmemSlotSizes: [GiB, GiB] });
  let offered = 0;
  let done = 0;
  for (const operation of new Plan(model, new Random(3)).storm()) {
    if ((offered += 1) > 20_000) break;
    if (!model.applies(operation)) continue;
    model.done(operation);
    done += 1;
  }
  expect(done / offered).toBeGreaterThan(0.9);
});

test('the limit is filled, asked for one more while full, and emptied', () => {
  const model = modelOf({ limit: 12, baseRegions: 1, vmemSlotSizes: [] });
  const done = follow(model, new Plan(model, new Random(1)).limit(), Infinity);
  const at = done.findIndex(({ op }) => op === 'beyond');
  expect(done[0]).toEqual({ op: 'fill' });
  expect(done.slice(1, at)).toHaveLength(22);
  expect(done.filter(({ op }) => op === 'beyond')).toHaveLength(1);
  expect(model.mapped).toBe(0);
});

test('reads during a change are of memory that stays, each in its own place', () => {
  const during = (place: Place) => ({ place, chunk: 0 });
  const model = modelOf({ limit: 12, baseRegions: 1, vmemSlotSizes: [GiB] });
  for (const slot of [0, 1]) model.done({ op: 'map', slot });
  model.done({ op: 'resize', vmem: 0, units: 2 });
  const staying: Place = { in: 'slot', index: 1, at: 0 };
  const overlapping: Place = { in: 'slot', index: 1, at: 1000 };
  const going: Place = { in: 'slot', index: 0, at: 0 };
  const absent: Place = { in: 'slot', index: 2, at: 0 };
  const reads = [staying, overlapping, going, absent].map(during);
  expect(model.readsDuring({ op: 'unmap', slot: 0, during: reads })).toEqual([during(staying)]);
  const { vmemUnit, chunkSize, slotSize } = DEFAULT_SHAPE;
  // from slot 0 into slot 1: there as long as both are
  const across: Place = { in: 'slot', index: 0, at: slotSize - 1000 };
  expect(model.isThere(across)).toBe(true);
  expect(model.isThere({ ...across, index: 1 })).toBe(false);
  expect(model.readsDuring({ op: 'unmap', slot: 1, during: [during(across)] })).toEqual([]);
  expect(model.readsDuring({ op: 'map', slot: 2, during: [across, staying].map(during) })).toEqual([
    during(across),
  ]);
  const kept: Place = { in: 'vmem', index: 0, at: vmemUnit - chunkSize };
  const shrunk: Place = { in: 'vmem', index: 0, at: vmemUnit - 1 };
  expect(model.readsDuring({ op: 'resize', vmem: 0, units: 1, during: [kept, shrunk].map(during) })).toEqual([
    during(kept),
  ]);
});

test('a list of operations of another machine does no harm: what cannot be done does not apply', () => {
  const model = modelOf({ limit: 2, baseRegions: 1, vmemSlotSizes: [] });
  const foreign: Operation[] = [
    { op: 'map', slot: 99 },
    { op: 'unmap', slot: 0 },
    { op: 'plug', dimm: 99 },
    { op: 'resize', vmem: 0, units: 1 },
    { op: 'beyond' },
    { op: 'read', place: { in: 'slot', index: 0, at: 0 }, chunk: 0 },
    { op: 'read', place: { in: 'ram', index: 0, at: 0 }, chunk: 99_999 },
    { op: 'read', place: { in: 'ram', index: 0, at: 2 ** 40 }, chunk: 0 },
  ];
  expect(foreign.filter((operation) => model.applies(operation))).toEqual([]);
});
