import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  MemslotBudget,
  UNLIMITED_MEMSLOTS,
  vhostUserMemslotLimit,
} from '../../src/memory-devices/memslot-budget.ts';
import { PcDimm } from '../../src/memory-devices/pc-dimm.ts';
import type { PcMemory } from '../../src/memory-devices/pc-memory.ts';
import { VirtioMem } from '../../src/memory-devices/virtio-mem.ts';
import { GiB, MiB } from '../../src/units.ts';
import { backend, codeOf, pc } from './rig.ts';

const addDimm = (machine: PcMemory): void => {
  machine.devices.add(new PcDimm({ backend: backend(machine, 128 * MiB), slots: machine.dimmSlots }));
};
const addVirtioMem = (machine: PcMemory, size: number): VirtioMem => {
  const device = new VirtioMem({ backend: backend(machine, size), dynamicMemslots: true });
  machine.devices.add(device);
  return device;
};

describe('the limit of a vhost-user back-end', () => {
  test.each([
    [{ maxMemSlots: 509 }, 509],
    [{ maxMemSlots: 1000 }, 512],
    [{ maxMemSlots: 0x8000_0000_0000_0005n }, 512],
    [{ maxMemSlots: undefined }, 8],
    [{ maxMemSlots: 509, hasProtocolFeatures: false }, 0],
  ])('%o is %i', (says, limit) => {
    expect(vhostUserMemslotLimit(says)).toBe(limit);
  });
});

describe('the budget', () => {
  test('is without limit when nobody has a table', () => {
    const budget = new MemslotBudget();
    expect([budget.limit, budget.free]).toEqual([UNLIMITED_MEMSLOTS, UNLIMITED_MEMSLOTS]);
  });

  test('follows the back-end with the smallest table, whichever comes first', () => {
    for (const limits of [
      [509, 8],
      [8, 509],
    ]) {
      const machine = pc(16 * GiB);
      limits.forEach((limit, index) => machine.connect(`fs${index}`, limit));
      expect([machine.budget.limit, machine.budget.free]).toEqual([8, 7]);
      expect(addVirtioMem(machine, 16 * GiB).memslots()).toBe(1);
    }
  });

  test('counts the hypervisor in, and names it', () => {
    const machine = pc(16 * GiB, { dimmSlots: 16, hypervisorLimit: 3 });
    machine.connect('fs', 509);
    addDimm(machine);
    addDimm(machine);
    expect(codeOf(() => addDimm(machine))).toBe('HYPERVISOR_SLOTS');
  });

  test('keeps what virtio-mem was promised for it', () => {
    const machine = pc(80 * GiB, { dimmSlots: 100 });
    machine.connect('fs', 64);
    addVirtioMem(machine, 60 * GiB);
    let fit = 0;
    let code: string | undefined;
    while ((code = codeOf(() => addDimm(machine))) === undefined) fit += 1;
    expect(code).toBe('VHOST_SLOTS');
    expect(fit).toBe(62); // 64 − 1 for RAM − 1 reserved
  });

  test('BACKEND_RESTRICTS: a small back-end comes too late', () => {
    const machine = pc(4 * GiB);
    addVirtioMem(machine, 4 * GiB);
    expect(codeOf(() => machine.connect('fs', 508))).toBe('BACKEND_RESTRICTS');
    expect(machine.budget.consumers).toHaveLength(0);
    expect(codeOf(() => machine.connect('fs', 509))).toBeUndefined();
  });

  test('a device with one memslot has decided nothing, and does not block a small back-end', () => {
    const machine = pc(4 * GiB);
    addVirtioMem(machine, GiB);
    expect(codeOf(() => machine.connect('fs', 8))).toBeUndefined();
  });

  test('a device that is gone does not block either', () => {
    const machine = pc(4 * GiB);
    const device = addVirtioMem(machine, 4 * GiB);
    machine.devices.unplug(device);
    expect(machine.budget).toMatchObject({ required: 0, reserved: 0, isDecisionActive: false });
    expect(codeOf(() => machine.connect('fs', 8))).toBeUndefined();
  });

  test('BACKEND_LIMIT: fewer than are used and reserved', () => {
    const machine = pc(4 * GiB, { dimmSlots: 4 });
    addDimm(machine);
    addVirtioMem(machine, GiB);
    expect(codeOf(() => machine.connect('fs', 2))).toBe('BACKEND_LIMIT');
    expect(codeOf(() => machine.connect('fs', 3))).toBeUndefined();
  });

  test('LIMIT_SHRANK: a back-end comes back with less', () => {
    const machine = pc(GiB);
    const fs = machine.connect('fs', 64);
    expect(codeOf(() => machine.budget.assertLimitKept(fs, 63))).toBe('LIMIT_SHRANK');
    expect(codeOf(() => machine.budget.assertLimitKept(fs, 509))).toBeUndefined();
    machine.disconnect(fs);
    expect(codeOf(() => machine.budget.assertLimitKept(fs, 64))).toBe('NOT_PLUGGED');
    expect(codeOf(() => machine.disconnect(fs))).toBe('NOT_PLUGGED');
  });

  test('a decision always fits, and all decisions together stay within the soft limit but for single memslots', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 20, max: 600 }), (gibs, limit) => {
        const space = gibs.reduce((sum, gib) => sum + gib, 0) * GiB;
        const machine = pc(space);
        machine.connect('fs', Math.min(limit, 512));
        const memslots = gibs.map((gib) => addVirtioMem(machine, gib * GiB).memslots());
        const { required, reserved, free } = machine.budget;
        expect(required).toBe(memslots.reduce((sum, each) => sum + each, 0));
        expect(reserved).toBeLessThanOrEqual(free);
        expect(memslots.reduce((sum, each) => sum + (each > 1 ? each : 0), 0)).toBeLessThanOrEqual(256);
        if (limit < 509) expect(Math.max(...memslots)).toBe(1);
      }),
      { numRuns: 60 },
    );
  });
});
