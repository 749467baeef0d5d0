/** The state machine of a ring: examples, and a model that any sequence of messages is compared with. */
import { writeSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { VHOST_USER_VRING_NOFD_MASK } from '../../protocol/vhost-user.ts';
import { GuestError } from '../../src/errors.ts';
import { createEventfd, signalEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { socketPair } from '../../src/host/unix-socket.ts';
import { Virtqueue } from '../../src/virtio/virtqueue.ts';
import { FEATURES, openFds, RAM, RAM_SIZE, Rig, UVA, wasSignalled } from './rig.ts';

let before = 0;
beforeEach(() => {
  new Rig()[Symbol.dispose]();
  before = openFds();
});
afterEach(() => expect(openFds()).toBe(before));

describe('kick and enable', () => {
  test('a kick before SET_VRING_ENABLE is served after it', () => {
    using rig = new Rig();
    rig.negotiate();
    rig.addRegion();
    rig.setUpRing(0);
    expect(rig.ping(0)).toBe(false);
    expect(rig.enable(0)).toBe(0n);
    expect(rig.collect(0)).toBe(1);
  });

  test('a ring is not started before its first kick', () => {
    using rig = new Rig();
    rig.negotiate();
    rig.addRegion();
    rig.setUpRing(0);
    rig.drivers[0]!.add([RAM + 0x10_0000], [16], 1, 1);
    rig.drivers[0]!.publish();
    rig.enable(0);
    rig.pump();
    expect(rig.collect(0)).toBe(0);
    rig.kick(0);
    rig.pump();
    expect(rig.collect(0)).toBe(1);
  });

  test('a kick that came before SET_VRING_KICK counts', () => {
    using rig = new Rig();
    rig.negotiate();
    rig.addRegion();
    rig.kick(0);
    rig.setUpRing(0);
    rig.enable(0);
    expect(rig.session.vrings[0]!.state).toBe('started');
  });

  test('the order of messages does not matter: kick and enable first, addresses last', () => {
    using rig = new Rig();
    rig.negotiate();
    rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!);
    rig.enable(0);
    rig.drivers[0]!.reset();
    rig.offer(0);
    rig.pump();
    rig.addRegion();
    rig.request('SET_VRING_ADDR', rig.addr(0));
    expect(rig.collect(0)).toBe(0);
    rig.request('SET_VRING_NUM', { index: 0, num: 16 });
    expect(rig.collect(0)).toBe(1);
    expect(wasSignalled(rig.errs[0]!)).toBe(false);
  });

  test.each([true, false])('an idle ring asks for kicks, with event_idx %s', (eventIdx) => {
    using rig = new Rig({ eventIdx }).start();
    const driver = rig.drivers[0]!;
    for (let i = 0; i < 3; i += 1) {
      driver.add([RAM + 0x10_0000], [16], 1, 1);
      driver.publish();
      expect(driver.kickNeeded()).toBe(true);
      rig.kick(0);
      rig.pump();
      expect(rig.collect(0)).toBe(1);
    }
  });

  test('a request that arrives just before kicks are asked for again is served without one', () => {
    using rig = new Rig().start();
    const driver = rig.drivers[0]!;
    const spy = vi.spyOn(Virtqueue.prototype, 'enableNotifications').mockImplementationOnce(function (
      this: Virtqueue,
    ) {
      driver.add([RAM + 0x10_0000], [16], 1, 1);
      driver.publish();
      expect(driver.kickNeeded()).toBe(false);
      return this.enableNotifications();
    });
    rig.offer(0);
    driver.kickNeeded();
    rig.pump();
    expect(rig.collect(0)).toBe(2);
    expect(spy).toHaveBeenCalledTimes(3); // the one that was intercepted, its own, and the last
    spy.mockRestore();
  });

  test('a disabled ring is not served; what was kicked meanwhile is served when it is enabled again', () => {
    using rig = new Rig().start();
    expect(rig.ping(0)).toBe(true);
    rig.enable(0, 0);
    expect(rig.ping(0)).toBe(false);
    rig.enable(0, 1);
    expect(rig.collect(0)).toBe(1);
  });

  test('without a kick fd the ring is polled', () => {
    using rig = new Rig().start();
    const value = BigInt(VHOST_USER_VRING_NOFD_MASK);
    expect(rig.u64('SET_VRING_KICK', value)).toBe(0n);
    rig.drivers[0]!.add([RAM + 0x10_0000], [16], 1, 1);
    rig.drivers[0]!.publish();
    expect(rig.run()).toBeLessThanOrEqual(1);
    rig.run();
    expect(rig.collect(0)).toBe(1);
    expect(rig.run()).toBe(1);
    expect(rig.stop(0)).toBe(1);
    expect(rig.run()).toBe(-1);
  });

  test('without a call fd nothing is signalled, and the ring works', () => {
    using rig = new Rig().start();
    expect(rig.u64('SET_VRING_CALL', BigInt(VHOST_USER_VRING_NOFD_MASK))).toBe(0n);
    expect(rig.ping(0)).toBe(true);
    expect(wasSignalled(rig.calls[0]!)).toBe(false);
  });

  test('kick and call may be replaced while the ring runs', () => {
    using rig = new Rig().start();
    expect(rig.ping(0)).toBe(true);
    using kick = new OwnedFd(createEventfd());
    using call = new OwnedFd(createEventfd());
    rig.setFd('SET_VRING_KICK', 0, kick);
    rig.setFd('SET_VRING_CALL', 0, call);
    wasSignalled(rig.calls[0]!);
    expect(rig.ping(0)).toBe(false);
    signalEventfd(kick.fd);
    rig.pump();
    expect(rig.collect(0)).toBe(1);
    expect([wasSignalled(call), wasSignalled(rig.calls[0]!)]).toEqual([true, false]);
  });

  test('a call fd whose counter is full, and which blocks, does not stop us', () => {
    using rig = new Rig().start();
    using call = new OwnedFd(createEventfd(0));
    rig.setFd('SET_VRING_CALL', 0, call);
    const full = Buffer.from('feffffffffffffff', 'hex');
    expect(writeTo(call, full)).toBe(8);
    expect(rig.ping(0)).toBe(true);
  });

  test('a descriptor that cannot be a kick is refused, and the old one stays', () => {
    using rig = new Rig().start();
    const [one, other] = socketPair();
    expect(rig.setFd('SET_VRING_KICK', 0, one)).toBe(1n);
    expect(rig.setFd('SET_VRING_KICK', 0, rig.ram.fd)).toBe(1n);
    one.close();
    other.close();
    expect(rig.ping(0)).toBe(true);
  });
});

describe('GET_VRING_BASE', () => {
  test('answers where to go on, and a ring set up there goes on', () => {
    using rig = new Rig().start();
    for (let i = 0; i < 5; i += 1) expect(rig.ping(0)).toBe(true);
    expect(rig.stop(0)).toBe(5);
    rig.offer(0); // not served: the ring is stopped
    rig.pump();
    expect(rig.collect(0)).toBe(0);
    rig.request('SET_VRING_BASE', { index: 0, num: 5 });
    rig.request('SET_VRING_ADDR', rig.addr(0));
    rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!);
    rig.kick(0);
    rig.pump();
    expect(rig.collect(0)).toBe(1);
  });

  test('forgets kicks that were served: the same kick fd does not start the ring again by itself', () => {
    using rig = new Rig().start();
    expect(rig.ping(0)).toBe(true);
    rig.stop(0);
    rig.request('SET_VRING_BASE', { index: 0, num: 0 });
    rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!);
    rig.pump();
    expect(rig.session.vrings[0]!.state).toBe('armed');
  });

  test('a ring that goes on where it was serves what its driver has kicked for before, without another kick', () => {
    using rig = new Rig().start();
    expect(rig.ping(0)).toBe(true);
    expect(rig.stop(0)).toBe(1);
    rig.offer(0); // its kick, if any, went to nobody
    rig.request('SET_VRING_BASE', { index: 0, num: 1 });
    rig.request('SET_VRING_ADDR', rig.addr(0));
    rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!);
    rig.pump();
    expect(rig.collect(0)).toBe(1);
  });

  test('of a ring that was never started answers the base that was set', () => {
    using rig = new Rig();
    rig.negotiate();
    rig.request('SET_VRING_BASE', { index: 1, num: 0xffff });
    expect([rig.stop(0), rig.stop(1)]).toEqual([0, 0xffff]);
  });
});

describe('a ring that cannot be trusted', () => {
  const breakRing = (rig: Rig): void => {
    rig.drivers[0]!.addRaw(16); // a head outside a ring of 16
    rig.drivers[0]!.publish();
    rig.kick(0);
    rig.pump();
  };

  test('signals err once and is not served; the other ring goes on', () => {
    using rig = new Rig().start();
    breakRing(rig);
    expect(wasSignalled(rig.errs[0]!)).toBe(true);
    expect(rig.session.vrings[0]!.state).toBe('broken');
    rig.kick(0);
    rig.pump();
    expect(wasSignalled(rig.errs[0]!)).toBe(false);
    expect(rig.ping(1)).toBe(true);
  });

  test('works again after it was stopped and set up anew', () => {
    using rig = new Rig().start();
    breakRing(rig);
    rig.stop(0);
    rig.setUpRing(0);
    expect(rig.ping(0)).toBe(true);
  });

  test('works again after it was set up anew without being stopped', () => {
    using rig = new Rig().start();
    breakRing(rig);
    rig.setUpRing(0);
    expect(rig.ping(0)).toBe(true);
  });

  test('the same if the device says so', () => {
    using rig = new Rig().start();
    rig.device.failure = new GuestError('BAD_REQUEST', 'test');
    expect(rig.ping(0)).toBe(false);
    expect(wasSignalled(rig.errs[0]!)).toBe(true);
    rig.device.failure = undefined;
    rig.setUpRing(0);
    expect(rig.ping(0)).toBe(true);
  });

  test('a bad chain fails alone: it is given back with nothing written', () => {
    using rig = new Rig().start();
    rig.offer(0, 1, RAM + RAM_SIZE); // beyond the last region
    rig.pump();
    expect(rig.collect(0)).toBe(1);
    expect(rig.drivers[0]!.lastWritten).toBe(0);
    expect(rig.ping(0)).toBe(true);
  });
});

describe('memory under a ring', () => {
  test('that goes away stops the ring and signals err; when it comes back the ring goes on', () => {
    using rig = new Rig().start();
    expect(rig.ping(0)).toBe(true);
    expect(rig.removeRegion()).toBe(0n);
    expect([wasSignalled(rig.errs[0]!), wasSignalled(rig.errs[1]!)]).toEqual([true, true]);
    expect(rig.ping(0)).toBe(false);
    expect(rig.addRegion()).toBe(0n);
    expect(rig.collect(0)).toBe(1);
    expect(wasSignalled(rig.errs[0]!)).toBe(false);
  });

  test('that is set up anew elsewhere works', () => {
    using rig = new Rig().start();
    rig.removeRegion();
    const userspaceAddr = UVA + 0x1234_5000_0000n;
    rig.addRegion({ userspaceAddr });
    expect(rig.ping(0)).toBe(false);
    const shift = userspaceAddr - (UVA + BigInt(RAM));
    const { descUserAddr, availUserAddr, usedUserAddr } = rig.addr(0) as Record<string, bigint>;
    const moved = { descUserAddr: descUserAddr! + shift, availUserAddr: availUserAddr! + shift };
    expect(rig.u64('SET_VRING_ADDR', rig.addr(0, { ...moved, usedUserAddr: usedUserAddr! + shift }))).toBe(
      0n,
    );
    expect(rig.collect(0)).toBe(1);
  });

  test('that is replaced by SET_MEM_TABLE is found again, and the ring goes on where it was', () => {
    using rig = new Rig().start();
    for (let i = 0; i < 3; i += 1) expect(rig.ping(0)).toBe(true);
    for (let i = 0; i < 3; i += 1) {
      const other = rig.region({ guestPhysAddr: 0x1000_0000n, memorySize: 0x1000n * BigInt(i + 1) });
      expect(rig.setTable([rig.region(), other])).toBe(0n);
      expect(rig.ping(0)).toBe(true);
    }
    expect(rig.stop(0)).toBe(6);
    expect(wasSignalled(rig.errs[0]!)).toBe(false);
  });

  test('a request deferred while the ring was away is answered when it is back', () => {
    using rig = new Rig().start();
    rig.device.isDeferring = true;
    rig.offer(0);
    rig.pump();
    rig.removeRegion();
    rig.device.isDeferring = false;
    const until = Date.now() + 1000;
    while (rig.run() !== -1 && Date.now() < until);
    rig.addRegion();
    rig.pump();
    expect(rig.collect(0)).toBe(1);
  });

  test('a request answered while the ring was away is not given to a ring that is set up later', () => {
    using rig = new Rig().start();
    rig.device.isDeferring = true;
    rig.offer(0);
    rig.pump();
    rig.removeRegion();
    rig.device.isDeferring = false;
    const until = Date.now() + 1000;
    while (rig.run() !== -1 && Date.now() < until);
    rig.stop(0);
    rig.addRegion();
    rig.setUpRing(0);
    rig.kick(0);
    expect(rig.collect(0)).toBe(0);
    expect(rig.ping(0)).toBe(true);
  });

  test('a request answered while the ring was away is given back before the ring stops', () => {
    using rig = new Rig().start();
    rig.device.isDeferring = true;
    rig.offer(0);
    rig.pump();
    rig.removeRegion();
    rig.device.isDeferring = false;
    const until = Date.now() + 1000;
    while (rig.run() !== -1 && Date.now() < until);
    rig.addRegion();
    rig.stop(0);
    expect(rig.collect(0)).toBe(1);
  });
});

/** What the specification says about one ring: nothing but flags. */
interface Model {
  hasKickFd: boolean;
  isStarted: boolean;
  isEnabled: boolean;
  isMapped: boolean;
  offered: number;
  answered: number;
}

const settle = (model: Model): void => {
  if (model.isStarted && model.isEnabled && model.isMapped) model.answered = model.offered;
};

const COMMANDS: readonly ((model: Model, rig: Rig) => void)[] = [
  function offerAndKick(model, rig) {
    if (rig.drivers[0]!.freeDescriptors === 0) return;
    rig.offer(0);
    rig.pump();
    model.offered += 1;
    if (model.hasKickFd) model.isStarted = true;
  },
  function offerWithoutKick(model, rig) {
    if (rig.drivers[0]!.freeDescriptors === 0) return;
    // A running ring would see it only at its next kick; the model would have to know when that is.
    if (model.isStarted) return;
    rig.drivers[0]!.add([RAM + 0x10_0000], [64], 1, 0);
    rig.drivers[0]!.publish();
    model.offered += 1;
  },
  function enable(model, rig) {
    expect(rig.enable(0, 1)).toBe(0n);
    model.isEnabled = true;
  },
  function disable(model, rig) {
    expect(rig.enable(0, 0)).toBe(0n);
    model.isEnabled = false;
  },
  function stop(model, rig) {
    expect(rig.stop(0)).toBe(model.answered & 0xffff);
    model.hasKickFd = false;
    model.isStarted = false;
  },
  function setKick(model, rig) {
    wasSignalled(rig.kicks[0]!);
    expect(rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!)).toBe(0n);
    model.hasKickFd = true;
  },
  function setKickTwice(model, rig) {
    wasSignalled(rig.kicks[0]!);
    rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!);
    rig.setFd('SET_VRING_KICK', 0, rig.kicks[0]!);
    model.hasKickFd = true;
  },
  function setAddr(model, rig) {
    expect(rig.u64('SET_VRING_ADDR', rig.addr(0))).toBe(model.isMapped ? 0n : 1n);
  },
  function setBase(model, rig) {
    expect(rig.u64('SET_VRING_BASE', { index: 0, num: model.answered })).toBe(0n);
  },
  function setNum(_, rig) {
    expect(rig.u64('SET_VRING_NUM', { index: 0, num: 16 })).toBe(0n);
  },
  function refusedNum(_, rig) {
    expect(rig.u64('SET_VRING_NUM', { index: 0, num: 3 })).toBe(1n);
  },
  function toggleLog(_, rig) {
    expect(rig.u64('SET_FEATURES', FEATURES | (1n << 26n))).toBe(0n);
  },
  function removeMemory(model, rig) {
    expect(rig.removeRegion()).toBe(model.isMapped ? 0n : 1n);
    model.isMapped = false;
  },
  function addMemory(model, rig) {
    expect(rig.addRegion()).toBe(model.isMapped ? 1n : 0n);
    model.isMapped = true;
  },
  function setTable(model, rig) {
    expect(rig.setTable([rig.region()])).toBe(0n);
    model.isMapped = true;
  },
];

test('any sequence of messages: a ring is served exactly if it is started, enabled and mapped', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(COMMANDS.length - 1), { maxLength: 60 }), (steps) => {
      using rig = new Rig();
      rig.negotiate();
      rig.addRegion();
      rig.setUpRing(0);
      const model: Model = {
        hasKickFd: true,
        isStarted: false,
        isEnabled: false,
        isMapped: true,
        offered: 0,
        answered: 0,
      };
      let collected = 0;
      for (const step of steps) {
        COMMANDS[step]!(model, rig);
        rig.pump();
        settle(model);
        collected += rig.collect(0);
        expect(collected, `after ${COMMANDS[step]!.name}`).toBe(model.answered);
        expect(rig.session.closed).toBe(false);
      }
      // Whatever happened, the ring works again once it is set up.
      if (!model.isMapped) rig.addRegion();
      rig.stop(0);
      rig.setUpRing(0);
      rig.enable(0);
      expect(rig.ping(0)).toBe(true);
    }),
    { numRuns: 150 },
  );
});

function writeTo(fd: OwnedFd, octets: Uint8Array): number {
  return writeSync(fd.fd, octets);
}
