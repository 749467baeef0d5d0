/** The machine, driven by the memory model, in front of our own back-end in the same thread. */
import { fstatSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { expectAnswer, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { GiB, MiB } from '../../src/units.ts';
import { codeOf, MachineRig, openFds, refuseOnce, type RigDevice } from './rig.ts';

let rig: MachineRig;
beforeEach(() => {
  rig = new MachineRig();
});
afterEach(() => rig[Symbol.dispose]());

const DYNAMIC = { type: 'virtio-mem', id: 'vm0', size: 8 * GiB, dynamicMemslots: true } as const;
const DIMM = { type: 'dimm', id: 'dimm0', size: GiB } as const;

/** A client whose mount has begun. */
function mounted({ device }: RigDevice): VirtioFsClient {
  const client = new VirtioFsClient(device);
  expectAnswer(client.init(), 'INIT');
  return client;
}

describe('memory', () => {
  test('that is plugged takes what is read from a file, also across memslots', () => {
    const { machine } = rig;
    const fs = rig.addDevice({ indirectEntries: 8 });
    fs.files.size = 1000;
    fs.files.bytes.fill(7, 0, 1000);
    const vm = machine.plug(DYNAMIC);
    const dimm = machine.plug(DIMM);
    expect(vm.resize(3 * GiB)).toBe('done');
    rig.expectTruth(fs);
    expect(fs.backend.memory.regions.length).toBe(5);
    const client = mounted(fs);
    const buffers = [
      machine.buffer(vm.address + 2 * GiB - 100, 200),
      machine.buffer(dimm.address, 300),
      machine.buffer(16 * MiB, 500),
    ];
    expect(client.read(2n, 7n, 0, buffers)).toBe(1000);
    for (const { bytes } of buffers) expect(bytes.every((byte) => byte === 7)).toBe(true);
    expect(vm.resize(0)).toBe('done');
    machine.unplug('dimm0');
    machine.unplug('vm0');
    rig.expectTruth(fs);
    expect(fs.backend.memory.regions.length).toBe(1);
  });

  test('that is unplugged is given back to the host and reads as zeros when it comes again', () => {
    const vm = rig.machine.plug({ ...DYNAMIC, preallocate: true });
    const pages = (): number => fstatSync(vm.device.backend.block.fd!).blocks / 8;
    vm.resize(128 * MiB);
    expect(pages()).toBe((128 * MiB) / 4096);
    rig.machine.buffer(vm.address, 3).bytes.set([1, 2, 3]);
    vm.resize(0);
    expect(pages()).toBe(0);
    vm.resize(128 * MiB);
    expect([...rig.machine.buffer(vm.address, 3).bytes]).toEqual([0, 0, 0]);
  });

  test('of a module that is gone is nobody else’s: a buffer somebody kept is harmless', () => {
    const dimm = rig.machine.plug(DIMM);
    const { bytes } = rig.machine.buffer(dimm.address, 10);
    bytes[0] = 1;
    rig.machine.unplug('dimm0');
    expect(bytes[0]).toBe(0);
    expect(codeOf(() => rig.machine.buffer(dimm.address, 10))).toBe('UNMAPPED');
  });

  test('is a buffer only where RAM is one piece', () => {
    const { machine } = rig;
    const dimm = machine.plug(DIMM);
    machine.plug({ ...DIMM, id: 'dimm1' });
    expect(codeOf(() => machine.buffer(64 * MiB - 1, 2))).toBe('UNMAPPED');
    expect(codeOf(() => machine.buffer(dimm.address + GiB - 1, 2))).toBe('UNMAPPED');
    expect(machine.buffer(dimm.address + GiB - 1, 1).bytes.length).toBe(1);
  });

  test('that the model refuses leaves nothing behind', () => {
    const { machine } = rig;
    const fds = openFds();
    expect(codeOf(() => machine.plug({ ...DIMM, size: 65 * GiB }))).toBe('NO_SPACE');
    expect(codeOf(() => machine.plug({ ...DYNAMIC, blockSize: 3 * MiB }))).toBe('BAD_PROPERTY');
    expect(codeOf(() => machine.plug({ ...DIMM, slot: 8 }))).toBe('DIMM_SLOT');
    expect(codeOf(() => machine.unplug('dimm0'))).toBe('NOT_PLUGGED');
    expect(openFds()).toBe(fds);
    const vm = machine.plug(DYNAMIC);
    vm.resize(GiB);
    expect(codeOf(() => machine.unplug('vm0'))).toBe('STILL_IN_USE');
  });
});

describe('what one back-end refuses, the others do not keep:', () => {
  test('a module that is plugged', () => {
    const { machine } = rig;
    const [first, second] = [rig.addDevice(), rig.addDevice()];
    refuseOnce(second, 'addRegion');
    expect(codeOf(() => machine.plug(DIMM))).toBe('REFUSED');
    rig.expectTruth(first, second);
    expect(machine.memory.devices.describe()).toEqual([]);
    machine.plug(DIMM);
    rig.expectTruth(first, second);
  });

  test('a module that is unplugged', () => {
    const { machine } = rig;
    const [first, second] = [rig.addDevice(), rig.addDevice()];
    const { address } = machine.plug(DIMM);
    refuseOnce(second, 'removeRegion');
    expect(codeOf(() => machine.unplug('dimm0'))).toBe('REFUSED');
    rig.expectTruth(first, second);
    expect(first.backend.memory.regions.length).toBe(2);
    machine.buffer(address, 1).bytes[0] = 1;
    machine.unplug('dimm0');
    rig.expectTruth(first, second);
  });

  test('virtio-mem that grows, and goes on later', () => {
    const [first, second] = [rig.addDevice(), rig.addDevice()];
    const vm = rig.machine.plug(DYNAMIC);
    refuseOnce(second, 'addRegion', 2);
    expect(codeOf(() => vm.resize(4 * GiB))).toBe('REFUSED');
    expect(vm.size).toBe(2 * GiB);
    rig.expectTruth(first, second);
    expect(vm.run()).toBe('done');
    expect(vm.size).toBe(4 * GiB);
    rig.expectTruth(first, second);
  });

  test('virtio-mem that shrinks, and goes on later', () => {
    const [first, second] = [rig.addDevice(), rig.addDevice()];
    const vm = rig.machine.plug(DYNAMIC);
    vm.resize(4 * GiB);
    refuseOnce(second, 'removeRegion', 1);
    expect(codeOf(() => vm.resize(GiB))).toBe('REFUSED');
    expect(vm.device.dynamicMemslots!.mapped).toBe(3);
    rig.expectTruth(first, second);
    expect(vm.run()).toBe('done');
    expect(vm.size).toBe(GiB);
    rig.expectTruth(first, second);
  });

  test('memslots that are mapped in one change', () => {
    const [first, second] = [rig.addDevice(), rig.addDevice()];
    const slots = rig.machine.addMemslots({ id: 'slots', count: 8, slotSize: 4096 });
    refuseOnce(second, 'addRegion', 3);
    expect(codeOf(() => slots.map(0, 8))).toBe('REFUSED');
    expect(slots.mapped).toBe(0);
    rig.expectTruth(first, second);
    slots.map(0, 8);
    rig.expectTruth(first, second);
  });
});

describe('devices', () => {
  test('that are gone are the error of the operation that notices, and nobody else’s', () => {
    const { machine } = rig;
    const [lost, kept] = [rig.addDevice(), rig.addDevice()];
    lost.backend[Symbol.dispose]();
    expect(['CLOSED', 'SYSTEM']).toContain(codeOf(() => machine.plug(DIMM)));
    expect(lost.device.frontend.failure).toBeDefined();
    expect(machine.memory.devices.describe()).toEqual([]);
    rig.expectTruth(kept);
    machine.plug(DIMM);
    rig.expectTruth(kept);
    machine.removeDevice(lost.device);
    expect(machine.devices).toEqual([kept.device]);
  });

  test('take what there is when they come, and leave nothing when they go', () => {
    const { machine } = rig;
    machine.plug(DYNAMIC).resize(2 * GiB);
    const fds = openFds();
    const fs = rig.addDevice();
    rig.expectTruth(fs);
    machine.removeDevice(fs.device);
    fs.backend[Symbol.dispose]();
    expect(openFds()).toBe(fds);
    expect(machine.memory.budget.consumers).toEqual([]);
    expect(machine.plug(DIMM).size).toBe(GiB);
  });

  test('with too few memslots are not taken', () => {
    const { machine } = rig;
    machine.plug(DYNAMIC).resize(GiB);
    expect(codeOf(() => rig.addDevice({ maxMemSlots: 32 }))).toBe('BACKEND_RESTRICTS');
    expect(machine.devices).toEqual([]);
    expect(machine.memory.budget.consumers).toEqual([]);
  });

  test('with few memslots leave room for few modules', () => {
    const { machine } = rig;
    rig.addDevice({ maxMemSlots: 3 });
    machine.plug(DIMM);
    machine.plug({ ...DIMM, id: 'dimm1' });
    expect(codeOf(() => machine.plug({ ...DIMM, id: 'dimm2' }))).toBe('VHOST_SLOTS');
  });

  test('that died are connected to another back-end, and go on with what was under way', () => {
    const { machine } = rig;
    const fs = rig.addDevice();
    const client = mounted(fs);
    const { address } = machine.plug(DIMM);
    const buffer = machine.buffer(address, 100);
    const pending = client.startRead(2n, 7n, 0, [buffer]);
    fs.backend[Symbol.dispose]();
    const vm = machine.plug(DYNAMIC);
    expect(codeOf(() => vm.resize(GiB))).toBe('CLOSED');
    expect(vm.run()).toBe('done');
    const next = rig.connectAgain(fs);
    next.files.size = 100;
    next.files.bytes.fill(5, 0, 100);
    rig.expectTruth(next);
    expect(client.finish(pending)).toBe(-5); // answered, by one that knows of no mount
    expectAnswer(client.init(), 'INIT');
    expect(client.read(2n, 7n, 0, [buffer])).toBe(100);
    expect(buffer.bytes.every((byte) => byte === 5)).toBe(true);
  });

  test('of one name come once', () => {
    const { device } = rig.addDevice();
    expect(() => rig.addDevice({ name: device.name })).toThrow(RangeError);
    expect(rig.machine.devices).toEqual([device]);
  });
});

describe('the machine', () => {
  test('stops and runs on, and memory that came meanwhile is there', () => {
    const { machine } = rig;
    const fs = rig.addDevice();
    fs.files.size = 10;
    const client = mounted(fs);
    machine.stop();
    const dimm = machine.plug(DIMM);
    expect(fs.backend.memory.regions.length).toBe(1);
    machine.run();
    rig.expectTruth(fs);
    expect(client.read(2n, 7n, 0, [machine.buffer(dimm.address, 10)])).toBe(10);
  });

  test('reboots: queues begin anew, virtio-mem is plugged again, modules stay', () => {
    const { machine } = rig;
    const early = machine.plug(DYNAMIC);
    const fs = rig.addDevice();
    const late = machine.plug({ ...DYNAMIC, id: 'vm1' });
    machine.plug(DIMM);
    early.resize(2 * GiB);
    late.resize(GiB);
    mounted(fs);
    const { memory } = fs.backend;
    const removed: boolean[] = [];
    const removeRegion = memory.removeRegion.bind(memory);
    memory.removeRegion = (region) => {
      removed.push(fs.device.frontend.isStarted);
      removeRegion(region);
    };
    machine.buffer(early.address, 1).bytes[0] = 1;
    for (let round = 0; round < 3; round += 1) {
      machine.reboot();
      rig.expectTruth(fs);
      expect([early.size, late.size]).toEqual([2 * GiB, GiB]);
      expect(machine.buffer(early.address, 1).bytes[0]).toBe(0);
      fs.files.size = 10;
      expect(mounted(fs).read(2n, 7n, 0, [machine.buffer(late.address, 10)])).toBe(10);
    }
    // of the one that came before the device while it runs, of the other at its next start
    expect(removed.slice(0, 3)).toEqual([true, true, false]);
  });

  test('gives drivers memory that others have given back', () => {
    const { machine } = rig;
    const places = new Set<number>();
    for (let round = 0; round < 10; round += 1) {
      const { device } = rig.addDevice();
      for (const { driver } of device.queues) places.add(driver.descGpa);
      const vm = machine.plug(DYNAMIC);
      vm.resize(GiB);
      vm.resize(0);
      machine.unplug('vm0');
      machine.removeDevice(device);
    }
    expect(places.size).toBe(2);
  });

  test('that is closed leaves no descriptor and no mapping', () => {
    const use = (): void => {
      using own = new MachineRig();
      const fs = own.addDevice();
      own.machine.plug(DIMM);
      own.machine.plug(DYNAMIC).resize(2 * GiB);
      own.machine.addMemslots({ id: 'slots', count: 8, slotSize: 4096 }).map(1);
      mounted(fs);
    };
    use();
    const fds = openFds();
    use();
    expect(openFds()).toBe(fds);
  });
});
