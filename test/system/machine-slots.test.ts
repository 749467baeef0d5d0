/** The machine in front of a daemon in a process of its own, to the last memslot. In one process: test/machine/slots.test.ts. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Machine } from '../../src/machine/machine.ts';
import type { MachineDevice } from '../../src/machine/machine-device.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { GiB, MiB } from '../../src/units.ts';
import { Daemon, runLog } from '../support/daemon.ts';

const RAM = 8 * MiB;
const SLOT = 4096;
const CONTENT = Buffer.from(Array.from({ length: SLOT }, (_, i) => i * 31));

/** A daemon whose share has a file, and nobody connected yet. */
async function startDaemon(name: string, maxMemSlots: number): Promise<Daemon> {
  mkdirSync(join(runLog('x'), '..'), { recursive: true });
  const flags = [`--max-mem-slots=${maxMemSlots}`];
  const daemon = await Daemon.start({ name, logLevel: 'error', flags });
  writeFileSync(join(daemon.sharedDir, 'file'), CONTENT);
  return daemon;
}

/** Descriptors the daemon has between two front-ends: a first one makes it open all it opens once. */
async function fdsAfterUse(daemon: Daemon): Promise<number> {
  {
    using machine = Machine.start({ ram: RAM });
    reader(machine, machine.addDevice({ name: 'first', socket: daemon.socketPath }));
    machine.stop();
  }
  await expect.poll(() => daemon.mappedGuestMemory()).toBe(0);
  await sleep(100);
  return daemon.openFds().length;
}

/** Opens the file. @returns reads it into guest memory: whether what came is right */
function reader(machine: Machine, device: MachineDevice): (gpa: number) => boolean {
  const client = new VirtioFsClient(device);
  expectAnswer(client.init(), 'INIT');
  const { nodeid } = expectAnswer(client.lookup(ROOT, 'file'), 'LOOKUP');
  const { fh } = expectAnswer(client.open(nodeid, 0), 'OPEN');
  return (gpa) => {
    const buffer = machine.buffer(gpa, SLOT);
    return client.read(nodeid, fh, 0, [buffer]) === SLOT && Buffer.compare(buffer.bytes, CONTENT) === 0;
  };
}

test.each([1, 8, 32, 509, 4096])('%i slots: all work, one more is refused, nothing stays', async (limit) => {
  await using daemon = await startDaemon(`machine-slots-${limit}`, limit);
  const fds = await fdsAfterUse(daemon);
  using machine = Machine.start({ ram: RAM });
  const device = machine.addDevice({ name: 'fs0', socket: daemon.socketPath });
  expect(device.frontend.limit).toBe(limit);
  const isRead = reader(machine, device);
  const idle = daemon.openFds().length;
  const slots = machine.addMemslots({ id: 'slots', count: limit, slotSize: SLOT });
  for (let slot = 0; slot < limit - 1; slot += 1) slots.map(slot);
  expect(daemon.mappedGuestMemory()).toBe(RAM + (limit - 1) * SLOT);
  expect(() => slots.map(limit - 1)).toThrow(expect.objectContaining({ code: 'SLOT_LIMIT' }));
  for (let slot = 0; slot < limit - 1; slot += 1)
    if (!isRead(slots.gpaOf(slot))) expect.fail(`wrong bytes in slot ${slot}`);
  for (let slot = 0; slot < limit - 1; slot += 2) slots.unmap(slot);
  for (let slot = 1; slot < limit - 1; slot += 2) slots.unmap(slot);
  expect(daemon.mappedGuestMemory()).toBe(RAM);
  expect(daemon.openFds().length).toBe(idle);
  machine.stop();
  machine.close();
  await expect.poll(() => daemon.openFds().length).toBe(fds);
  expect(daemon.mappedGuestMemory()).toBe(0);
});

test('two daemons, virtio-mem, modules and a reboot: both map what the guest has', async () => {
  await using first = await startDaemon('machine-first', 509);
  await using second = await startDaemon('machine-second', 509);
  using machine = Machine.start({ ram: RAM, maxmem: 64 * GiB, dimmSlots: 2 });
  const devices = [first, second].map((daemon, index) =>
    machine.addDevice({ name: `fs${index}`, socket: daemon.socketPath, indirectEntries: 8 }),
  );
  const vm = machine.plug({ type: 'virtio-mem', id: 'vm0', size: 32 * GiB, dynamicMemslots: true });
  const dimm = machine.plug({ type: 'dimm', id: 'dimm0', size: GiB });
  expect(vm.resize(12 * GiB)).toBe('done');
  for (let round = 0; round < 2; round += 1) {
    const mapped = [first, second].map((daemon) => daemon.mappedGuestMemory());
    expect(mapped).toEqual([RAM + 13 * GiB, RAM + 13 * GiB]);
    for (const device of devices) {
      const isRead = reader(machine, device);
      for (let slot = 0; slot < 12; slot += 1) expect(isRead(vm.address + slot * GiB)).toBe(true);
      expect(isRead(dimm.address)).toBe(true);
    }
    machine.reboot();
  }
  expect(vm.resize(0)).toBe('done');
  machine.unplug('dimm0');
  expect(first.mappedGuestMemory()).toBe(RAM);
  expect(second.mappedGuestMemory()).toBe(RAM);
});
