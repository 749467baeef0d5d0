/** Any messages at all: the session answers or ends, nothing is thrown, nothing leaks. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { bitsOf } from '../../protocol/bits.ts';
import { FrontendRequest } from '../../protocol/vhost-user.ts';
import { U64, type Payload } from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { socketPair } from '../../src/host/unix-socket.ts';
import { FEATURES, openFds, RAM, RAM_SIZE, Rig, UVA } from './rig.ts';

let before = 0;
beforeEach(() => {
  new Rig()[Symbol.dispose]();
  before = openFds();
});
afterEach(() => expect(openFds()).toBe(before));

/** Numbers near what means something, so that some messages are accepted. */
const u64 = fc.oneof(
  fc.constantFrom(0n, 1n, BigInt(RAM), UVA + BigInt(RAM), BigInt(RAM_SIZE), 0x1000n, 0x1_0000_0000n),
  fc.constantFrom(2n ** 53n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 0x1000n, 0x100n, FEATURES),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const u32 = fc.oneof(fc.nat(3), fc.constantFrom(16, 256, 1024, 32768, 65536), fc.nat(0xffff_ffff));
const words = fc.array(
  fc.oneof(
    u64.map((value) => U64.encode(value)),
    u32.map(twoWords),
  ),
  { maxLength: 9 },
);

function twoWords(value: number): Uint8Array {
  return U64.encode(BigInt(value) | (BigInt(value & 1) << 32n));
}

/** A message of any request; half of them of the size the request has. */
const message = fc.record({
  request: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 1, max: 44 }) }, { weight: 1, arbitrary: u32 }),
  isSized: fc.boolean(),
  words,
  fds: fc.array(fc.constantFrom('ram', 'eventfd', 'socket' as const), { maxLength: 3 }),
  needReply: fc.boolean(),
  kick: fc.boolean(),
});

function payloadOf(request: number, octets: Buffer, isSized: boolean): Uint8Array {
  const size = frontendRow(request)?.payload.minSize ?? octets.length;
  if (!isSized) return octets;
  return Buffer.concat([octets, Buffer.alloc(size)]).subarray(0, size);
}

test('any sequence of messages leaves a session that serves', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 40 }), (messages) => {
      using rig = new Rig().start();
      using eventfd = new OwnedFd(createEventfd());
      // Not the session's: one that has calls written into that has answers cut into pieces, and itself to blame.
      const [socket, other] = socketPair();
      using _socket = socket;
      using _other = other;
      const fds = { ram: rig.ram.fd.fd, eventfd: eventfd.fd, socket: socket.fd };
      for (const m of messages) {
        const payload = payloadOf(m.request, Buffer.concat(m.words), m.isSized);
        rig.raw(m.request, payload, { fds: m.fds.map((kind) => fds[kind]), needReply: m.needReply });
        if (m.kick) rig.kick(0);
        expect(rig.session.closed).toBe(false);
      }
      // Set up anew, whatever it is in now.
      expect(bitsOf(rig.u64('GET_FEATURES', undefined) as bigint)).toContain(30);
      rig.negotiate();
      expect(rig.setTable([rig.region()])).toBe(0n);
      for (const index of [0, 1]) rig.stop(index);
      rig.setUpRing(0);
      rig.enable(0);
      expect(rig.ping(0)).toBe(true);
    }),
    { numRuns: 150 },
  );
});

test('any octets leave a session that waits, serves or has ended', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { maxLength: 8 }), (pieces) => {
      using rig = new Rig();
      for (const piece of pieces) {
        if (rig.session.closed) return;
        rig.socket.send(piece, [rig.ram.fd.fd]);
        rig.pump();
      }
    }),
    { numRuns: 100 },
  );
});

test('a frame of every request, cut at any octet and continued later, is answered as a whole one', () => {
  const requests = Object.values(FrontendRequest).filter((request) => frontendRow(request)!.fds.min === 0);
  fc.assert(
    fc.property(fc.constantFrom(...requests), fc.nat(40), (request, cut) => {
      using rig = new Rig();
      rig.negotiate();
      const payload = new Uint8Array((frontendRow(request)!.payload as Payload<unknown>).minSize);
      const whole = rig.raw(request, payload);
      const head = Buffer.alloc(12);
      head.writeUInt32LE(request, 0);
      head.writeUInt32LE(9, 4);
      head.writeUInt32LE(payload.length, 8);
      const frame = Buffer.concat([head, payload]);
      const at = Math.min(cut, frame.length - 1);
      if (at > 0) rig.socket.send(frame.subarray(0, at), []);
      rig.pump();
      expect(rig.receive()).toBe('wait');
      rig.socket.send(frame.subarray(at), []);
      rig.pump();
      const answer = rig.receive();
      const got = answer === 'wait' || answer === 'closed' ? 'none' : Uint8Array.from(answer.payload);
      expect(got).toEqual(whole);
    }),
    { numRuns: 100 },
  );
});

test('1,000 slots added and removed leave no mapping, no descriptor and a working ring', () => {
  using rig = new Rig({ maxSlots: 509 }).start();
  const nth = (n: number): object => ({ guestPhysAddr: BigInt(n + 1) << 32n, memorySize: 0x1_0000n });
  const mappings = (): number => readFileSync('/proc/self/maps', 'utf8').split('test-ram').length;
  const open = openFds();
  const mapped = mappings();
  for (let round = 0; round < 5; round += 1) {
    for (let n = 0; n < 200; n += 1) {
      expect(rig.addRegion(nth(n))).toBe(0n);
      if (n % 50 === 0) expect(rig.ping(0)).toBe(true);
    }
    for (let n = 199; n >= 0; n -= 1) expect(rig.removeRegion(nth(n))).toBe(0n);
  }
  expect(openFds()).toBe(open);
  expect(mappings()).toBe(mapped);
  expect(rig.ping(0)).toBe(true);
});
