/** The virtqueue over real guest memory: shared file slots, mapped and unmapped. */
import { openSync } from 'node:fs';
import { expect, test } from 'vitest';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { mapShared, unmap, viewOf } from '../../src/host/mapping.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { Chain } from '../../src/virtio/chain.ts';
import { DriverQueue } from '../../src/virtio/driver-queue.ts';
import { Virtqueue } from '../../src/virtio/virtqueue.ts';
import { segmentsOf } from './rig.ts';

const SLOT = 0x20_0000;
const RING = 0x1_0000_0000;
const FIRST = RING + SLOT;

test('rings, indirect tables and buffers in slots; a removed slot fails the request, and reads as zeros', () => {
  using memory = new GuestMemory({ maxSlots: 4 });
  const fd = createMemfd('virtqueue-test', 3 * SLOT);
  const address = mapShared(fd, 0, SLOT);
  using _file = new OwnedFd(fd);
  const region = (index: number) => ({
    guestPhysAddr: BigInt(RING + index * SLOT),
    memorySize: BigInt(SLOT),
    userspaceAddr: BigInt(0x7f00_0000_0000 + index * SLOT),
    mmapOffset: BigInt(index * SLOT),
  });
  for (let i = 0; i < 3; i += 1) memory.addRegion(region(i), duplicate(fd));
  const bytes = new Uint8Array(viewOf(address, SLOT));
  const driver = new DriverQueue({ num: 256, eventIdx: true, indirectEntries: 8, bytes, gpa: RING });
  const host = (gpa: number): number => (memory.translate(gpa, 1), memory.lastAddress);
  const device = new Virtqueue(
    memory,
    {
      num: 256,
      descAddress: host(driver.descGpa),
      availAddress: host(driver.availGpa),
      usedAddress: host(driver.usedGpa),
      eventIdx: true,
      indirect: true,
    },
    0,
  );
  const chain = new Chain(device.maxSegments);
  const ask = (): boolean => {
    driver.add([FIRST, FIRST + SLOT - 4], [16, 8], 2, 1);
    driver.publish();
    return device.pop(chain);
  };

  expect(ask()).toBe(true);
  expect(segmentsOf(chain)).toEqual([
    [FIRST, 16, false],
    [FIRST + SLOT - 4, 4, true],
    [FIRST + SLOT, 4, true],
  ]);

  memory.removeRegion(region(2));
  expect(ask()).toBe(false);
  expect([chain.fault, chain.faultGpa]).toEqual(['UNMAPPED', FIRST + SLOT]);

  memory.removeRegion(region(0));
  driver.add([FIRST], [16], 1, 1);
  driver.publish();
  expect(() => device.pop(chain)).toThrow(expect.objectContaining({ code: 'BAD_INDEX' }));
  unmap(address, SLOT);
});

/** The same file under a descriptor of its own. */
function duplicate(fd: number): OwnedFd {
  const copy = openSync(`/proc/self/fd/${fd}`, 'r+');
  return new OwnedFd(copy);
}
