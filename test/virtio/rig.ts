/** A driver queue and the virtqueue that serves it, over one piece of memory. */
import { DriverQueue, driverQueueBytes } from '../../src/virtio/driver-queue.ts';
import { Chain } from '../../src/virtio/chain.ts';
import { Virtqueue, type VirtqueueSetup } from '../../src/virtio/virtqueue.ts';
import { PaperMemory } from '../support/paper-memory.ts';
import { octetsOf } from '../support/views.ts';

/** Guest physical address of the ring; buffers lie from `BUFFERS` on. */
const RING = 0x10_0000;
export const BUFFERS = 0x1_0000_0000;
export const BUFFERS_SIZE = 0x1_0000;

export interface RigOptions {
  readonly num?: number;
  readonly eventIdx?: boolean;
  /** The device takes indirect tables, whatever the driver makes. */
  readonly indirect?: boolean;
  readonly indirectEntries?: number;
  readonly base?: number;
  readonly reject?: VirtqueueSetup['reject'];
  readonly usedGpa?: number;
}

export interface Rig {
  readonly memory: PaperMemory;
  readonly driver: DriverQueue;
  readonly device: Virtqueue;
  readonly chain: Chain;
}

/** Memory for rings up to `num` entries, and two adjacent regions of buffers, not adjacent in this process. */
export function ringMemory(num: number, indirectEntries: number): PaperMemory {
  const ring = Math.ceil(driverQueueBytes(num, indirectEntries) / 4096) * 4096;
  return new PaperMemory([
    { gpa: BUFFERS + BUFFERS_SIZE, size: BUFFERS_SIZE },
    { gpa: RING, size: ring },
    { gpa: BUFFERS, size: BUFFERS_SIZE },
  ]);
}

export function makeRig(options: RigOptions = {}, memory?: PaperMemory): Rig {
  const { num = 8, eventIdx = true, indirectEntries = 0, base = 0 } = options;
  const shared = memory ?? ringMemory(num, indirectEntries);
  const at = shared.addressOf(RING);
  const bytes = octetsOf(shared.ringView(at, driverQueueBytes(num, indirectEntries)));
  bytes.fill(0);
  const driver = new DriverQueue({ num, eventIdx, indirectEntries, bytes, gpa: RING });
  driver.reset(base);
  const device = new Virtqueue(
    shared,
    {
      num,
      descAddress: shared.addressOf(driver.descGpa),
      availAddress: shared.addressOf(driver.availGpa),
      usedAddress: shared.addressOf(driver.usedGpa),
      eventIdx,
      indirect: options.indirect ?? indirectEntries > 0,
      usedGpa: options.usedGpa,
      reject: options.reject,
    },
    base,
  );
  const chain = new Chain();
  chain.reserve(device.maxSegments);
  return { memory: shared, driver, device, chain };
}

/** The chain's segments as plain values: guest address, length, writable. */
export const segmentsOf = (chain: Chain): readonly (readonly [number, number, boolean])[] =>
  Array.from({ length: chain.readableCount + chain.writableCount }, (_, i) => [
    chain.gpa[i]!,
    chain.length[i]!,
    i >= chain.readableCount,
  ]);
