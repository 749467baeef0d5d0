/** Front-end and back-end in one process, to the last memslot. The same in two processes: test/system/machine-slots.test.ts. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { expectAnswer, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { MiB } from '../../src/units.ts';
import { codeOf, MachineRig, openFds } from './rig.ts';

const SLOT = 4096;
const CONTENT = Uint8Array.from({ length: SLOT }, (_, i) => i * 31);

/** Mappings of the array's memory: ours and the back-end's. */
const mappings = (): number => readFileSync('/proc/self/maps', 'utf8').split('/memfd:slots').length - 1;

test.each([1, 8, 32, 509, 4096])('%i slots: all work, one more is refused, nothing stays', (limit) => {
  const fds = openFds();
  {
    using rig = new MachineRig({ ram: 8 * MiB });
    const fs = rig.addDevice({ maxMemSlots: limit });
    expect(fs.device.frontend.limit).toBe(limit);
    fs.files.bytes.set(CONTENT);
    fs.files.size = SLOT;
    const slots = rig.machine.addMemslots({ id: 'slots', count: limit, slotSize: SLOT });
    for (let slot = 0; slot < limit - 1; slot += 1) slots.map(slot); // RAM is the one that is left
    rig.expectTruth(fs);
    expect(codeOf(() => slots.map(limit - 1))).toBe('SLOT_LIMIT');
    expect(slots.isMapped(limit - 1)).toBe(false);
    rig.expectTruth(fs);

    const client = new VirtioFsClient(fs.device);
    expectAnswer(client.init(), 'INIT');
    for (let slot = 0; slot < limit - 1; slot += 1) {
      const buffer = slots.buffer(slot, 0, SLOT);
      expect(client.read(2n, 7n, 0, [buffer])).toBe(SLOT);
      if (Buffer.compare(buffer.bytes, CONTENT) !== 0) expect.fail(`wrong bytes in slot ${slot}`);
    }
    for (let slot = 0; slot < limit - 1; slot += 2) slots.unmap(slot);
    rig.expectTruth(fs);
    for (let slot = 1; slot < limit - 1; slot += 2) slots.unmap(slot);
    rig.expectTruth(fs);
    expect(fs.backend.memory.regions.length).toBe(1);
    expect(mappings()).toBe(1);
  }
  expect(mappings()).toBe(0);
  expect(openFds()).toBe(fds);
});

test('slots that are not mapped cannot be reached, those that are can', () => {
  using rig = new MachineRig({ ram: 8 * MiB });
  const fs = rig.addDevice();
  fs.files.size = SLOT;
  const client = new VirtioFsClient(fs.device);
  expectAnswer(client.init(), 'INIT');
  const slots = rig.machine.addMemslots({ id: 'slots', count: 4, slotSize: SLOT });
  const more = rig.machine.addMemslots({ id: 'more', count: 4, slotSize: SLOT });
  const read = (): number => client.read(2n, 7n, 0, [slots.unmappedBuffer(2, 0, SLOT)]);
  for (let round = 0; round < 3; round += 1) {
    expect(read()).toBe(-14);
    slots.map(2);
    more.map(2);
    expect(read()).toBe(SLOT);
    slots.unmap(2);
  }
  expect(more.gpaOf(0)).toBeGreaterThan(slots.gpaOf(3));
  expect(codeOf(() => slots.buffer(2, 0, 1))).toBe('UNMAPPED');
});
