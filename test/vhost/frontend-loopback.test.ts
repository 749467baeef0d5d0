/** The device front-end, driven by the memory model, against our own back-end. */
import { afterEach, expect, test } from 'vitest';
import { createEventfd } from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { Cleanup, OwnedFd } from '../../src/host/owned-fd.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import { DeviceFrontend } from '../../src/vhost/frontend-device.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';
import { openFds } from './rig.ts';

const SLOT = 0x1000n;
const BASE = 1n << 32n;
let owned = new Cleanup();
afterEach(() => {
  owned[Symbol.dispose]();
  owned = new Cleanup();
});

/** A machine whose memory device has `slots` memslots over one sparse file, in front of a back-end that takes `maxMemSlots`. */
function machine(slots: number, maxMemSlots: number) {
  const backend = owned.use(new InProcessBackend(new PaperFileSystem(), { maxMemSlots }));
  const frontend = new VhostUserFrontend(backend.socket, { wait: backend.turn });
  const eventfd = (): number => owned.use(new OwnedFd(createEventfd())).fd;
  const notifiers = [0, 1].map(() => ({ maskedFd: eventfd(), errorFd: eventfd() }));
  const device = owned.use(new DeviceFrontend(frontend, { name: 'fs0', notifiers }));
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 48n });
  const space = topology.createAddressSpace('memory', root);
  const ram = (id: string, size: bigint, hostAddress: bigint) => {
    const fd = owned.use(new OwnedFd(createMemfd(id, Number(size)))).fd;
    const block = { id, size, pageSize: 0x1000, fd, hostAddress };
    return topology.createRegion({ kind: 'ram', name: id, size, block });
  };
  root.addSubregion(0n, ram('low', 0x10000n, 1n << 44n));
  const target = ram('vmem', SLOT * BigInt(slots), 2n << 44n);
  const aliases = Array.from({ length: slots }, (_, index) => {
    const offset = SLOT * BigInt(index);
    const alias = topology.createRegion({
      kind: 'alias',
      name: `memslot${index}`,
      size: SLOT,
      target,
      offset,
    });
    alias.setUnmergeable(true);
    return alias;
  });
  device.connect();
  space.addListener(device.listener);
  const queues = notifiers.map((_, index) => ({
    num: 16,
    descGpa: BigInt(0x1000 * index),
    availGpa: BigInt(0x1000 * index + 0x100),
    usedGpa: BigInt(0x1000 * index + 0x200),
    kickFd: eventfd(),
    callFd: eventfd(),
  }));
  device.start({ features: device.features, queues });
  const plug = (index: number): void => root.addSubregion(BASE + SLOT * BigInt(index), aliases[index]!);
  const unplug = (index: number): void => root.removeSubregion(aliases[index]!);
  return { backend, device, plug, unplug };
}

test.each([1, 8, 32, 508])('%i memslots come and go, and the back-end maps what the model has', (slots) => {
  const { backend, device, plug, unplug } = machine(slots, 509);
  for (let index = 0; index < slots; index += 1) plug(index);
  expect(backend.memory.regions.length).toBe(slots + 1);
  for (let index = 0; index < slots; index += 2) unplug(index);
  const held = device.table.held.map(({ guestPhysAddr }) => guestPhysAddr);
  expect(new Set(backend.memory.regions.map(({ guestPhysAddr }) => guestPhysAddr))).toEqual(new Set(held));
  expect(held.length).toBe(1 + Math.floor(slots / 2));
  device.stop();
});

test('the memslot that is one too many fails, and the device goes on', () => {
  const { backend, device, plug, unplug } = machine(4, 4);
  [0, 1, 2].forEach(plug);
  expect(() => plug(3)).toThrow(expect.objectContaining({ code: 'SLOT_LIMIT' }));
  unplug(3);
  unplug(0);
  plug(3);
  expect(backend.memory.regions.length).toBe(4);
  expect(device.limit).toBe(4);
  expect(device.failure).toBeUndefined();
});

test('a machine that is taken down leaves no descriptor', () => {
  machine(8, 509).plug(0);
  owned[Symbol.dispose]();
  owned = new Cleanup();
  const before = openFds();
  machine(8, 509).plug(0);
  owned[Symbol.dispose]();
  owned = new Cleanup();
  expect(openFds()).toBe(before);
});
