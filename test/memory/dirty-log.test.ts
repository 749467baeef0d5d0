import { expect, test } from 'vitest';
import { writeMemory } from '../../src/memory/access.ts';
import { isDirty, resetDirty, snapshotAndClearDirty, syncDirtyLog } from '../../src/memory/dirty-log.ts';
import { TrackingReason } from '../../src/memory/dirty-tracking.ts';
import { DirtyClient } from '../../src/memory/region-description.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { byteBlock } from './byte-block.ts';

const PAGE = 0x1000n;

function machine() {
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'root', size: 0x100000n });
  const block = byteBlock('ram', 0x8000);
  const ram = topology.createRegion({ kind: 'ram', name: 'ram', size: 0x8000n, block });
  root.addSubregion(0x10000n, ram);
  return { topology, root, ram, space: topology.createAddressSpace('memory', root) };
}

test('writes mark their pages for the clients that log, and for no others', () => {
  const { ram, space } = machine();
  writeMemory(space, 0x10000n, Uint8Array.of(1));
  expect(isDirty(ram, 0n, 0x8000n, DirtyClient.VGA)).toBe(false);
  ram.setVgaLogging(true);
  writeMemory(space, 0x11fffn, Uint8Array.of(1, 2));
  const dirty = [0n, 1n, 2n, 3n].map((page) => isDirty(ram, page * PAGE, PAGE, DirtyClient.VGA));
  expect(dirty).toEqual([false, true, true, false]);
  expect(isDirty(ram, 0n, 0x8000n, DirtyClient.MIGRATION)).toBe(false);
});

test('a snapshot has what was written before it, the log what is written after', () => {
  const { ram, space } = machine();
  ram.setVgaLogging(true);
  writeMemory(space, 0x10000n, Uint8Array.of(1));
  const snapshot = snapshotAndClearDirty(ram, 0n, 0x8000n, DirtyClient.VGA);
  writeMemory(space, 0x13000n, Uint8Array.of(1));
  expect([snapshot.isDirty(0n, PAGE), snapshot.isDirty(0x3000n, PAGE)]).toEqual([true, false]);
  const now = [0n, 3n].map((page) => isDirty(ram, page * PAGE, PAGE, DirtyClient.VGA));
  expect(now).toEqual([false, true]);
});

test('listeners with a log of their own are asked for it, and told when it starts afresh', () => {
  const { topology, ram, space } = machine();
  const heard: string[] = [];
  space.addListener({
    logSync: ({ offsetWithinAddressSpace, size }) => heard.push(`sync ${offsetWithinAddressSpace} ${size}`),
    logClear: ({ offsetWithinAddressSpace, size }) => heard.push(`clear ${offsetWithinAddressSpace} ${size}`),
  });
  space.addListener({ logSyncGlobal: (isLastStage) => heard.push(`sync all, last ${isLastStage}`) });
  syncDirtyLog(topology);
  expect(heard).toEqual(['sync all, last false']);
  ram.setVgaLogging(true);
  heard.length = 0;
  syncDirtyLog(topology, { isLastStage: true });
  resetDirty(ram, PAGE, PAGE, DirtyClient.VGA);
  expect(heard).toEqual(['sync 65536 32768', 'sync all, last true', 'clear 69632 4096']);
});

test('tracking that ends while the machine is stopped ends when it runs', () => {
  const { topology, space } = machine();
  const heard: string[] = [];
  space.addListener({
    logGlobalStart: () => void heard.push('start'),
    logGlobalStop: () => void heard.push('stop'),
  });
  topology.tracking.start(TrackingReason.MIGRATION);
  topology.tracking.setRunning(false);
  topology.tracking.stop(TrackingReason.MIGRATION);
  expect([heard, topology.tracking.reasons]).toEqual([['start'], 1]);
  topology.tracking.setRunning(true);
  expect([heard, topology.tracking.reasons]).toEqual([['start', 'stop'], 0]);
});

test('a listener that cannot track stops those before it, and nothing is tracked', () => {
  const { topology, space } = machine();
  const heard: string[] = [];
  space.addListener({
    logGlobalStart: () => void heard.push('start'),
    logGlobalStop: () => void heard.push('stop'),
  });
  space.addListener({ priority: 1, logGlobalStart: () => 'no dirty log' });
  expect(topology.tracking.start(TrackingReason.MIGRATION)).toBe('no dirty log');
  expect([heard, topology.tracking.reasons]).toEqual([['start', 'stop'], 0]);
});
