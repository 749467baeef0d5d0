/** The virtio-blk driver in front of a disk in the same thread. */
import { afterEach, expect, test } from 'vitest';
import { VirtioBlkFeature, VirtioBlkStatus } from '../../protocol/virtio-blk.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { Cleanup } from '../../src/host/owned-fd.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { readBlkConfig, VirtioBlkClient } from '../../src/machine/virtio-blk-client.ts';
import { InProcessDevice } from '../support/loopback.ts';
import { PaperDisk } from '../support/paper-disk.ts';

let owned = new Cleanup();
afterEach(() => {
  owned[Symbol.dispose]();
  owned = new Cleanup();
});

const { OK, IOERR } = VirtioBlkStatus;

function startDisk(indirectEntries = 0) {
  const disk = new PaperDisk(64);
  const backend = owned.use(new InProcessDevice(() => disk));
  const machine = owned.use(
    LoopbackMachine.start({
      socket: backend.socket,
      wait: backend.turn,
      baseSize: 1 << 20,
      slotSize: 1 << 16,
      slots: 4,
      requestQueues: 0,
      indirectEntries,
      deviceFeatures: [VirtioBlkFeature.FLUSH],
      protocolFeatures: [
        ProtocolFeature.MQ,
        ProtocolFeature.REPLY_ACK,
        ProtocolFeature.CONFIG,
        ProtocolFeature.CONFIGURE_MEM_SLOTS,
      ],
    }),
  );
  const allocate = (size: number) => machine.ram.allocate(size);
  const client = new VirtioBlkClient(machine.queues[0]!, { allocate, depth: 4, timeoutMs: 100 });
  return { disk, machine, client };
}

test.each([0, 8])('sectors go out and come back in pieces, with %i indirect entries', (indirectEntries) => {
  const { disk, machine, client } = startDisk(indirectEntries);
  [0, 1].forEach((slot) => machine.plug(slot));
  const across = machine.ram.slotBuffer(0, (1 << 16) - 100, 400); // from one slot into the next
  const rest = machine.ram.allocate(624);
  across.bytes.fill(1);
  rest.bytes.fill(2);
  expect(client.write(3n, [across, rest])).toBe(OK);
  expect([...disk.bytes.subarray(3 * 512, 5 * 512)]).toEqual([...across.bytes, ...rest.bytes]);
  const back = machine.ram.allocate(1024);
  expect(client.read(3n, [back])).toBe(OK);
  expect([...back.bytes]).toEqual([...across.bytes, ...rest.bytes]);
});

test('requests may be finished in any order', () => {
  const { disk, machine, client } = startDisk();
  disk.bytes.fill(1, 0, 512).fill(2, 512, 1024);
  const buffers = [machine.ram.allocate(512), machine.ram.allocate(512)];
  const [first, second] = buffers.map((buffer, sector) => client.startRead(BigInt(sector), [buffer]));
  expect([client.finish(second!), client.finish(first!)]).toEqual([OK, OK]);
  expect(buffers.map(({ bytes }) => bytes[0])).toEqual([1, 2]);
});

test('flush and serial number', () => {
  const { disk, client } = startDisk();
  expect(client.flush()).toBe(OK);
  expect(disk.flushes).toBe(1);
  expect(client.getId()).toBe('paper');
});

test('the configuration says how large it is', () => {
  const { machine } = startDisk();
  const { capacity, blkSize } = readBlkConfig((at, size) => machine.frontend.getConfig(at, size));
  expect([capacity, blkSize]).toEqual([64n, 512]);
});

test('what the disk refuses is a value, and the queue goes on', () => {
  const { machine, client } = startDisk();
  const buffer = machine.ram.allocate(512);
  expect(client.read(64n, [buffer])).toBe(IOERR);
  expect(client.read(0n, [buffer])).toBe(OK);
});

test('a request that comes back without a status is an error', () => {
  const { disk, machine, client } = startDisk();
  disk.isMute = true;
  expect(() => client.read(0n, [machine.ram.allocate(512)])).toThrow(
    expect.objectContaining({ code: 'BAD_VALUE' }),
  );
});

test('half a sector, and more than there is room for, are our own mistakes', () => {
  const { machine, client } = startDisk();
  expect(() => client.read(0n, [machine.ram.allocate(100)])).toThrow(RangeError);
  expect(() => client.write(0n, [])).toThrow(RangeError);
  const buffer = machine.ram.allocate(512);
  const sent = [0, 1, 2, 3].map(() => client.startRead(0n, [buffer]));
  expect(() => client.startRead(0n, [buffer])).toThrow(RangeError);
  expect(sent.map((each) => client.finish(each))).toEqual([OK, OK, OK, OK]);
});
