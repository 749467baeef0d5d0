/** Builds the region trees of a real machine, and compares the flat views they give and the texts of `info mtree`. */
import { clearCoalescing, addCoalescing } from '../../src/memory/coalesced.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import type { RegionDescription } from '../../src/memory/region-description.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { bigOf, expectSameRows, rangeRow, type Row } from './recorder.ts';
import { checkTexts, type Texts } from './texts.ts';

export interface MachineCase {
  readonly hmp: Texts;
  readonly truth: Truth;
}

interface Truth {
  readonly regions: readonly TrueRegion[];
  readonly address_spaces: readonly { readonly name: string; readonly root: number; readonly view: number }[];
  readonly views: readonly { readonly root: number | null; readonly ranges: readonly Row[] }[];
}

interface TrueRegion {
  readonly id: number;
  readonly name: string | null;
  readonly addr: string;
  readonly size: string;
  readonly prio: number;
  readonly enabled: number;
  readonly terminates: number;
  readonly romd: number;
  readonly alias?: number | null;
  readonly alias_offset?: string;
  readonly container: number | null;
  readonly subregions: readonly number[];
  readonly ram?: number;
  readonly rom_device?: number;
  readonly readonly?: number;
  readonly nonvolatile?: number;
  readonly unmergeable?: number;
  readonly ram_device?: number;
  readonly iommu?: number;
  readonly dirty_log_mask?: number;
  readonly coalesced?: readonly (readonly [string, string])[];
}

export function checkMachine({ hmp, truth }: MachineCase): void {
  const topology = new MemoryTopology({ logsCode: true });
  const regions = buildRegions(topology, truth.regions);
  const ids = new Map([...regions].map(([id, region]) => [region, id]));
  const idOf = (region: MemoryRegion): number => ids.get(region) ?? -1;
  const spaces = truth.address_spaces.map(({ name, root, view }) => ({
    space: topology.createAddressSpace(name, regions.get(root)!),
    view,
  }));
  for (const { space, view } of spaces) {
    const { root, ranges } = truth.views[view]!;
    const ours = space.view.root === undefined ? null : idOf(space.view.root);
    if (ours !== root) throw new Error(`view of ${space.name} is rendered from ${ours}, QEMU's from ${root}`);
    const rows = space.view.ranges.map((range) => rangeRow(range, idOf));
    expectSameRows(`view of ${space.name}`, rows, ranges);
    for (const other of spaces) {
      const isShared = other.space.view === space.view;
      if (isShared !== (other.view === view)) {
        throw new Error(`${space.name} and ${other.space.name}: one view ${isShared}, in QEMU ${!isShared}`);
      }
    }
  }
  checkTexts(topology, hmp);
}

function buildRegions(topology: MemoryTopology, truth: readonly TrueRegion[]): Map<number, MemoryRegion> {
  const byId = new Map(truth.map((region) => [region.id, region]));
  const regions = new Map<number, MemoryRegion>();
  const create = (id: number): MemoryRegion => {
    const known = regions.get(id);
    if (known !== undefined) return known;
    const recorded = byId.get(id)!;
    const target =
      recorded.alias === undefined || recorded.alias === null ? undefined : create(recorded.alias);
    const region = topology.createRegion(describe(recorded, target));
    regions.set(id, region);
    return region;
  };
  topology.begin();
  for (const recorded of truth) setAttributes(create(recorded.id), recorded);
  for (const { id, subregions } of truth) {
    // the last added lies on top
    for (const child of subregions.toReversed()) {
      const { addr, prio } = byId.get(child)!;
      create(id).addSubregion(bigOf(addr), create(child), prio);
    }
  }
  topology.commit();
  return regions;
}

function setAttributes(region: MemoryRegion, recorded: TrueRegion): void {
  region.setEnabled(recorded.enabled === 1);
  region.setReadonly(recorded.readonly === 1);
  region.setNonvolatile(recorded.nonvolatile === 1);
  region.setUnmergeable(recorded.unmergeable === 1);
  region.setRomdMode(recorded.romd === 1);
  region.setAddress(bigOf(recorded.addr));
  if (((recorded.dirty_log_mask ?? 0) & 1) !== 0) region.setVgaLogging(true);
  clearCoalescing(region);
  for (const [address, size] of recorded.coalesced ?? []) addCoalescing(region, bigOf(address), bigOf(size));
}

function describe(recorded: TrueRegion, target: MemoryRegion | undefined): RegionDescription {
  const name = recorded.name ?? '(null)';
  const common = { name, size: bigOf(recorded.size) };
  const block = { id: name, size: 1n << 64n, pageSize: 4096 };
  if (target !== undefined)
    return { ...common, kind: 'alias', target, offset: bigOf(recorded.alias_offset ?? '0') };
  if (recorded.iommu === 1) return { ...common, kind: 'iommu' };
  if (recorded.ram_device === 1) return { ...common, kind: 'ram-device', block };
  if (recorded.rom_device === 1) return { ...common, kind: 'rom-device', block };
  if (recorded.ram === 1) return { ...common, kind: recorded.readonly === 1 ? 'rom' : 'ram', block };
  return { ...common, kind: recorded.terminates === 1 ? 'io' : 'container' };
}
