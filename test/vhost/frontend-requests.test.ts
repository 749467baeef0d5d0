/** Requests of a back-end, as the front-end serves them: over a socket, from octets. */
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HeaderFlag, ProtocolFeature, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { Shared, U64, VringState } from '../../protocol/vhost-user-payloads.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { Connection } from '../../src/vhost/connection.ts';
import {
  type BackendRequestHandlers,
  BackendRequestServer,
  featuresServed,
} from '../../src/vhost/frontend-requests.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import { openFds } from './rig.ts';

const NEED_REPLY = HeaderFlag.NEED_REPLY | 1;
const ACK = { flags: HeaderFlag.REPLY | 1, value: 0n };
const NACK = { flags: HeaderFlag.REPLY | 1, value: 1n };
const NEGOTIATED: ReadonlySet<ProtocolFeature> = new Set([
  ProtocolFeature.CONFIG,
  ProtocolFeature.INBAND_NOTIFICATIONS,
  ProtocolFeature.SHARED_OBJECT,
]);

/** A server, and the socket of its back-end. */
class ServerRig implements Disposable {
  readonly server: BackendRequestServer;
  readonly socket: MessageSocket;
  readonly peer: Connection;

  constructor(handlers: BackendRequestHandlers = {}, timeoutMs = 50) {
    const [ours, theirs] = socketPair();
    const hasProtocolFeature = (feature: ProtocolFeature): boolean => NEGOTIATED.has(feature);
    this.server = new BackendRequestServer(ours, { handlers, hasProtocolFeature, timeoutMs });
    this.socket = new MessageSocket(theirs);
    this.peer = new Connection(this.socket);
  }

  /** What a request is answered with. */
  ask(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = NEED_REPLY,
  ): unknown {
    this.peer.send(request, flags, payload, fds);
    this.server.serve();
    const answer = this.peer.receive();
    if (typeof answer === 'string') return answer;
    for (const fd of answer.fds) fd.close();
    const value = U64.decode(answer.payload);
    expect(answer.request).toBe(request);
    return { flags: answer.flags, value, ...(answer.fds.length > 0 ? { fds: answer.fds.length } : {}) };
  }

  [Symbol.dispose](): void {
    this.server.close();
    this.peer.close();
  }
}

let before = 0;
beforeEach(() => (before = openFds()));
afterEach(() => {
  expect(openFds()).toBe(before);
});

test('each request goes to its handler, and is acknowledged if an answer is wanted', () => {
  const seen: unknown[] = [];
  using rig = new ServerRig({
    CONFIG_CHANGE_MSG: () => void seen.push('config'),
    VRING_CALL: ({ index }) => void seen.push(`call ${index}`),
    VRING_ERR: ({ index }) => void seen.push(`err ${index}`),
    SHARED_OBJECT_ADD: ({ uuid }) => void seen.push(uuid[0]),
  });
  expect(rig.ask(2)).toEqual(ACK);
  expect(rig.ask(4, VringState.encode({ index: 3, num: 0 }))).toEqual(ACK);
  expect(rig.ask(5, VringState.encode({ index: 1, num: 0 }), [], 1)).toBe('wait');
  expect(rig.ask(6, Shared.encode({ uuid: new Uint8Array(16).fill(9) }))).toEqual(ACK);
  expect(seen).toEqual(['config', 'call 3', 'err 1', 9]);
});

test('a lookup is answered with the descriptor, or with 1 if there is none', () => {
  using fd = new OwnedFd(createEventfd());
  using rig = new ServerRig({ SHARED_OBJECT_LOOKUP: ({ uuid }) => (uuid[0] === 7 ? fd.fd : undefined) });
  const lookup = (first: number): unknown =>
    rig.ask(8, Shared.encode({ uuid: new Uint8Array(16).fill(first) }), [], 1);
  expect(lookup(7)).toEqual({ ...ACK, fds: 1 });
  expect(lookup(8)).toEqual(NACK);
});

test('what cannot be served is answered 1, and the channel goes on', () => {
  const refusing: BackendRequestHandlers = {
    CONFIG_CHANGE_MSG: () => undefined,
    SHMEM_UNMAP: () => undefined,
  };
  using fd = new OwnedFd(createEventfd());
  using rig = new ServerRig(refusing);
  expect(rig.ask(99)).toEqual(NACK); // unknown
  expect(rig.ask(4, VringState.encode({ index: 0, num: 0 }))).toEqual(NACK); // nobody serves it
  expect(rig.ask(10, new Uint8Array(40))).toEqual(NACK); // not negotiated
  expect(rig.ask(2, new Uint8Array(3))).toEqual(NACK); // too long
  expect(rig.ask(2, new Uint8Array(0), [fd.fd])).toEqual(NACK); // a descriptor too many
  expect(rig.ask(2)).toEqual(ACK);
});

test.each([
  ['a version that is none', { request: 2, flags: 8, size: 0 }, 'BAD_HEADER'],
  ['an answer', { request: 2, flags: 5, size: 0 }, 'BAD_HEADER'],
  ['more octets than there are', { request: 2, flags: 1, size: 0x7fff_ffff }, 'BAD_HEADER'],
])('%s closes the channel', (_, header, code) => {
  using rig = new ServerRig({ CONFIG_CHANGE_MSG: () => undefined });
  rig.socket.send(VhostUserHeader.encode(header), []);
  expect(rig.server.serve()).toBe(-1);
  expect(rig.server.fd).toBeUndefined();
  expect(rig.server.failure?.code).toBe(code);
  expect(rig.peer.receive()).toBe('closed');
});

test('half a message is waited for, but not for ever', () => {
  using rig = new ServerRig({}, 0);
  rig.socket.send(VhostUserHeader.encode({ request: 2, flags: 9, size: 8 }), []);
  let again = rig.server.serve();
  while (again > 0) again = rig.server.serve();
  expect(rig.server.failure?.code).toBe('TIMEOUT');
});

test('a back-end that asks and never reads is left alone', () => {
  using rig = new ServerRig({}, 10);
  const request = VhostUserHeader.encode({ request: 99, flags: NEED_REPLY, size: 0 });
  for (let count = 0; count < 100_000 && rig.server.fd !== undefined; count += 1) {
    rig.socket.send(request, []);
    rig.server.serve();
  }
  expect(rig.server.failure?.code).toBe('TIMEOUT');
});

test('a flood is served in pieces', () => {
  let served = 0;
  using rig = new ServerRig({ CONFIG_CHANGE_MSG: () => void (served += 1) });
  for (let count = 0; count < 100; count += 1) rig.peer.send(2, 1, new Uint8Array(0));
  expect(rig.server.serve()).toBe(0);
  expect(served).toBeLessThan(100);
  expect(rig.server.serve()).toBe(-1);
  expect(served).toBe(100);
});

test('a back-end that closes the channel closes it, without a failure', () => {
  using rig = new ServerRig();
  rig.peer.close();
  expect(rig.server.serve()).toBe(-1);
  expect([rig.server.fd, rig.server.failure]).toEqual([undefined, undefined]);
});

test('any octets: served, or the channel is closed for a reason', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 6 }), (pieces) => {
      using rig = new ServerRig({ CONFIG_CHANGE_MSG: () => undefined, VRING_CALL: () => undefined }, 1);
      for (const piece of pieces) rig.socket.send(piece, []);
      rig.peer.close();
      for (let again = 0; again >= 0;) again = rig.server.serve();
      expect(rig.server.fd).toBeUndefined();
    }),
    { numRuns: 200 },
  );
});

test('what is served decides what is negotiated', () => {
  expect(featuresServed({})).toEqual([]);
  expect(featuresServed({ CONFIG_CHANGE_MSG: () => undefined, IOTLB_MSG: () => undefined })).toEqual([
    ProtocolFeature.CONFIG,
  ]);
});

test('a back-end that waits for us before it answers is served; a handler that asks it back is refused', () => {
  const answers: unknown[] = [];
  let turns = 0;
  const [ours, theirs] = socketPair();
  using back = new Connection(new MessageSocket(theirs));
  const wait = (): void => {
    turns += 1;
    if (turns === 1) for (const request of [2, 4]) rig.peer.send(request, NEED_REPLY, payloadOf(request));
    if (turns === 2) {
      for (const _ of [2, 4]) answers.push(rig.peer.receive());
      back.send(1, HeaderFlag.REPLY | 1, U64.encode(5n));
    }
  };
  using frontend = new VhostUserFrontend(ours, { wait });
  using rig = new ServerRig({
    CONFIG_CHANGE_MSG: () => undefined,
    VRING_CALL: () => void frontend.getQueueNum(),
  });
  frontend.attend(rig.server);
  expect(frontend.getFeatures()).toBe(5n);
  expect(answers).toMatchObject([{ request: 2 }, { request: 4 }]);
  expect(frontend.failure).toBeUndefined();
});

const payloadOf = (request: number): Uint8Array =>
  request === 4 ? VringState.encode({ index: 0, num: 0 }) : new Uint8Array(0);
