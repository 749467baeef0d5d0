import { describe, expect, test } from 'vitest';
import { HvBalloon } from '../../src/memory-devices/hv-balloon.ts';
import { GiB, MiB } from '../../src/units.ts';
import { backend, codeOf, pc, recordSections } from './rig.ts';

describe('a balloon', () => {
  test('without memory is plugged even where there is no room, and takes nothing', () => {
    const machine = pc(0);
    const balloon = new HvBalloon({ id: 'hvb' });
    machine.devices.add(balloon);
    expect(machine.devices.describe()).toEqual([{ type: 'hv-balloon', id: 'hvb', maxSize: 0n }]);
    expect(machine.budget.required).toBe(0);
    expect(codeOf(() => balloon.hotAdd(MiB))).toBe('NOT_PLUGGED');
    machine.devices.unplug(balloon);
    expect(machine.devices.devices).toEqual([]);
  });

  test('is aligned to 32 GiB and decides for memslots of multiples of 128 MiB', () => {
    const machine = pc(100 * GiB);
    machine.connect('fs', 509);
    const balloon = new HvBalloon({ backend: backend(machine, 8 * GiB) });
    machine.devices.add(balloon);
    expect(Number(balloon.address)).toBe(32 * GiB);
    // 256 · 8 / 100 = 20 at most: 8 GiB / 20, rounded up to 128 MiB, is 512 MiB
    expect(balloon.dynamicMemslots!.layout).toEqual({ size: 8 * GiB, memslots: 16, memslotSize: 512 * MiB });
    expect(machine.budget).toMatchObject({ required: 16, mapped: 0, isDecisionActive: true });
  });

  test('maps memslots as memory is added, and none after a reset', () => {
    const machine = pc(100 * GiB);
    const balloon = new HvBalloon({ backend: backend(machine, 8 * GiB) });
    machine.devices.add(balloon);
    const heard = recordSections(machine);
    balloon.hotAdd(256 * MiB);
    balloon.hotAdd(256 * MiB);
    balloon.hotAdd(4096);
    expect(heard).toEqual(['add 0x800000000+0x20000000', 'add 0x820000000+0x20000000']);
    expect(codeOf(() => machine.devices.unplug(balloon))).toBe('STILL_IN_USE');
    balloon.systemReset();
    expect([balloon.addedSize, balloon.dynamicMemslots!.mapped]).toEqual([0, 0]);
    machine.devices.unplug(balloon);
  });

  test('does not add more than it has, nor parts of pages', () => {
    const machine = pc(100 * GiB);
    const balloon = new HvBalloon({ backend: backend(machine, GiB) });
    machine.devices.add(balloon);
    expect([GiB + 4096, 100, 0].map((size) => codeOf(() => balloon.hotAdd(size)))).toEqual([
      'SIZE',
      'SIZE',
      'SIZE',
    ]);
  });
});
