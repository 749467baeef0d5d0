/** The machine, driven by the memory model, in front of our own back-end in the same thread. */
import { afterEach, describe, expect, test } from 'vitest';
import { Cleanup } from '../../src/host/owned-fd.ts';
import { Machine } from '../../src/machine/machine.ts';
import type { MachineDeviceOptions } from '../../src/machine/machine-device.ts';
import { expectAnswer, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { GiB, MiB } from '../../src/units.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';

let owned = new Cleanup();
afterEach(() => {
  owned[Symbol.dispose]();
  owned = new Cleanup();
});

const OPTIONS = { ram: 64 * MiB, maxmem: 64 * GiB, dimmSlots: 8 };
const newMachine = (options = OPTIONS): Machine => owned.use(Machine.start(options));

/** A back-end with one file, and the machine's device in front of it. */
function addDevice(machine: Machine, maxMemSlots = 509, options: Partial<MachineDeviceOptions> = {}) {
  const files = new PaperFileSystem();
  const backend = owned.use(new InProcessBackend(files, { maxMemSlots }));
  const name = `fs${machine.devices.length}`;
  const device = machine.addDevice({ name, socket: backend.socket, wait: backend.turn, ...options });
  return { files, backend, device };
}

/** What the back-end has mapped is what the machine's flat view shows. */
function expectTruth(machine: Machine, { backend }: ReturnType<typeof addDevice>): void {
  const ram = machine.memory.space.view.ranges.filter(({ region }) => region.isRam);
  expect(backend.memory.regions.map(({ guestPhysAddr, memorySize }) => [guestPhysAddr, memorySize])).toEqual(
    ram.map(({ start, end }) => [start, end - start]),
  );
}

describe('memory devices', () => {
  test('come and go, and a file is read into them', () => {
    const machine = newMachine();
    const fs = addDevice(machine, 509, { indirectEntries: 8 });
    fs.files.size = 8192;
    fs.files.bytes.fill(7, 0, 8192);
    const vm = machine.plug({ type: 'virtio-mem', id: 'vm0', size: 8 * GiB, dynamicMemslots: true });
    const dimm = machine.plug({ type: 'dimm', id: 'dimm0', size: GiB });
    expect(vm.resize(3 * GiB)).toBe('done');
    expectTruth(machine, fs);
    expect(fs.backend.memory.regions.length).toBe(5);
    const client = new VirtioFsClient(fs.device);
    expectAnswer(client.init(), 'INIT');
    const buffers = [
      machine.buffer(vm.address + 2 * GiB - 100, 200), // across two memslots
      machine.buffer(dimm.address, 300),
      machine.buffer(16 * MiB, 500),
    ];
    expect(client.read(2n, 7n, 0, buffers)).toBe(1000);
    for (const { bytes } of buffers) expect(bytes.every((byte) => byte === 7)).toBe(true);
    expect(vm.resize(0)).toBe('done');
    machine.unplug('dimm0');
    machine.unplug('vm0');
    expectTruth(machine, fs);
    expect(fs.backend.memory.regions.length).toBe(1);
  });
});
