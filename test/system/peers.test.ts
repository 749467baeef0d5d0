/** Our front-end with each real back-end: memory, rings, slots that come and go within its limit, I/O in all of them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { VirtioBlkFeature, VIRTIO_BLK_SECTOR, VirtioBlkStatus } from '../../protocol/virtio-blk.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { type BackendCommand, SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import type { GuestBuffer } from '../../src/machine/guest-ram.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { readBlkConfig, VirtioBlkClient } from '../../src/machine/virtio-blk-client.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { KiB, MiB } from '../../src/units.ts';
import { C_VIRTIOFSD, missingPeers, ourBackend, RUST_VIRTIOFSD, storageDaemon } from '../support/peers.ts';

const SLOT = 2 * MiB;
const CHUNK = 16 * KiB;
const O_RDWR = 2;
const RAM = { baseSize: 8 * MiB, slotSize: SLOT };

const isMissing = missingPeers() !== undefined;
const scratch = mkdtempSync(join(tmpdir(), 'peers-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** Octets that only this chunk has. */
function pattern(chunk: number, size: number): Uint8Array {
  const words = new Uint32Array(size / 4);
  for (let i = 0; i < words.length; i += 1) words[i] = (chunk + 1) * 2_654_435_761 + i * 40_503;
  return new Uint8Array(words.buffer);
}

/** How many mappings of guest memory a process has. */
function guestMemoryOf(pid: number): number {
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
  return maps.filter((line) => line.includes('/memfd:guest-ram')).length;
}

/** A buffer that begins in one slot and ends in the next. */
const across = (machine: LoopbackMachine, slot: number): GuestBuffer =>
  machine.ram.slotBuffer(slot, SLOT - CHUNK / 2, CHUNK);

interface FsPeer {
  readonly name: string;
  readonly command: BackendCommand;
  readonly limit: number;
  readonly staysOnDisconnect: boolean;
  /** Whether a buffer may begin in one region and end in the next. The Rust daemon's worker dies of it. */
  readonly crossesSlots: boolean;
}
const FS_PEERS: readonly FsPeer[] = [
  {
    name: 'our own back-end',
    command: ourBackend(),
    limit: 509,
    staysOnDisconnect: true,
    crossesSlots: true,
  },
  ...(isMissing
    ? []
    : [
        {
          name: 'Rust virtiofsd 1.13',
          command: RUST_VIRTIOFSD,
          limit: 509,
          staysOnDisconnect: false,
          crossesSlots: false,
        },
        {
          name: 'C virtiofsd 7.2',
          command: C_VIRTIOFSD,
          limit: 32,
          staysOnDisconnect: false,
          crossesSlots: true,
        },
      ]),
];

describe.each(FS_PEERS)('$name', ({ command, limit, staysOnDisconnect, crossesSlots }) => {
  test('files are written and read in every slot up to its limit, while slots come and go', async () => {
    const backend = await SpawnedBackend.start(command);
    try {
      const machine = LoopbackMachine.start({ ...RAM, socket: backend.connect(), slots: limit });
      expect(machine.slotLimit).toBe(limit);
      const slots = limit - 1;
      const client = new VirtioFsClient(machine);
      expectAnswer(client.init(), 'FUSE_INIT');
      const { entry, open } = expectAnswer(client.create(ROOT, 'file', O_RDWR, 0o644), 'FUSE_CREATE');
      const write = (slot: number, chunk: number): void => {
        const buffer = machine.ram.slotBuffer(slot, 4096, CHUNK);
        buffer.bytes.set(pattern(chunk, CHUNK));
        expect(client.write(entry.nodeid, open.fh, chunk * CHUNK, [buffer])).toBe(CHUNK);
      };
      const read = (buffer: GuestBuffer, chunk: number): void => {
        buffer.bytes.fill(0);
        expect(client.read(entry.nodeid, open.fh, chunk * CHUNK, [buffer])).toBe(CHUNK);
        expect(Buffer.compare(buffer.bytes, pattern(chunk, CHUNK))).toBe(0);
      };

      for (let slot = 0; slot < slots; slot += 1) {
        machine.plug(slot);
        write(slot, slot);
      }
      for (let slot = 0; slot + 1 < slots; slot += 1) {
        const buffer = crossesSlots ? across(machine, slot) : machine.ram.slotBuffer(slot, 0, CHUNK);
        read(buffer, slots - 1 - slot);
      }
      for (let slot = 0; slot < slots; slot += 2) {
        machine.unplug(slot);
        if (slot + 1 < slots) read(machine.ram.slotBuffer(slot + 1, 0, CHUNK), slot);
      }
      for (let slot = 0; slot < slots; slot += 2) {
        machine.plug(slot);
        read(machine.ram.slotBuffer(slot, 0, CHUNK), slots - 1 - slot);
      }
      const onHost = readFileSync(join(backend.shared, 'file'));
      expect(onHost.length).toBe(slots * CHUNK);
      for (let chunk = 0; chunk < slots; chunk += 1)
        expect(
          Buffer.compare(onHost.subarray(chunk * CHUNK, (chunk + 1) * CHUNK), pattern(chunk, CHUNK)),
        ).toBe(0);

      expect(guestMemoryOf(backend.pid)).toBeGreaterThan(0);
      for (let slot = slots - 1; slot >= 0; slot -= 1) machine.unplug(slot);
      expect(guestMemoryOf(backend.pid)).toBe(1);
      expect(client.release(entry.nodeid, open.fh)).toBe(0);
      machine.stop();
      machine.close();
      if (staysOnDisconnect) await expect.poll(() => guestMemoryOf(backend.pid)).toBe(0);
      else await expect.poll(() => backend.isRunning).toBe(false);
    } finally {
      await backend.stop();
    }
  });
});

describe.skipIf(isMissing)('the vhost-user-blk export of qemu-storage-daemon 7.2', () => {
  test('sectors are read and written in hot-added memory, up to its 32 slots', async () => {
    const disk = join(scratch, 'disk.raw');
    writeFileSync(disk, pattern(7, 1 * MiB));
    const backend = await SpawnedBackend.start(storageDaemon(disk));
    try {
      const machine = LoopbackMachine.start({
        ...RAM,
        socket: backend.connect(),
        slots: 32,
        requestQueues: 0, // a disk has no hiprio queue: its first is a request queue
        deviceFeatures: [VirtioBlkFeature.FLUSH, VirtioBlkFeature.BLK_SIZE],
        protocolFeatures: [
          ProtocolFeature.MQ,
          ProtocolFeature.REPLY_ACK,
          ProtocolFeature.CONFIG,
          ProtocolFeature.CONFIGURE_MEM_SLOTS,
        ],
      });
      const client = new VirtioBlkClient(machine.queues[0]!, {
        allocate: (size) => machine.ram.allocate(size),
      });
      const { capacity, blkSize } = readBlkConfig((at, size) => machine.frontend.getConfig(at, size));
      expect([capacity, blkSize]).toEqual([BigInt(MiB / VIRTIO_BLK_SECTOR), 512]);
      expect(machine.slotLimit).toBe(32);

      const inBase = machine.ram.allocate(VIRTIO_BLK_SECTOR);
      expect(client.read(0n, [inBase])).toBe(VirtioBlkStatus.OK);
      expect(Buffer.compare(inBase.bytes, pattern(7, VIRTIO_BLK_SECTOR))).toBe(0);

      for (let slot = 0; slot < 31; slot += 1) {
        machine.plug(slot);
        const out = machine.ram.slotBuffer(slot, 0, CHUNK);
        out.bytes.set(pattern(slot, CHUNK));
        expect(client.write(sectorOf(slot), [out])).toBe(VirtioBlkStatus.OK);
      }
      for (let slot = 0; slot < 30; slot += 1) {
        const back = across(machine, slot);
        back.bytes.fill(0);
        expect(client.read(sectorOf(30 - slot), [back])).toBe(VirtioBlkStatus.OK);
        expect(Buffer.compare(back.bytes, pattern(30 - slot, CHUNK))).toBe(0);
      }
      for (let slot = 0; slot < 31; slot += 2) machine.unplug(slot);
      const staying = machine.ram.slotBuffer(1, 0, CHUNK);
      const reads = [client.startRead(sectorOf(3), [staying])];
      machine.unplug(29);
      machine.plug(0);
      expect(reads.map((each) => client.finish(each))).toEqual([VirtioBlkStatus.OK]);
      expect(Buffer.compare(staying.bytes, pattern(3, CHUNK))).toBe(0);

      expect(client.flush()).toBe(VirtioBlkStatus.OK);
      expect(typeof client.getId()).toBe('string');
      expect(client.read(capacity, [inBase])).toBe(VirtioBlkStatus.IOERR);
      const onHost = readFileSync(disk);
      for (let slot = 0; slot < 31; slot += 1)
        expect(Buffer.compare(onHost.subarray(slot * CHUNK, (slot + 1) * CHUNK), pattern(slot, CHUNK))).toBe(
          0,
        );
      machine.stop();
      machine.close();
      expect(backend.isRunning).toBe(true);
    } finally {
      await backend.stop();
    }
  });
});

const sectorOf = (chunk: number): bigint => BigInt((chunk * CHUNK) / VIRTIO_BLK_SECTOR);
