/**
 * Each change of memory is heard as itself: no message names a memslot that did not come or go.
 *
 * MEMORY_OPERATIONS in the environment sets how many changes; the default takes a second.
 */
import { expect, test } from 'vitest';
import { GiB } from '../../src/units.ts';
import { MachineRig, RIG_MEMORY } from './rig.ts';

const OPERATIONS = Number(process.env['MEMORY_OPERATIONS'] ?? 4000);
const SLOTS = 64;
const GROWTHS = 24;

/** Numbers below `n`, the same ones each time. */
function randomFrom(seed: number): (n: number) => number {
  let state = seed;
  return (n) => (state = (state * 48271) % 0x7fff_ffff) % n;
}

test(`${OPERATIONS} changes: messages name what changed and nothing else`, () => {
  using rig = new MachineRig(RIG_MEMORY);
  const { machine } = rig;
  const fs = rig.addDevice();
  const heard: string[] = [];
  const { memory } = fs.backend;
  const addRegion = memory.addRegion.bind(memory);
  const removeRegion = memory.removeRegion.bind(memory);
  memory.addRegion = (region, fd) => {
    heard.push(`+${region.guestPhysAddr.toString(16)}`);
    addRegion(region, fd);
  };
  memory.removeRegion = (region) => {
    heard.push(`-${region.guestPhysAddr.toString(16)}`);
    removeRegion(region);
  };

  const slots = machine.addMemslots({ id: 'slots', count: SLOTS, slotSize: 4096 });
  const vm = machine.plug({
    type: 'virtio-mem',
    id: 'vm0',
    size: GROWTHS * GiB,
    dynamicMemslots: true,
    memoryBlockSize: GiB,
  });
  const dimms = new Map<string, number>();
  const random = randomFrom(20);
  const sign = (isGone: boolean, gpa: number): string => `${isGone ? '-' : '+'}${gpa.toString(16)}`;

  const changes: readonly (() => readonly string[])[] = [
    () => {
      const slot = random(SLOTS);
      const wasMapped = slots.isMapped(slot);
      if (wasMapped) slots.unmap(slot);
      else slots.map(slot);
      return [sign(wasMapped, slots.gpaOf(slot))];
    },
    () => {
      const first = random(SLOTS - 8);
      const range = Array.from({ length: 8 }, (_, i) => first + i);
      const missing = range.filter((slot) => !slots.isMapped(slot));
      slots.map(first, 8);
      return missing.map((slot) => sign(false, slots.gpaOf(slot)));
    },
    () => {
      const before = vm.size / GiB;
      const after = Math.max(0, Math.min(GROWTHS, before + random(7) - 3));
      vm.resize(after * GiB);
      const [low, high] = [Math.min(before, after), Math.max(before, after)];
      const changed = Array.from({ length: high - low }, (_, i) => low + i);
      return changed.map((slot) => sign(after < before, vm.address + slot * GiB));
    },
    () => {
      const id = `dimm${random(4)}`;
      const plugged = dimms.get(id);
      if (plugged === undefined) {
        const { address } = machine.plug({ type: 'dimm', id, size: GiB });
        dimms.set(id, address);
        return [sign(false, address)];
      }
      machine.unplug(id);
      dimms.delete(id);
      return [sign(true, plugged)];
    },
  ];
  for (let i = 0; i < OPERATIONS; i += 1) {
    const expected = changes[random(changes.length)]!();
    if (heard.toSorted().join() !== expected.toSorted().join())
      expect(heard, `change ${i}`).toEqual(expected);
    heard.length = 0;
  }
  rig.expectTruth(fs);
});
