/** Random region trees and random edits of them, for the property tests of this folder. */
import fc from 'fast-check';
import { MemoryError } from '../../src/errors.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import type { RegionDescription } from '../../src/memory/region-description.ts';
import type { MemoryTopology } from '../../src/memory/topology.ts';

/** Where everything ends, wherever random edits move it: few enough bytes that a naive model can look at each. */
export const SPACE_BYTES = 128;
const ROOT_BYTES = 48n;

const KINDS = [
  'container',
  'io',
  'ram',
  'rom',
  'rom-device',
  'ram-device',
  'alias',
  'alias',
  'container',
] as const;

export interface RegionPlan {
  readonly kind: (typeof KINDS)[number];
  readonly size: number;
  readonly target: number;
  readonly offset: number;
}

/** An edit: which operation, on which region, with which numbers. */
export interface EditPlan {
  readonly operation: number;
  readonly region: number;
  readonly other: number;
  readonly address: number;
  readonly priority: number;
  readonly flag: boolean;
}

export const regionPlans = fc.array(
  fc.record({
    kind: fc.constantFrom(...KINDS),
    size: fc.integer({ min: 0, max: 32 }),
    target: fc.nat(30),
    offset: fc.integer({ min: 0, max: 12 }),
  }),
  { minLength: 3, maxLength: 14 },
);

export const editPlans = (maxLength: number): fc.Arbitrary<readonly EditPlan[]> =>
  fc.array(
    fc.record({
      operation: fc.nat(1000),
      region: fc.nat(100),
      other: fc.nat(100),
      address: fc.integer({ min: 0, max: 40 }),
      priority: fc.integer({ min: -2, max: 2 }),
      flag: fc.boolean(),
    }),
    { minLength: 1, maxLength },
  );

/** The root, a container of the whole space, and the planned regions; nothing is mapped yet. */
export function createRegions(topology: MemoryTopology, plans: readonly RegionPlan[]): MemoryRegion[] {
  const regions = [topology.createRegion({ kind: 'container', name: 'root', size: ROOT_BYTES })];
  for (const plan of plans) regions.push(topology.createRegion(describe(plan, regions)));
  return regions;
}

function describe(plan: RegionPlan, regions: readonly MemoryRegion[]): RegionDescription {
  const common = { name: `r${regions.length}`, size: BigInt(plan.size) };
  const block = { id: common.name, size: 1n << 64n, pageSize: 4096, isMigratable: plan.offset % 2 === 0 };
  switch (plan.kind) {
    case 'alias':
      return {
        ...common,
        kind: 'alias',
        target: regions[plan.target % regions.length]!,
        offset: BigInt(plan.offset),
      };
    case 'container':
    case 'io':
      return { ...common, kind: plan.kind };
    default:
      return { ...common, kind: plan.kind, block };
  }
}

/** Makes an edit. What the topology refuses (mapped already, an endless alias) is no edit. */
export function applyEdit(topology: MemoryTopology, regions: readonly MemoryRegion[], plan: EditPlan): void {
  const region = regions[plan.region % regions.length]!;
  const operation = OPERATIONS[plan.operation % OPERATIONS.length]!;
  try {
    operation(region, regions[plan.other % regions.length]!, plan, topology);
  } catch (error) {
    if (!(error instanceof MemoryError)) throw error;
  }
}

type Operation = (
  region: MemoryRegion,
  other: MemoryRegion,
  plan: EditPlan,
  topology: MemoryTopology,
) => void;

const map: Operation = (region, other, { address, priority }) => {
  region.addSubregion(BigInt(address), other, priority);
};

const OPERATIONS: readonly Operation[] = [
  map,
  map,
  map,
  map,
  (region) => {
    region.container?.removeSubregion(region);
  },
  (region, _, { address }) => {
    region.setAddress(BigInt(address));
  },
  (region, _, { address }) => {
    region.setSize(BigInt(address));
  },
  (region, _, { address }) => {
    region.setAliasOffset(BigInt(address % 16));
  },
  (region, _, { flag }) => {
    region.setEnabled(flag);
  },
  (region, _, { flag }) => {
    region.setReadonly(flag);
  },
  (region, _, { flag }) => {
    region.setNonvolatile(flag);
  },
  (region, _, { flag }) => {
    region.setUnmergeable(flag);
  },
  (region, _, { flag }) => {
    region.setRomdMode(flag);
  },
  (region, _, { flag }) => {
    region.setVgaLogging(flag);
  },
  (_region, _other, { flag }, topology) => {
    if (flag) topology.tracking.start(1);
    else topology.tracking.stop(1);
  },
  (_region, _other, _plan, topology) => {
    topology.begin();
  },
  (_region, _other, _plan, topology) => {
    topology.commit();
  },
];

/** Closes what random edits left open. */
export function closeTransactions(topology: MemoryTopology): void {
  while (topology.isInTransaction) topology.commit();
}
