/** Guest memory that changes, above a device front-end whose back-end is in the hand of a test. */
import type { MemoryRegion } from '../../src/memory/region.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { FrontendRig, type RigOptions } from './frontend-rig.ts';

/** Two DIMMs' worth of regions can come and go above one that is always there. */
export function machine(options: RigOptions = {}) {
  const rig = new FrontendRig(options);
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 48n });
  const space = topology.createAddressSpace('memory', root);
  const ram = (name: string, size: bigint, hostAddress: bigint): MemoryRegion =>
    topology.createRegion({ kind: 'ram', name, size, block: rig.block(name, { size, hostAddress }) });
  root.addSubregion(0n, ram('low', 0x10000n, 1n << 44n));
  const dimms = [1, 2, 3].map((index) => ram(`dimm${index}`, 0x1000n, BigInt(index + 1) << 44n));
  const plug = (...indices: number[]): void =>
    topology.transaction(() => {
      for (const index of indices) root.addSubregion(BigInt(index) << 32n, dimms[index - 1]!);
    });
  const unplug = (...indices: number[]): void =>
    topology.transaction(() => {
      for (const index of indices) root.removeSubregion(dimms[index - 1]!);
    });
  rig.device.connect();
  space.addListener(rig.device.listener);
  return { rig, device: rig.device, plug, unplug, [Symbol.dispose]: () => rig[Symbol.dispose]() };
}
