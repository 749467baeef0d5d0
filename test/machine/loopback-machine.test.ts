import { expect, test } from 'vitest';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { Errno } from '../../protocol/errno.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { InProcessBackend, startMachine } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';

const SLOT = 1 << 16;
const layout = { baseSize: 1 << 22, slotSize: SLOT, slots: 8 };
const withTable = [ProtocolFeature.MQ, ProtocolFeature.REPLY_ACK];
const withSlots = [...withTable, ProtocolFeature.CONFIGURE_MEM_SLOTS];
const unacknowledged = [ProtocolFeature.MQ, ProtocolFeature.CONFIGURE_MEM_SLOTS];

const kinds = [
  { name: 'ADD and REM', options: { protocolFeatures: withSlots, indirectEntries: 16 } },
  { name: 'ADD and REM without REPLY_ACK', options: { protocolFeatures: unacknowledged } },
  { name: 'SET_MEM_TABLE', options: { protocolFeatures: withTable, eventIdx: false } },
] as const;

test.each(kinds)('a file is written and read through buffers in slots: $name', ({ options }) => {
  const files = new PaperFileSystem();
  using backend = new InProcessBackend(files);
  using machine = startMachine(backend, { ...layout, ...options });
  for (const slot of [0, 1, 5]) machine.plug(slot);
  expect(backend.memory.regions.length).toBe(4);
  const client = new VirtioFsClient(machine);
  expect(expectAnswer(client.init(), 'INIT').major).toBe(7);
  const { nodeid } = expectAnswer(client.lookup(ROOT, 'file'), 'LOOKUP');
  const { fh } = expectAnswer(client.open(nodeid, 2), 'OPEN');

  const crossing = machine.ram.slotBuffer(0, SLOT - 100, 300);
  crossing.bytes.forEach((_, i) => (crossing.bytes[i] = i * 7));
  expect(client.write(nodeid, fh, 10, [crossing])).toBe(300);
  expect(files.bytes.subarray(10, 310)).toEqual(crossing.bytes);
  expect(expectAnswer(client.getattr(nodeid), 'GETATTR').attr.size).toBe(310n);

  const [first, second] = [machine.ram.slotBuffer(5, 1, 77), machine.ram.slotBuffer(1, 4095, 400)];
  expect(client.read(nodeid, fh, 10, [first, second])).toBe(300);
  expect([...first.bytes, ...second.bytes.subarray(0, 223)]).toEqual([...crossing.bytes]);

  expect(client.release(nodeid, fh)).toBe(0);
  client.forget(nodeid);
  expect(files.forgotten).toBe(1);
  expect(client.destroy()).toBe(0);
  machine.stop();
});

test('a buffer in a removed slot is refused, and the mount goes on', () => {
  const files = new PaperFileSystem();
  files.size = 100;
  using backend = new InProcessBackend(files);
  using machine = startMachine(backend, layout);
  const client = new VirtioFsClient(machine);
  expectAnswer(client.init(), 'INIT');
  const buffer = machine.ram.slotBuffer(3, 0, 100);
  for (let round = 0; round < 3; round += 1) {
    expect(client.read(2n, 7n, 0, [buffer])).toBe(-Errno.EFAULT);
    machine.plug(3);
    expect(client.read(2n, 7n, 0, [buffer])).toBe(100);
    machine.unplug(3);
  }
  expect(client.lookup(ROOT, 'nothing')).toBe(-Errno.ENOENT);
});

test.each([1, 8, 32, 509, 4096])('%i slots are taken, one more is refused, and all work', (limit) => {
  const files = new PaperFileSystem();
  files.size = 4096;
  files.bytes.fill(9);
  using backend = new InProcessBackend(files, { maxMemSlots: limit });
  using machine = startMachine(backend, { baseSize: 1 << 22, slotSize: 4096, slots: limit });
  expect(machine.slotLimit).toBe(limit);
  for (let slot = 0; slot < limit - 1; slot += 1) machine.plug(slot);
  expect(() => machine.plug(limit - 1)).toThrow(expect.objectContaining({ code: 'REFUSED' }));
  expect(machine.pluggedSlots).toBe(limit - 1);

  const client = new VirtioFsClient(machine);
  expectAnswer(client.init(), 'INIT');
  for (let slot = 0; slot < limit - 1; slot += limit > 1000 ? 50 : 1) {
    const buffer = machine.ram.slotBuffer(slot, 0, 4096);
    expect(client.read(2n, 7n, 0, [buffer])).toBe(4096);
    expect(buffer.bytes[4095]).toBe(9);
  }
  for (let slot = 0; slot < limit - 1; slot += 1) machine.unplug(slot);
  expect(backend.memory.regions.length).toBe(1);
});

test('a removal that is not known is refused', () => {
  using backend = new InProcessBackend(new PaperFileSystem());
  using machine = startMachine(backend, layout);
  expect(() => machine.unplug(0)).toThrow(expect.objectContaining({ code: 'REFUSED' }));
  machine.plug(0);
});

test('several request queues carry one mount', () => {
  const files = new PaperFileSystem();
  using backend = new InProcessBackend(files, { requestQueues: 3 });
  using machine = startMachine(backend, { ...layout, requestQueues: 3 });
  expect(machine.queues.length).toBe(4);
  expectAnswer(new VirtioFsClient(machine).init(), 'INIT');
  for (const queue of [1, 2, 3])
    expect(new VirtioFsClient(machine, queue).lookup(ROOT, 'file')).toMatchObject({ nodeid: 2n });
  using other = new InProcessBackend(files);
  expect(() => startMachine(other, { ...layout, requestQueues: 2 })).toThrow(
    expect.objectContaining({ code: 'NOT_SUPPORTED' }),
  );
});
