/** The order of cloud-hypervisor: message by message, and against our own back-end. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { Cleanup, OwnedFd } from '../../src/host/owned-fd.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import { DeviceFrontend } from '../../src/vhost/frontend-device.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';
import { machine } from './frontend-machine.ts';
import { SLOTS } from './frontend-rig.ts';
import { openFds } from './rig.ts';

let before = 0;
beforeEach(() => (before = openFds()));
afterEach(() => {
  expect(openFds()).toBe(before);
});

test('the owner first, no limit asked; one table at the start, the channel last; memory is then added by itself', () => {
  const protocolFeatures = SLOTS | maskOf(ProtocolFeature.BACKEND_REQ);
  using machine_ = machine({ dialect: 'cloud-hypervisor', protocolFeatures, backendRequests: {} });
  const { rig, device, plug, unplug } = machine_;
  expect(rig.take()).toEqual([
    'SET_OWNER',
    'GET_FEATURES',
    'GET_PROTOCOL_FEATURES',
    'SET_PROTOCOL_FEATURES 0x1a02a',
  ]);
  plug(1);
  rig.start();
  expect(rig.take()).toEqual([
    'SET_FEATURES 0x160000000',
    'TABLE 0x0+0x10000 0x100000000+0x1000',
    'SET_VRING_NUM 0 16',
    'SET_VRING_NUM 1 16',
    'SET_VRING_ADDR 0 0',
    'SET_VRING_BASE 0 0',
    'SET_VRING_CALL 0',
    'SET_VRING_KICK 0',
    'SET_VRING_ADDR 1 0',
    'SET_VRING_BASE 1 0',
    'SET_VRING_CALL 1',
    'SET_VRING_KICK 1',
    'SET_VRING_ENABLE 0 1',
    'SET_VRING_ENABLE 1 1',
    'SET_BACKEND_REQ_FD',
  ]);
  plug(2);
  unplug(1);
  expect(rig.take()).toEqual(['ADD 0x200000000+0x1000', 'REM 0x100000000+0x1000']);
  device.stop();
  expect(rig.take()).toEqual([
    'SET_VRING_ENABLE 0 0',
    'SET_VRING_ENABLE 1 0',
    'GET_VRING_BASE 0',
    'GET_VRING_BASE 1',
  ]);
  rig.start();
  expect(rig.take()).toContain('TABLE 0x0+0x10000 0x200000000+0x1000');
});

test('everything is acknowledged, so that any refusal is an error', () => {
  using machine_ = machine({ dialect: 'cloud-hypervisor' });
  const { rig, device } = machine_;
  rig.judge = (text) => (text.startsWith('SET_VRING_BASE 1') ? 'refuse' : 'accept');
  expect(() => rig.start()).toThrow(expect.objectContaining({ code: 'REFUSED' }));
  expect(rig.take().slice(-1)).toEqual(['GET_VRING_BASE 0']);
  expect(device.isStarted).toBe(false);
  rig.judge = () => 'accept';
  rig.start();
  expect(device.isStarted).toBe(true);
});

test('our own back-end takes it, and maps what the model has', () => {
  using owned = new Cleanup();
  const backend = owned.use(new InProcessBackend(new PaperFileSystem()));
  const eventfd = (): number => owned.use(new OwnedFd(createEventfd())).fd;
  const notifiers = [0, 1].map(() => ({ maskedFd: eventfd(), errorFd: eventfd() }));
  const device = owned.use(
    new DeviceFrontend(new VhostUserFrontend(backend.socket, { wait: backend.turn }), {
      name: 'fs0',
      notifiers,
      dialect: 'cloud-hypervisor',
      backendRequests: { CONFIG_CHANGE_MSG: () => undefined },
    }),
  );
  const topology = new MemoryTopology();
  const root = topology.createRegion({ kind: 'container', name: 'system', size: 1n << 40n });
  const space = topology.createAddressSpace('memory', root);
  const ram = [0n, 1n, 2n].map((index) => {
    const name = `ram${index}`;
    const { fd } = owned.use(new OwnedFd(createMemfd(name, 0x10000)));
    const block = { id: name, size: 0x10000n, pageSize: 4096, fd, hostAddress: (index + 1n) << 44n };
    return topology.createRegion({ kind: 'ram', name, size: block.size, block });
  });
  root.addSubregion(0n, ram[0]!);
  root.addSubregion(1n << 32n, ram[1]!);
  device.connect();
  space.addListener(device.listener);
  const queues = [0n, 1n].map((index) => ({
    num: 16,
    descGpa: 0x1000n * index,
    availGpa: 0x1000n * index + 0x100n,
    usedGpa: 0x1000n * index + 0x200n,
    kickFd: eventfd(),
    callFd: eventfd(),
  }));
  const mapped = (): bigint[] => backend.memory.regions.map(({ guestPhysAddr }) => guestPhysAddr);
  device.start({ features: device.features, queues });
  expect(mapped()).toEqual([0n, 1n << 32n]);
  root.addSubregion(2n << 32n, ram[2]!);
  expect(mapped()).toEqual([0n, 1n << 32n, 2n << 32n]);
  root.removeSubregion(ram[1]!);
  expect(mapped()).toEqual([0n, 2n << 32n]);
  device.stop();
  device.start({ features: device.features, queues });
  expect(mapped()).toEqual([0n, 2n << 32n]);
  expect(device.table.held.length).toBe(2);
});
