/** A session from negotiation to the first request, in both dialects, and what ends it. */
import { performance } from 'node:perf_hooks';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { bitsOf, hasBit } from '../../protocol/bits.ts';
import { FrontendRequest, ProtocolFeature } from '../../protocol/vhost-user.ts';
import { U64 } from '../../protocol/vhost-user-payloads.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { Connection } from '../../src/vhost/connection.ts';
import { BUFFERS, FEATURES, header, openFds, Rig, TestDevice, UVA, wasSignalled } from './rig.ts';

let before = 0;
beforeEach(() => {
  new Rig()[Symbol.dispose](); // whatever is opened once is open now
  before = openFds();
});
afterEach(() => expect(openFds()).toBe(before));

describe('negotiation', () => {
  test('what is offered is what the issue asks for, and CONFIG because the device has one', () => {
    using rig = new Rig();
    const features = rig.u64('GET_FEATURES', undefined) as bigint;
    expect(bitsOf(features)).toEqual([26, 28, 29, 30, 32]);
    const protocol = rig.u64('GET_PROTOCOL_FEATURES', undefined) as bigint;
    expect(bitsOf(protocol)).toEqual([0, 1, 3, 5, 9, 10, 13, 15, 16]);
    expect(rig.u64('GET_QUEUE_NUM', undefined)).toBe(2n);
  });

  test('a device without configuration space offers no CONFIG', () => {
    const device = new TestDevice();
    Object.assign(device, { readConfig: undefined });
    using rig = new Rig({ device });
    expect(hasBit(rig.u64('GET_PROTOCOL_FEATURES', undefined) as bigint, ProtocolFeature.CONFIG)).toBe(false);
  });

  test('NEED_REPLY is answered once REPLY_ACK was negotiated, not before', () => {
    using rig = new Rig();
    expect(rig.request('SET_OWNER', undefined)).toBe('none');
    rig.negotiate();
    expect(rig.u64('SET_OWNER', undefined)).toBe(0n);
    expect(rig.request('SET_OWNER', undefined, { needReply: false })).toBe('none');
  });

  test('NEED_REPLY on a request that is always answered brings one answer, not two', () => {
    using rig = new Rig();
    rig.negotiate();
    expect(rig.u64('GET_MAX_MEM_SLOTS', undefined)).toBe(8n);
    expect(rig.receive()).toBe('wait');
  });

  test('status is kept', () => {
    using rig = new Rig();
    rig.negotiate();
    expect(rig.u64('SET_STATUS', 11n)).toBe(0n);
    expect(rig.u64('GET_STATUS', undefined)).toBe(11n);
  });
});

describe('a ring is served', () => {
  test('in the dialect of QEMU: ADD_MEM_REG, then rings, then enable', () => {
    using rig = new Rig().start();
    expect(rig.ping(1)).toBe(true);
    expect(rig.drivers[1]!.lastWritten).toBe(16);
    expect(wasSignalled(rig.calls[1]!)).toBe(true);
    expect(rig.device.served).toEqual([[1, 0]]);
  });

  test('in the dialect of cloud-hypervisor: SET_MEM_TABLE first, memory added later', () => {
    using rig = new Rig();
    rig.negotiate();
    expect(rig.setTable([rig.region()])).toBe(0n);
    rig.setUpRing(0);
    rig.enable(0);
    expect(rig.ping(0)).toBe(true);
    const more = { guestPhysAddr: 0x1_0000_0000n };
    expect(rig.addRegion(more)).toBe(0n);
    rig.offer(0, 1, 0x1_0000_0000);
    rig.pump();
    expect(rig.collect(0)).toBe(1);
  });

  test('without PROTOCOL_FEATURES: rings are enabled from the start', () => {
    using rig = new Rig();
    rig.request('SET_FEATURES', FEATURES & ~(1n << 30n));
    rig.setTable([rig.region()]);
    rig.setUpRing(0);
    expect(rig.ping(0)).toBe(true);
  });

  test('many requests of one kick are answered with one call, in turns', () => {
    using rig = new Rig({ num: 1024 }).start();
    rig.offer(0, 700);
    rig.pump();
    expect(rig.collect(0)).toBe(700);
    expect(wasSignalled(rig.calls[0]!)).toBe(true);
  });

  test('a ring with work for many turns starves neither the other ring nor the socket', () => {
    using rig = new Rig({ num: 1024 }).start();
    rig.offer(0, 1000);
    rig.offer(1, 1);
    rig.poll();
    rig.run();
    expect(rig.device.served.filter(([queue]) => queue === 0).length).toBe(256);
    expect(rig.collect(1)).toBe(1);
    rig.pump();
    expect(rig.collect(0)).toBe(1000);
  });
});

describe('configuration space', () => {
  test('a part of it is read', () => {
    using rig = new Rig();
    rig.negotiate();
    const access = { offset: 36, flags: 0, contents: new Uint8Array(4) };
    const answer = rig.request('GET_CONFIG', access) as Uint8Array;
    expect(Buffer.from(answer).toString('hex')).toBe('24000000040000000000000024252627');
  });

  test('beyond its end, the answer is empty: the error of GET_CONFIG', () => {
    using rig = new Rig();
    rig.negotiate();
    expect(rig.request('GET_CONFIG', { offset: 37, flags: 0, contents: new Uint8Array(4) })).toEqual(
      new Uint8Array(0),
    );
  });

  test('a write is refused; a migration may bring what we have', () => {
    using rig = new Rig();
    rig.negotiate();
    const ours = { offset: 0, contents: Uint8Array.of(0, 1, 2, 3) };
    expect(rig.u64('SET_CONFIG', { ...ours, flags: 0 })).toBe(1n);
    expect(rig.u64('SET_CONFIG', { ...ours, flags: 1 })).toBe(0n);
    expect(rig.u64('SET_CONFIG', { ...ours, flags: 1, contents: Uint8Array.of(9) })).toBe(1n);
  });

  test('a change is told on the back-end channel while a ring is started', () => {
    using rig = new Rig();
    const [ours, theirs] = socketPair();
    using channel = new Connection(new MessageSocket(ours));
    rig.negotiate();
    expect(rig.u64('SET_BACKEND_REQ_FD', undefined, { fds: [theirs.fd] })).toBe(0n);
    theirs.close();
    expect(rig.session.notifyConfigChange()).toBe(false);
    rig.addRegion();
    rig.setUpRing(0);
    rig.enable(0);
    expect(rig.ping(0)).toBe(true);
    expect(rig.session.notifyConfigChange()).toBe(true);
    expect(channel.receive()).toMatchObject({ request: 2, flags: 1, fds: [] });
  });
});

describe('reset', () => {
  test('RESET_DEVICE stops and disables rings, resets the device and keeps memory, call and err', () => {
    using rig = new Rig().start();
    expect(rig.ping(0)).toBe(true);
    expect(rig.u64('RESET_DEVICE', undefined)).toBe(0n);
    expect(rig.device.resets).toBe(1);
    expect(rig.ping(0)).toBe(false);
    expect(rig.memory.regions.length).toBe(1);
    rig.drivers[0]!.reset();
    rig.request('SET_VRING_NUM', { index: 0, num: 16 });
    rig.request('SET_VRING_BASE', { index: 0, num: 0 });
    rig.request('SET_VRING_ADDR', rig.addr(0));
    rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!);
    rig.enable(0);
    wasSignalled(rig.calls[0]!);
    expect(rig.ping(0)).toBe(true);
    expect(wasSignalled(rig.calls[0]!)).toBe(true);
  });

  test('RESET_OWNER is ignored', () => {
    using rig = new Rig().start();
    expect(rig.u64('RESET_OWNER', undefined)).toBe(0n);
    expect(rig.ping(0)).toBe(true);
  });
});

describe('deferred requests', () => {
  test('are completed when the device can', () => {
    using rig = new Rig().start();
    rig.device.isDeferring = true;
    rig.offer(0, 2);
    rig.pump();
    expect(rig.collect(0)).toBe(0);
    expect(rig.run()).toBeGreaterThan(0);
    rig.device.isDeferring = false;
    const until = Date.now() + 1000;
    while (rig.run() !== -1 && Date.now() < until);
    expect(rig.collect(0)).toBe(2);
    expect(wasSignalled(rig.calls[0]!)).toBe(true);
  });

  test('are answered before GET_VRING_BASE is', () => {
    using rig = new Rig().start();
    rig.device.isDeferring = true;
    rig.offer(0, 3);
    rig.offer(1, 1);
    rig.pump();
    expect(rig.stop(0)).toBe(3);
    expect(rig.collect(0)).toBe(3);
    expect(rig.collect(1)).toBe(0);
  });

  test('are answered before the session ends', () => {
    using rig = new Rig().start();
    rig.device.isDeferring = true;
    rig.offer(0, 1);
    rig.pump();
    rig.session.close();
    expect(rig.collect(0)).toBe(1);
  });
});

describe('the end of a session', () => {
  test('the front-end leaves: everything it gave is let go of, and the device is reset', () => {
    using rig = new Rig().start();
    const open = openFds();
    rig.socket.close();
    rig.pump();
    expect(rig.session.closed).toBe(true);
    expect(rig.memory.regions).toEqual([]);
    expect(rig.device.resets).toBe(1);
    expect(rig.watched).toBe(0);
    // Both ends of the socket; kick, call and err of two rings.
    expect(open - openFds()).toBe(2 + 6);
    rig.session.close();
    expect(rig.device.resets).toBe(1);
  });

  test('descriptors of a message that never became complete are closed', () => {
    using rig = new Rig();
    using fd = new OwnedFd(createEventfd());
    rig.socket.send(header(FrontendRequest.ADD_MEM_REG, 9, 40), [fd.fd, fd.fd]);
    rig.pump();
    expect(rig.session.closed).toBe(false);
    rig.socket.close();
    rig.pump();
    expect(rig.session.closed).toBe(true);
  });

  test('a message whose rest does not come ends the session after 5 s', () => {
    using rig = new Rig();
    rig.socket.send(header(FrontendRequest.SET_VRING_NUM, 1, 8), []);
    rig.pump();
    const wait = rig.run();
    expect([wait > 4000, wait <= 5001]).toEqual([true, true]);
    const now = performance.now();
    const clock = vi.spyOn(performance, 'now').mockReturnValue(now + 5001);
    rig.run();
    clock.mockRestore();
    expect(rig.session.closed).toBe(true);
  });

  test('descriptors of requests that take none are closed', () => {
    using rig = new Rig().start();
    using fd = new OwnedFd(createEventfd());
    const open = openFds();
    expect(rig.u64('SET_OWNER', undefined, { fds: Array.from({ length: 32 }, () => fd.fd) })).toBe(1n);
    expect(openFds()).toBe(open);
  });
});

test('a message may come in pieces of any size, its descriptors with any of them', () => {
  using rig = new Rig();
  rig.negotiate();
  const payload = Buffer.concat([Buffer.alloc(8), regionOctets(rig)]);
  const frame = Buffer.concat([header(FrontendRequest.ADD_MEM_REG, 9, 40), payload]);
  for (let i = 0; i < frame.length; i += 1) {
    rig.socket.send(frame.subarray(i, i + 1), i === 30 ? [rig.ram.fd.fd] : []);
    rig.pump();
  }
  const answer = rig.receive();
  expect(answer).toMatchObject({ request: FrontendRequest.ADD_MEM_REG, flags: 5 });
  expect(rig.memory.resolveUva(UVA + BigInt(BUFFERS), 1)).toBeGreaterThan(0);
});

test('messages that come together are answered in order', () => {
  using rig = new Rig();
  rig.negotiate();
  const requests = [1, 17, 36];
  rig.socket.send(Buffer.concat(requests.map((request) => header(request, 1, 0))), []);
  rig.pump();
  const answers = requests.map(() => rig.receive() as Exclude<ReturnType<Rig['receive']>, string>);
  expect(answers.map(({ request }) => request)).toEqual(requests);
});

const regionOctets = (rig: Rig): Buffer => {
  const { guestPhysAddr, memorySize, userspaceAddr, mmapOffset } = rig.region();
  return Buffer.concat(
    [guestPhysAddr, memorySize, userspaceAddr, mmapOffset].map((value) => U64.encode(value)),
  );
};
