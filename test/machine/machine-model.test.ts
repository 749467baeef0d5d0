/** Anything done to a machine, in any order, with back-ends that refuse now and then: what they have mapped is what the guest has. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryDeviceError, MemoryError, ProtocolError } from '../../src/errors.ts';
import type { GuestVirtioMem } from '../../src/machine/guest-virtio-mem.ts';
import type { MemslotArray } from '../../src/machine/memslot-array.ts';
import { GiB, MiB } from '../../src/units.ts';
import { MachineRig, refuseOnce, type RigDevice } from './rig.ts';

const SLOTS = 12;

interface World {
  readonly rig: MachineRig;
  readonly devices: readonly RigDevice[];
  readonly virtioMem: readonly GuestVirtioMem[];
  readonly slots: MemslotArray;
  /** Takes the refusal back that is still to come: one at a time, since nobody can undo what is refused to be undone. */
  disarm?: () => void;
}

const small = fc.nat(7);
/** What may be done; whatever it is, it succeeds or throws. */
const step = fc.oneof(
  fc.record({ do: fc.constant('plug' as const), id: fc.nat(3), size: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ do: fc.constant('unplug' as const), id: fc.nat(3) }),
  fc.record({ do: fc.constant('resize' as const), id: fc.nat(1), size: fc.nat(8) }),
  fc.record({ do: fc.constant('map' as const), slot: fc.nat(SLOTS - 1), count: small }),
  fc.record({ do: fc.constant('unmap' as const), slot: fc.nat(SLOTS - 1), count: small }),
  fc.record({ do: fc.constantFrom('reboot' as const, 'stop' as const, 'run' as const) }),
  fc.record({
    do: fc.constant('refuse' as const),
    method: fc.constantFrom('addRegion' as const, 'removeRegion' as const),
    device: fc.nat(1),
    after: fc.nat(3),
  }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function perform(each: Step, world: World): void {
  const { devices, virtioMem, slots } = world;
  const { machine } = world.rig;
  if (each.do === 'plug') machine.plug({ type: 'dimm', id: `dimm${each.id}`, size: each.size * GiB });
  else if (each.do === 'unplug') machine.unplug(`dimm${each.id}`);
  else if (each.do === 'resize') virtioMem[each.id]!.resize(each.size * 512 * MiB);
  else if (each.do === 'map') slots.map(each.slot, Math.min(each.count + 1, SLOTS - each.slot));
  else if (each.do === 'unmap') slots.unmap(each.slot, Math.min(each.count + 1, SLOTS - each.slot));
  else if (each.do === 'refuse') {
    world.disarm?.();
    world.disarm = refuseOnce(devices[each.device]!, each.method, each.after);
  } else machine[each.do]();
}

/** @returns code of the refusal */
function attempt(call: () => void): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    const isRefusal =
      error instanceof ProtocolError || error instanceof MemoryDeviceError || error instanceof MemoryError;
    if (!isRefusal) throw error;
    return error.code;
  }
}

/** A removal refused when memory is taken away at a reboot: the memslot stays mapped, with nothing in it. */
const REFUSED_AT_REBOOT: Step[] = [
  { do: 'resize', id: 0, size: 1 },
  { do: 'refuse', method: 'removeRegion', device: 0, after: 0 },
  { do: 'resize', id: 0, size: 0 },
  { do: 'refuse', method: 'removeRegion', device: 0, after: 0 },
  { do: 'reboot' },
];

test('back-ends have what the guest has after whatever was done and refused', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 50 }), (steps) => {
      using rig = new MachineRig({ ram: 8 * MiB, maxmem: 24 * GiB, dimmSlots: 3 });
      const plug = (id: string): GuestVirtioMem =>
        rig.machine.plug({ type: 'virtio-mem', id, size: 4 * GiB, dynamicMemslots: true });
      const early = plug('vm0');
      const devices = [rig.addDevice(), rig.addDevice()];
      const slots = rig.machine.addMemslots({ id: 'slots', count: SLOTS, slotSize: 4096 });
      const world: World = { rig, devices, virtioMem: [early, plug('vm1')], slots };
      for (const each of steps) {
        const code = attempt(() => perform(each, world));
        expect(['REFUSED', 'NO_SPACE', 'DIMM_SLOT', 'DUPLICATE_ID', 'NOT_PLUGGED', undefined]).toContain(
          code,
        );
        const started = devices.filter(({ device }) => device.frontend.isStarted);
        rig.expectTruth(...started);
      }
      world.disarm?.();
      rig.machine.run();
      expect(devices.every(({ device }) => device.frontend.isStarted)).toBe(true);
      rig.expectTruth(...devices);
      for (const vm of world.virtioMem) expect(vm.run()).toBe('done');
      rig.expectTruth(...devices);
      const mapped = world.virtioMem.map(({ device }) => device.dynamicMemslots!.mapped);
      expect(mapped).toEqual(world.virtioMem.map(({ size }) => Math.ceil(size / GiB)));
    }),
    { numRuns: Number(process.env['MODEL_RUNS'] ?? 40), examples: [[REFUSED_AT_REBOOT]] },
  );
});
