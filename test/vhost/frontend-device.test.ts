/** The sequences of a device front-end, and what becomes of it when the back-end refuses or dies. */
import { expect, test } from 'vitest';
import { maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { machine } from './frontend-machine.ts';
import { FrontendRig, NO_SLOTS } from './frontend-rig.ts';
import { openFds } from './rig.ts';

const failure = (code: string) => expect.objectContaining({ name: 'ProtocolError', code });
const CALLS = ['SET_VRING_CALL 0', 'SET_VRING_CALL 1'];
const MASKED = CALLS; // to the back-end the descriptors differ, not the messages
const ring = (index: number, base = 0, flags = 0): string[] => [
  `SET_VRING_NUM ${index} 16`,
  `SET_VRING_BASE ${index} ${base}`,
  `SET_VRING_ADDR ${index} ${flags}`,
  `SET_VRING_KICK ${index}`,
];
const STOP = [
  'SET_VRING_ENABLE 0 0',
  'SET_VRING_ENABLE 1 0',
  'GET_VRING_BASE 0',
  'GET_VRING_BASE 1',
  ...MASKED,
];
const REFUSED_ENABLE = ['GET_VRING_BASE 1', 'GET_VRING_BASE 0', ...MASKED];

test('connect negotiates what can be used, and tells whom to call while nobody serves the queues', () => {
  using rig = machine();
  expect(rig.rig.take()).toEqual([
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
  ]);
  expect([rig.device.limit, rig.device.used]).toEqual([509, 1]);
});

test('start, stop and start again: memory is told once, rings go on where they were', () => {
  using machine_ = machine();
  const { rig, device } = machine_;
  rig.take();
  rig.start();
  const features = ['SET_FEATURES 0x160000000', 'GET_STATUS', 'SET_STATUS 0xb'];
  const enable = ['SET_VRING_ENABLE 0 1', 'SET_VRING_ENABLE 1 1'];
  expect(rig.take()).toEqual([
    ...CALLS,
    ...features,
    'ADD 0x0+0x10000',
    ...ring(0),
    ...ring(1),
    ...enable,
    ...CALLS,
  ]);
  rig.bases.push(3, 5);
  device.stop();
  expect(rig.take()).toEqual(STOP);
  rig.start();
  const again = features.slice(0, 2); // FEATURES_OK is set
  expect(rig.take()).toEqual([...CALLS, ...again, ...ring(0, 3), ...ring(1, 5), ...enable, ...CALLS]);
  device.reset();
  expect(rig.take()).toEqual([...STOP, 'RESET_DEVICE']);
  rig.start();
  expect(rig.take()).toContain('SET_VRING_BASE 1 0');
});

test('memory that changes while the device is stopped is told at the next start, the difference only', () => {
  using machine_ = machine();
  const { rig, plug, unplug, device } = machine_;
  plug(1, 2);
  rig.start();
  device.stop();
  rig.take();
  unplug(2, 1);
  plug(3, 2);
  expect(rig.take()).toEqual([]);
  rig.start();
  expect(rig.take().filter((text) => /^(ADD|REM)/.test(text))).toEqual([
    'REM 0x100000000+0x1000',
    'ADD 0x300000000+0x1000',
  ]);
});

test('without slots the whole table is told, at every start', () => {
  using machine_ = machine({ protocolFeatures: NO_SLOTS });
  const { rig, plug, device } = machine_;
  rig.start();
  plug(2);
  device.stop();
  rig.start();
  expect(rig.take().filter((text) => text.startsWith('TABLE'))).toEqual([
    'TABLE 0x0+0x10000',
    'TABLE 0x0+0x10000 0x200000000+0x1000',
    'TABLE 0x0+0x10000 0x200000000+0x1000',
  ]);
});

test('a refused addition fails the operation; undone or not, the next one is not charged with it', () => {
  using machine_ = machine();
  const { rig, plug, unplug, device } = machine_;
  rig.start();
  rig.take();
  rig.judge = (text) => (text.startsWith('ADD 0x200000000') ? 'refuse' : 'accept');
  expect(() => plug(1, 2)).toThrow(failure('REFUSED'));
  expect(device.table.held.length).toBe(2);
  plug(3);
  expect(rig.take()).toEqual(['ADD 0x100000000+0x1000', 'ADD 0x200000000+0x1000', 'ADD 0x300000000+0x1000']);
  unplug(2);
  expect(rig.take()).toEqual([]);
  rig.judge = () => 'accept';
  plug(2);
  expect(rig.take()).toEqual(['ADD 0x200000000+0x1000']);
});

test('a refused removal does not keep the others; it is tried again at the next start', () => {
  using machine_ = machine();
  const { rig, plug, unplug, device } = machine_;
  plug(1, 2, 3);
  rig.start();
  rig.take();
  rig.judge = (text) => (text.startsWith('REM 0x2') ? 'refuse' : 'accept');
  expect(() => unplug(1, 2, 3)).toThrow(failure('REFUSED'));
  expect(rig.take()).toEqual(['REM 0x300000000+0x1000', 'REM 0x200000000+0x1000', 'REM 0x100000000+0x1000']);
  expect(device.table.held.map(({ guestPhysAddr }) => guestPhysAddr)).toEqual([0n, 2n << 32n]);
  device.stop();
  rig.judge = () => 'accept';
  rig.start();
  expect(rig.take()).toContain('REM 0x200000000+0x1000');
  expect(device.table.held.length).toBe(1);
});

test('one region more than the back-end has slots for fails before anything is sent', () => {
  using machine_ = machine({ slots: 2n });
  const { rig, plug, unplug } = machine_;
  rig.start();
  plug(1);
  rig.take();
  expect(() => plug(2)).toThrow(failure('SLOT_LIMIT'));
  unplug(2);
  expect(rig.take()).toEqual([]);
});

test('a back-end that dies fails the operation that notices, and no other', () => {
  using machine_ = machine();
  const { rig, plug, unplug, device } = machine_;
  rig.start();
  rig.judge = (text) => (text.startsWith('ADD') ? 'die' : 'accept');
  expect(() => plug(1)).toThrow(failure('CLOSED'));
  expect(device.failure?.code).toBe('CLOSED');
  expect(device.table.held).toEqual([]);
  unplug(1);
  plug(2);
  device.stop();
  expect(() => rig.start()).toThrow(failure('CLOSED'));
});

test('in the mode of QEMU a refused addition is reported, and begins the next change', () => {
  using machine_ = machine({ mode: 'qemu' });
  const { rig, plug } = machine_;
  rig.start();
  rig.take();
  rig.judge = (text) => (text.startsWith('ADD 0x1') && rig.errors.length === 0 ? 'refuse' : 'accept');
  plug(1);
  expect(rig.errors).toEqual([failure('REFUSED')]);
  plug(2);
  expect(rig.take()).toEqual(['ADD 0x100000000+0x1000', 'ADD 0x100000000+0x1000', 'ADD 0x200000000+0x1000']);
});

test.each([
  ['ADD', ['ADD 0x0+0x10000', ...MASKED]],
  ['SET_VRING_ENABLE 0', ['SET_VRING_ENABLE 0 1', ...REFUSED_ENABLE]],
  ['SET_VRING_ENABLE 1', ['SET_VRING_ENABLE 1 1', ...REFUSED_ENABLE]],
])('a start that fails at %s takes back what it did, and can be tried again', (what, end) => {
  using machine_ = machine();
  const { rig, device } = machine_;
  rig.judge = (text) => (text.startsWith(what) ? 'refuse' : 'accept');
  expect(() => rig.start()).toThrow(failure('REFUSED'));
  expect(rig.take().slice(-end.length)).toEqual(end);
  expect(device.isStarted).toBe(false);
  rig.judge = () => 'accept';
  rig.start();
  expect(rig.table.size).toBe(1);
});

test('a queue outside of shared memory fails the start', () => {
  using machine_ = machine();
  const { rig, device } = machine_;
  const queues = rig.queues.map((queue) => ({ ...queue, usedGpa: 0xfff0n }));
  expect(() => device.start({ features: 0n, queues })).toThrow(failure('UNMAPPED'));
  expect(device.isStarted).toBe(false);
});

test('a ring whose base cannot be had goes on where its used ring ends', () => {
  using machine_ = machine();
  const { rig, device } = machine_;
  rig.start();
  rig.judge = (text) => (text === 'GET_VRING_BASE 1' ? 'refuse' : 'accept');
  expect(() => device.stop()).toThrow(failure('BAD_SIZE'));
  rig.start();
  expect(rig.take()).toContain('SET_VRING_BASE 1 77');
});

test('the log covers the highest region, and rings are told again with it and without', () => {
  using machine_ = machine();
  const { rig, device, plug } = machine_;
  plug(1);
  rig.start();
  rig.take();
  expect(device.startLog().size).toBe(8n * (0x100000fffn / 0x40000n + 1n));
  expect(rig.take()).toEqual([
    'SET_LOG_BASE',
    'SET_FEATURES 0x164000000',
    'GET_STATUS',
    'SET_VRING_ADDR 0 1',
    'SET_VRING_ADDR 1 1',
  ]);
  device.stopLog();
  expect(rig.take()).toEqual([
    'SET_FEATURES 0x160000000',
    'GET_STATUS',
    'SET_VRING_ADDR 0 0',
    'SET_VRING_ADDR 1 0',
  ]);
  device.stop();
  device.startLog();
  rig.take();
  rig.start();
  expect(rig.take().slice(-9)).toEqual([
    ...ring(1, 0, 1),
    'SET_LOG_BASE',
    'SET_VRING_ENABLE 0 1',
    'SET_VRING_ENABLE 1 1',
    ...CALLS,
  ]);
});

test('a back-end with too few queues is not accepted', () => {
  const protocolFeatures = maskOf(ProtocolFeature.MQ);
  using rig = new FrontendRig({ queues: 17, protocolFeatures });
  expect(() => rig.device.connect()).toThrow(failure('NOT_SUPPORTED'));
});

test('a back-end without protocol features has a table of eight, and its rings are not enabled', () => {
  using machine_ = machine({ features: maskOf(32) });
  const { rig, device } = machine_;
  rig.start();
  device.stop();
  expect(device.limit).toBe(8);
  const sent = rig.take();
  expect(sent).toContain('TABLE 0x0+0x10000');
  expect(sent.filter((text) => /PROTOCOL|ENABLE/.test(text))).toEqual([]);
});

test('a reset begins rings anew even if the back-end would not stop them', () => {
  using machine_ = machine();
  const { rig, device } = machine_;
  rig.start();
  rig.judge = (text) => (text === 'GET_VRING_BASE 0' ? 'refuse' : 'accept');
  expect(() => device.reset()).toThrow(failure('BAD_SIZE'));
  expect(rig.take().at(-1)).toBe('RESET_DEVICE');
  rig.start();
  expect(rig.take()).toContain('SET_VRING_BASE 0 0');
});

test('nothing that was opened stays open', () => {
  const before = openFds();
  {
    using machine_ = machine({ features: maskOf(VHOST_USER_F_PROTOCOL_FEATURES, 26) });
    machine_.rig.start();
    machine_.device.startLog();
  }
  expect(openFds()).toBe(before);
});

test('queues of a machine that came by migration begin where they are said to be, once', () => {
  using machine_ = machine();
  const { rig, device } = machine_;
  device.start({ features: device.features, queues: rig.queues, bases: [7, 9] });
  expect(rig.take()).toEqual(expect.arrayContaining([...ring(0, 7), ...ring(1, 9)]));
  rig.bases.push(8, 10);
  device.stop();
  rig.start();
  expect(rig.take()).toEqual(expect.arrayContaining([...ring(0, 8), ...ring(1, 10)]));
});
