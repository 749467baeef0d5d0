/**
 * `npm run bench:ring`: what taking a request and giving it back costs the virtqueue, and what it allocates.
 *
 * Driver and device take turns in one thread, over real guest memory; both are in the figure. With so many memory slots
 * mapped, each buffer in another one.
 */
import { openSync } from 'node:fs';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { mapShared, viewOf } from '../../src/host/mapping.ts';
import { MiB } from '../../src/units.ts';
import { Chain } from '../../src/virtio/chain.ts';
import { DriverQueue } from '../../src/virtio/driver-queue.ts';
import { Virtqueue } from '../../src/virtio/virtqueue.ts';

const SLOT = 2 * MiB;
const NUM = 1024;
const BATCH = 32;
const ROUNDS = 100_000;

for (const slots of [1, 508])
  for (const indirectEntries of [0, 8]) {
    const { nanos, bytes } = measure(slots, indirectEntries);
    const layout = indirectEntries > 0 ? 'indirect' : 'direct';
    console.log(
      `${layout.padEnd(9)}${slots} slots: ${nanos.toFixed(0)} ns, ${bytes.toFixed(1)} bytes a request`,
    );
  }

function measure(slots: number, indirectEntries: number): { readonly nanos: number; readonly bytes: number } {
  using memory = new GuestMemory({ maxSlots: 1024 });
  const at = mapShared(addSlots(memory, slots), 0, SLOT);
  const bytes = new Uint8Array(viewOf(at, SLOT));
  const driver = new DriverQueue({ num: NUM, eventIdx: true, indirectEntries, bytes, gpa: 0 });
  const host = (gpa: number): number => (memory.translate(gpa, 1), memory.lastAddress);
  const device = new Virtqueue(
    memory,
    {
      num: NUM,
      descAddress: host(driver.descGpa),
      availAddress: host(driver.availGpa),
      usedAddress: host(driver.usedGpa),
      eventIdx: true,
      indirect: indirectEntries > 0,
    },
    0,
  );
  const chain = new Chain(device.maxSegments);
  const gpas = Float64Array.of(SLOT, SLOT, SLOT);
  const lengths = Float64Array.of(80, 16, 4096);
  let next = 0;
  const round = (): void => {
    for (let i = 0; i < BATCH; i += 1) {
      next = (next + 1) % slots;
      gpas.fill(SLOT + next * SLOT);
      driver.add(gpas, lengths, 3, 1);
    }
    driver.publish();
    driver.kickNeeded();
    while (device.pop(chain)) device.pushUsed(chain.head, 4112);
    device.publish();
    device.needsCall();
    device.enableNotifications();
    while (driver.collect() >= 0);
  };
  for (let i = 0; i < ROUNDS / 10; i += 1) round();
  const began = performance.now();
  for (let i = 0; i < ROUNDS; i += 1) round();
  const ms = performance.now() - began;
  // Few enough that no garbage is collected meanwhile.
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < ROUNDS / 100; i += 1) round();
  const grown = process.memoryUsage().heapUsed - before;
  return { nanos: (ms * 1e6) / (ROUNDS * BATCH), bytes: grown / ((ROUNDS / 100) * BATCH) };
}

/** Maps so many slots after the one with the ring. @returns the file they are in */
function addSlots(memory: GuestMemory, slots: number): number {
  const fd = createMemfd('ring-bench', (slots + 1) * SLOT);
  for (let i = 0; i <= slots; i += 1) {
    const at = BigInt(i * SLOT);
    const region = { guestPhysAddr: at, memorySize: BigInt(SLOT), userspaceAddr: at, mmapOffset: at };
    memory.addRegion(region, new OwnedFd(openSync(`/proc/self/fd/${fd}`, 'r+')));
  }
  return fd;
}
