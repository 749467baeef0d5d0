/** The front-end against a back-end that says what a test tells it to. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { maskOf } from '../../protocol/bits.ts';
import {
  FrontendRequest,
  type FrontendRequestName,
  ProtocolFeature,
  VhostUserHeader,
} from '../../protocol/vhost-user.ts';
import { ShmemConfig, U64, VringState } from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { Connection, type Message } from '../../src/vhost/connection.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import type { FrontendOptions } from '../../src/vhost/frontend-channel.ts';

const REPLY = 5;
const region = { guestPhysAddr: 1n << 32n, memorySize: 4096n, userspaceAddr: 5n << 40n, mmapOffset: 4096n };
const acknowledge = maskOf(ProtocolFeature.REPLY_ACK);

/** A front-end whose waits let `answer` have its turn, and what the back-end has received. */
function rig(answer: (peer: Connection, message: Message) => void, options: FrontendOptions = {}) {
  const [theirs, ours] = socketPair();
  const peer = new Connection(new MessageSocket(theirs));
  const seen: { request: number; flags: number; payload: string; fds: number }[] = [];
  const take = (): Message | undefined => {
    const message = peer.receive();
    if (message === 'wait' || message === 'closed') return undefined;
    const { request, flags, payload, fds } = message;
    seen.push({ request, flags, payload: Buffer.from(payload).toString('hex'), fds: fds.length });
    for (const fd of fds) fd.close();
    return message;
  };
  const wait = (): void => {
    for (let message = take(); message !== undefined; message = take()) answer(peer, message);
  };
  const frontend = new VhostUserFrontend(ours, { wait, ...options });
  return { frontend, peer, seen, take };
}

const withU64 = (value: bigint) => (peer: Connection, message: Message) =>
  peer.send(message.request, REPLY, U64.encode(value));
const never = (): void => undefined;
const refusal = (code: string) => expect.objectContaining({ name: 'ProtocolError', code });

test('a question is answered', () => {
  const { frontend, seen } = rig(withU64(0x1_7400_0000n));
  expect(frontend.getFeatures()).toBe(0x1_7400_0000n);
  expect(seen).toEqual([{ request: FrontendRequest.GET_FEATURES, flags: 1, payload: '', fds: 0 }]);
});

test('memory messages ask for an acknowledgement once it was negotiated, and send the offset of ADD only', () => {
  const { frontend, seen } = rig((peer, message) => {
    if (message.request !== FrontendRequest.SET_PROTOCOL_FEATURES) withU64(0n)(peer, message);
  });
  frontend.setProtocolFeatures(acknowledge);
  using fd = new OwnedFd(createEventfd());
  frontend.addMemReg(region, fd.fd);
  frontend.remMemReg(region);
  const octets = (offset: string): string =>
    `0000000000000000000000000100000000100000000000000000000000050000${offset}`;
  expect(seen.slice(1)).toEqual([
    { request: FrontendRequest.ADD_MEM_REG, flags: 9, payload: octets('0010000000000000'), fds: 1 },
    { request: FrontendRequest.REM_MEM_REG, flags: 9, payload: octets('0000000000000000'), fds: 0 },
  ]);
});

test('without REPLY_ACK a question follows, whose answer shows that the request is done', () => {
  const { frontend, seen } = rig((peer, message) => {
    if (message.request === FrontendRequest.GET_FEATURES) withU64(0n)(peer, message);
  });
  frontend.setVringEnable(1, true);
  expect(seen.map(({ request, flags }) => [request, flags])).toEqual([
    [FrontendRequest.SET_VRING_ENABLE, 1],
    [FrontendRequest.GET_FEATURES, 1],
  ]);
});

test.each([1n, 0x1_0000_0000n, (1n << 64n) - 1n])(
  'the answer %d is a refusal, and the connection goes on',
  (value) => {
    const { frontend } = rig((peer, message) => {
      if (message.request === FrontendRequest.REM_MEM_REG) withU64(value)(peer, message);
      if (message.request === FrontendRequest.GET_FEATURES) withU64(4n)(peer, message);
    });
    frontend.setProtocolFeatures(acknowledge);
    expect(() => frontend.remMemReg(region)).toThrow(refusal('REFUSED'));
    expect(frontend.getFeatures()).toBe(4n);
  },
);

test('a ring without descriptor says so', () => {
  const { frontend, seen, take } = rig(never);
  using fd = new OwnedFd(createEventfd());
  frontend.setVringKick(2, fd.fd);
  frontend.setVringCall(2, undefined);
  while (take() !== undefined);
  expect(seen).toEqual([
    { request: FrontendRequest.SET_VRING_KICK, flags: 1, payload: '0200000000000000', fds: 1 },
    { request: FrontendRequest.SET_VRING_CALL, flags: 1, payload: '0201000000000000', fds: 0 },
  ]);
});

test('GET_VRING_BASE answers where the ring stopped', () => {
  const { frontend } = rig((peer, message) =>
    peer.send(message.request, REPLY, VringState.encode({ index: 1, num: 0xfffe })),
  );
  expect(frontend.getVringBase(1)).toBe(0xfffe);
});

test.each([
  ['of another request', 2, REPLY, 8, 'BAD_HEADER'],
  ['without the reply flag', FrontendRequest.GET_FEATURES, 1, 8, 'BAD_HEADER'],
  ['with need_reply', FrontendRequest.GET_FEATURES, 13, 8, 'BAD_HEADER'],
  ['too short', FrontendRequest.GET_FEATURES, REPLY, 4, 'BAD_SIZE'],
  ['too long', FrontendRequest.GET_FEATURES, REPLY, 16, 'BAD_SIZE'],
] as const)('an answer %s is refused', (_, request, flags, size, code) => {
  const { frontend } = rig((peer) => peer.send(request, flags, new Uint8Array(size)));
  expect(() => frontend.getFeatures()).toThrow(refusal(code));
});

test('a back-end that does not answer is given up in time, and the error says what went before', () => {
  const { frontend } = rig(never, { timeoutMs: 20 });
  frontend.setOwner();
  expect(() => frontend.getFeatures()).toThrow(/20 ms.*SET_OWNER, > GET_FEATURES/);
});

test('a back-end that goes away is noticed', () => {
  const { frontend } = rig((peer) => peer.close());
  expect(() => frontend.getFeatures()).toThrow(refusal('CLOSED'));
  const partial = rig((peer) => {
    peer.send(FrontendRequest.GET_FEATURES, REPLY, new Uint8Array(8).subarray(0, 0));
    peer.close();
  });
  expect(() => partial.frontend.getFeatures()).toThrow(refusal('BAD_SIZE'));
});

test('an answer may come in pieces', () => {
  const [theirs, ours] = socketPair();
  using peer = new MessageSocket(theirs);
  const octets = Buffer.concat([
    VhostUserHeader.encode({ request: FrontendRequest.GET_FEATURES, flags: REPLY, size: 8 }),
    U64.encode(3n),
  ]);
  let sent = 0;
  const wait = (): void => {
    peer.send(octets.subarray(sent, sent + 3), []);
    sent += 3;
  };
  using frontend = new VhostUserFrontend(ours, { wait });
  expect(frontend.getFeatures()).toBe(3n);
});

test('nobody listens', () => {
  expect(() => VhostUserFrontend.connect('/nonexistent/socket')).toThrow(refusal('SYSTEM'));
});

const uuid = Uint8Array.from({ length: 16 }, (_, index) => index);
const shmem = { nregions: 1, memorySizes: [4096n, ...Array.from({ length: 255 }, () => 0n)] };

test.each<[string, (frontend: VhostUserFrontend) => unknown, string, Uint8Array?]>([
  ['RESET_OWNER', (frontend) => frontend.resetOwner(), ''],
  ['SET_VRING_ENDIAN', (frontend) => frontend.setVringEndian(1, true), '0100000001000000'],
  ['VRING_KICK', (frontend) => frontend.kickVring(3), '0300000000000000'],
  ['SEND_RARP', (frontend) => frontend.sendRarp(0x1122_3344_5566n), '6655443322110000'],
  ['NET_SET_MTU', (frontend) => frontend.setMtu(1500), 'dc05000000000000'],
  [
    'SET_CONFIG',
    (frontend) => frontend.setConfig({ offset: 2, flags: 1, contents: Uint8Array.of(9) }),
    '02000000010000000100000009',
  ],
  [
    'IOTLB_MSG',
    (frontend) => frontend.iotlb({ iova: 1n, size: 2n, uaddr: 3n, perm: 3, type: 2 }),
    '0100000000000000020000000000000003000000000000000302000000000000',
    U64.encode(0n),
  ],
  ['GET_SHMEM_CONFIG', (frontend) => frontend.getShmemConfig()[0], '', ShmemConfig.encode(shmem)],
  [
    'GET_SHARED_OBJECT',
    (frontend) => frontend.getSharedObject(uuid),
    Buffer.from(uuid).toString('hex'),
    new Uint8Array(0),
  ],
])('%s is what the specification draws', (name, call, payload, answer = U64.encode(0n)) => {
  const { frontend, seen, take } = rig((peer, { request }) => {
    if (frontendRow(request)?.reply !== 'ack') peer.send(request, REPLY, answer);
  });
  call(frontend);
  while (take() !== undefined);
  expect(seen[0]).toEqual({
    request: FrontendRequest[name as FrontendRequestName],
    flags: 1,
    payload,
    fds: 0,
  });
});

test('every request names its section of the specification', () => {
  const source = readFileSync(new URL('../../src/vhost/frontend.ts', import.meta.url), 'utf8');
  const requests = [...source.matchAll(/\/\*\*((?:(?!\*\/)[^])*)\*\/\n {2}(\w+)\([^]*?\n {2}\}/g)]
    .map(([text, doc, name]) => ({ name, doc, sends: /\(R\.[A-Z_]+/.test(text) }))
    .filter(({ sends }) => sends);
  expect(requests.length).toBeGreaterThan(30);
  expect(requests.filter(({ doc }) => !/spec §/.test(doc!)).map(({ name }) => name)).toEqual([]);
});

test('a back-end that does not read is given up when the deadline is over', () => {
  const { frontend } = rig(never, { timeoutMs: 20 });
  expect(() => {
    for (let count = 0; count < 100_000; count += 1) frontend.setVringNum(0, 16);
  }).toThrow(refusal('TIMEOUT'));
  expect(frontend.failure?.message).toContain('last messages: > SET_VRING_NUM');
});
