/** A device whose back-end has gone, or is given up for another. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { maskOf } from '../../protocol/bits.ts';
import {
  HeaderFlag,
  ProtocolFeature,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from '../../protocol/vhost-user.ts';
import { Machine } from '../../src/machine/machine.ts';
import { expectAnswer, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { GiB, MiB } from '../../src/units.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';
import { machine } from './frontend-machine.ts';
import { SLOTS } from './frontend-rig.ts';
import { openFds } from './rig.ts';

const failure = (code: string) => expect.objectContaining({ name: 'ProtocolError', code });
const INIT = [
  'GET_FEATURES',
  'GET_PROTOCOL_FEATURES',
  'SET_PROTOCOL_FEATURES 0x1a00a',
  'GET_MAX_MEM_SLOTS',
  'SET_OWNER',
  'GET_FEATURES',
  'SET_VRING_CALL 0',
  'SET_VRING_ERR 0',
  'SET_VRING_CALL 1',
  'SET_VRING_ERR 1',
];
const CALLS = ['SET_VRING_CALL 0', 'SET_VRING_CALL 1'];
const ring = (index: number, base: number, flags = 0): string[] => [
  `SET_VRING_NUM ${index} 16`,
  `SET_VRING_BASE ${index} ${base}`,
  `SET_VRING_ADDR ${index} ${flags}`,
  `SET_VRING_KICK ${index}`,
];
const ENABLE = ['SET_VRING_ENABLE 0 1', 'SET_VRING_ENABLE 1 1'];
const SET_FEATURES = ['SET_FEATURES 0x160000000', 'GET_STATUS', 'SET_STATUS 0xb'];

let before = 0;
beforeEach(() => (before = openFds()));
afterEach(() => {
  expect(openFds()).toBe(before);
});

describe('reconnect', () => {
  test('says everything again, memory as it is now, and queues go on where their used rings end', () => {
    using machine_ = machine();
    const { rig, plug, unplug, device } = machine_;
    plug(1, 2);
    rig.start();
    rig.die();
    expect(() => plug(3)).toThrow(failure('CLOSED'));
    unplug(1); // goes on without it
    rig.take();
    rig.reconnect();
    expect(rig.take()).toEqual([
      ...INIT,
      ...CALLS,
      ...SET_FEATURES,
      'ADD 0x0+0x10000',
      'ADD 0x200000000+0x1000',
      'ADD 0x300000000+0x1000',
      ...ring(0, 77),
      ...ring(1, 77),
      ...ENABLE,
      ...CALLS,
    ]);
    expect([device.isStarted, device.failure]).toEqual([true, undefined]);
    plug(1);
    expect(rig.take()).toEqual(['ADD 0x100000000+0x1000']);
  });

  test('asks a back-end that lives where it has stopped', () => {
    using machine_ = machine();
    const { rig } = machine_;
    rig.start();
    rig.take();
    rig.bases.push(3, 5);
    rig.reconnect();
    const sent = rig.take();
    expect(sent.slice(0, 4)).toEqual([
      'SET_VRING_ENABLE 0 0',
      'SET_VRING_ENABLE 1 0',
      'GET_VRING_BASE 0',
      'GET_VRING_BASE 1',
    ]);
    expect(sent).toEqual(expect.arrayContaining(['SET_VRING_BASE 0 3', 'SET_VRING_BASE 1 5']));
  });

  test('of a device that is stopped negotiates; the next start says the rest', () => {
    using machine_ = machine();
    const { rig, plug, device } = machine_;
    rig.start();
    device.stop();
    rig.take();
    rig.die();
    plug(1);
    rig.reconnect();
    expect(rig.take()).toEqual(INIT);
    rig.start();
    expect(rig.take().filter((text) => text.startsWith('ADD'))).toEqual([
      'ADD 0x0+0x10000',
      'ADD 0x100000000+0x1000',
    ]);
  });

  test('takes no back-end with a lower limit, or without what the driver uses; the next may do', () => {
    using machine_ = machine();
    const { rig, plug, device } = machine_;
    const features = maskOf(VHOST_USER_F_PROTOCOL_FEATURES, 26, 29, 32);
    rig.start();
    rig.die();
    expect(() => rig.reconnect({ slots: 508n })).toThrow(failure('SLOT_LIMIT'));
    expect(device.failure).toEqual(failure('SLOT_LIMIT'));
    expect(() =>
      rig.reconnect({ slots: 509n, features: maskOf(VHOST_USER_F_PROTOCOL_FEATURES, 32) }),
    ).toThrow(failure('NOT_SUPPORTED'));
    expect(() =>
      rig.reconnect({ features, protocolFeatures: SLOTS & ~maskOf(ProtocolFeature.CONFIGURE_MEM_SLOTS) }),
    ).toThrow(failure('SLOT_LIMIT'));
    plug(1);
    expect(device.table.held).toEqual([]);
    rig.reconnect({ features, protocolFeatures: SLOTS });
    expect([device.isStarted, device.failure, device.limit]).toEqual([true, undefined, 509]);
    expect(rig.table.size).toBe(2);
  });

  test('to one that refuses memory fails, and can be tried again', () => {
    using machine_ = machine();
    const { rig, device } = machine_;
    rig.start();
    rig.die();
    rig.judge = (text) => (text.startsWith('ADD') ? 'refuse' : 'accept');
    expect(() => rig.reconnect()).toThrow(failure('REFUSED'));
    expect(device.isStarted).toBe(false);
    rig.judge = () => 'accept';
    rig.reconnect();
    expect(device.isStarted).toBe(true);
    expect(rig.table.size).toBe(1);
  });

  test('while writes are logged says so to the next, which has to be able to', () => {
    using machine_ = machine();
    const { rig, device } = machine_;
    rig.start();
    device.startLog();
    rig.die();
    expect(() => rig.reconnect({ protocolFeatures: SLOTS & ~maskOf(ProtocolFeature.LOG_SHMFD) })).toThrow(
      failure('NOT_SUPPORTED'),
    );
    rig.take();
    rig.reconnect({ protocolFeatures: SLOTS });
    const logging = 0x1_6000_0000n | maskOf(VHOST_F_LOG_ALL);
    expect(rig.take()).toEqual(
      expect.arrayContaining([
        `SET_FEATURES 0x${logging.toString(16)}`,
        ...ring(0, 77, 1),
        ...ring(1, 77, 1),
        'SET_LOG_BASE',
        ...ENABLE,
      ]),
    );
  });

  test('shows the requests in flight to the next; a reset forgets them', () => {
    const protocolFeatures = SLOTS | maskOf(ProtocolFeature.INFLIGHT_SHMFD);
    using machine_ = machine({ protocolFeatures });
    const { rig, device } = machine_;
    rig.start();
    rig.die();
    rig.reconnect();
    const [made, first, second, ...rest] = rig.inflight;
    const inode = made?.split(' ')[1];
    expect([first, second, rest]).toEqual([`shown ${inode}`, `shown ${inode}`, []]);
    device.reset();
    rig.start();
    expect(rig.inflight.slice(3).map((text) => text.split(' ')[0])).toEqual(['made', 'shown']);
  });

  test('brings a new channel for the requests of the back-end', () => {
    let changes = 0;
    const protocolFeatures = SLOTS | maskOf(ProtocolFeature.CONFIG, ProtocolFeature.BACKEND_REQ);
    const backendRequests = { CONFIG_CHANGE_MSG: () => void (changes += 1) };
    using machine_ = machine({ protocolFeatures, backendRequests });
    const { rig, device } = machine_;
    rig.start();
    rig.die();
    expect(device.serveBackendRequests()).toBe(-1);
    expect(device.backendChannel).toBeUndefined();
    rig.reconnect();
    rig.channel?.send(2, HeaderFlag.NEED_REPLY | 1, new Uint8Array(0));
    device.serveBackendRequests();
    expect(changes).toBe(1);
    expect(rig.channel?.receive()).toMatchObject({ request: 2, flags: 5 });
  });
});

test('a guest’s mount survives its back-end: what it had asked is answered by the next', () => {
  const machine_ = Machine.start({ ram: 64 * MiB, maxmem: 8 * GiB, dimmSlots: 2 });
  const files = new PaperFileSystem();
  const first = new InProcessBackend(files);
  let current = first;
  const wait = (): void => current.turn();
  const device = machine_.addDevice({ name: 'fs0', socket: first.socket, wait });
  const client = new VirtioFsClient(device);
  expectAnswer(client.init(), 'INIT');
  files.size = 100;
  const pending = client.startRead(2n, 7n, 0, [machine_.buffer(16 * MiB, 100)]);
  first[Symbol.dispose]();
  const dimm = { type: 'dimm', id: 'dimm0', size: GiB } as const;
  expect(() => machine_.plug(dimm)).toThrow(failure('CLOSED')); // who notices
  machine_.plug(dimm);
  const second = new InProcessBackend(files);
  current = second;
  device.frontend.reconnect(new VhostUserFrontend(second.socket, { wait }));
  expect(client.finish(pending)).toBe(-5); // the next file system server has not seen INIT
  expectAnswer(client.init(), 'INIT');
  expect(client.read(2n, 7n, 0, [machine_.buffer(16 * MiB, 100)])).toBe(100);
  expect(second.memory.regions.length).toBe(2);
  machine_.close();
  second[Symbol.dispose]();
});
