import { readdirSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FrontendRequest, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { describeFd } from '../../src/cli/describe-fd.ts';
import { EventLoop } from '../../src/host/epoll.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { Conversation } from '../../src/vhost/conversation.ts';
import type { ConversationRecord } from '../../src/vhost/conversation-record.ts';
import { Relay } from '../../src/vhost/relay.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';

const openFds = (): number => readdirSync('/proc/self/fd').length;

/** A relay between two sockets that its user owns, and what it saw. */
class Rig implements Disposable {
  readonly front: MessageSocket;
  readonly back: MessageSocket;
  readonly records: ConversationRecord[] = [];
  readonly relay: Relay;
  readonly #loop = new EventLoop();

  /** @param back the back-end's end; made unless given */
  constructor(back?: OwnedFd, front?: { give: (socket: OwnedFd) => void }) {
    const [frontUser, frontRelay] = socketPair();
    const [backUser, backRelay] = socketPair();
    this.front = new MessageSocket(frontUser);
    this.back = new MessageSocket(backUser);
    if (front !== undefined) {
      const [given, taken] = socketPair();
      frontRelay.close();
      front.give(given);
      this.relay = this.#relay(taken, back ?? backRelay);
    } else this.relay = this.#relay(frontRelay, back ?? backRelay);
    if (back !== undefined) backRelay.close();
  }

  /** Passes on everything there is. */
  readonly turn = (): void => {
    while (this.#loop.runOnce(0) > 0);
  };

  /** What went one way, messages and other octets alike. */
  seen(dir: 'fe>be' | 'be>fe', chan = 'main'): Buffer {
    const octets = this.records.flatMap((record) =>
      record.dir === dir && record.chan === chan && record.octets !== undefined ? [record.octets] : [],
    );
    return Buffer.concat(octets);
  }

  get events(): readonly string[] {
    return this.records.flatMap((record) =>
      record.kind === 'event' ? [`${record.chan} ${record.dir} ${record.event}`] : [],
    );
  }

  [Symbol.dispose](): void {
    this.relay.close();
    this.front.close();
    this.back.close();
    expect(this.#loop.addCount).toBe(0);
    this.#loop.close();
  }

  #relay(front: OwnedFd, back: OwnedFd): Relay {
    return new Relay({
      front,
      back,
      loop: this.#loop,
      describe: describeFd,
      onFrame: (chan, dir, { kind, octets, fds, reason }) => {
        const common = { n: this.records.length, t: 0, conn: 0, chan, dir, octets, fds };
        this.records.push(
          kind === 'frame'
            ? { kind: 'message', ...common }
            : { kind: 'event', event: 'raw', ...common, ...(reason === undefined ? {} : { reason }) },
        );
      },
      onEnd: (chan, dir) =>
        this.records.push({ kind: 'event', n: this.records.length, t: 0, conn: 0, chan, dir, event: 'eof' }),
    });
  }
}

/** Everything that is there, with the octet each descriptor came with; closes the descriptors. */
function receiveAll(
  socket: MessageSocket,
  piece = 4096,
): { octets: Buffer; fdAt: number[]; inodes: unknown[] } {
  const [parts, fdAt, inodes, into]: [Buffer[], number[], unknown[], Uint8Array] = [
    [],
    [],
    [],
    new Uint8Array(piece),
  ];
  let at = 0;
  for (;;) {
    const fds: OwnedFd[] = [];
    const size = socket.receive(into, fds);
    for (const fd of fds) {
      fdAt.push(at);
      inodes.push(describeFd(fd.fd));
      fd.close();
    }
    if (size <= 0) return { octets: Buffer.concat(parts), fdAt, inodes };
    parts.push(Buffer.from(into.subarray(0, size)));
    at += size;
  }
}

const message = (request: number, payload: Uint8Array, flags = 1): Buffer =>
  Buffer.concat([VhostUserHeader.encode({ request, flags, size: payload.length }), payload]);

let before: number;
beforeEach(() => {
  before = openFds();
});
afterEach(() => {
  expect(openFds()).toBe(before);
});

describe('a mount through the relay', () => {
  test('works, slots and all, and the recording of it has nothing odd', () => {
    const files = new PaperFileSystem();
    using backend = new InProcessBackend(files);
    let socket: OwnedFd | undefined;
    using rig = new Rig(backend.socket, { give: (given) => (socket = given) });
    const wait = (): void => {
      rig.turn();
      backend.turn();
      rig.turn();
    };
    {
      using machine = LoopbackMachine.start({
        socket: socket!,
        wait,
        baseSize: 1 << 22,
        slotSize: 1 << 16,
        slots: 8,
      });
      for (const slot of [0, 1, 5]) machine.plug(slot);
      const client = new VirtioFsClient(machine);
      expectAnswer(client.init(), 'INIT');
      const { nodeid } = expectAnswer(client.lookup(ROOT, 'file'), 'LOOKUP');
      const buffer = machine.ram.slotBuffer(5, 100, 3000);
      buffer.bytes.forEach((_, i) => (buffer.bytes[i] = i));
      expect(client.write(nodeid, 7n, 0, [buffer])).toBe(3000);
      expect(files.bytes.subarray(0, 3000)).toEqual(buffer.bytes);
      machine.unplug(5);
      machine.stop();
    }
    rig.turn();
    expect(rig.relay.hasEnded).toBe(true);
    const conversation = new Conversation();
    expect(rig.records.flatMap((record) => conversation.observe(record).anomalies)).toEqual([]);
    expect(conversation.end()).toEqual([]);
    const { memory } = conversation.sessions.get('')!;
    expect([memory.highWater, memory.snapshot().slots, memory.limit]).toEqual([4, 3, 509]);
  });
});

describe('descriptors', () => {
  test('arrive with their message, the same files in the same order', () => {
    using rig = new Rig();
    using memory = new OwnedFd(createMemfd('ram', 12_345));
    using kick = new OwnedFd(createEventfd());
    const table = message(FrontendRequest.SET_MEM_TABLE, new Uint8Array(72));
    const stream = [message(3, new Uint8Array(0)), table, message(13, new Uint8Array(8))];
    rig.front.send(stream[0]!, []);
    rig.front.send(stream[1]!, [memory.fd, kick.fd, memory.fd]);
    rig.front.send(stream[2]!, [kick.fd]);
    rig.turn();
    const { octets, fdAt, inodes } = receiveAll(rig.back, 12);
    expect(octets.equals(Buffer.concat(stream))).toBe(true);
    expect(fdAt).toEqual([12, 12, 12, 96]);
    expect(inodes).toEqual([memory, kick, memory, kick].map(({ fd }) => describeFd(fd)));
    expect(rig.records.map((record) => record.fds)).toEqual([[], inodes.slice(0, 3), inodes.slice(3)]);
  });

  test('of what is no message stay with the very octet they came with', () => {
    using rig = new Rig();
    using kick = new OwnedFd(createEventfd());
    const noise = message(1, new Uint8Array(0));
    noise.writeUInt32LE(0xffff_ffff, 8);
    rig.front.send(noise, []);
    rig.front.send(Buffer.alloc(5), []);
    rig.front.send(Buffer.alloc(9), [kick.fd]);
    rig.front.send(Buffer.alloc(3), [kick.fd, kick.fd]);
    rig.turn();
    expect(receiveAll(rig.back, 1).fdAt).toEqual([17, 26, 26]);
    expect(rig.records.find(({ kind }) => kind === 'event')).toMatchObject({
      reason: expect.stringContaining('4294967295 octets'),
    });
  });

  test('work on the other side: a kick is a kick', () => {
    using rig = new Rig();
    using kick = new OwnedFd(createEventfd());
    rig.front.send(message(12, new Uint8Array(8)), [kick.fd]);
    rig.turn();
    const fds: OwnedFd[] = [];
    rig.back.receive(new Uint8Array(20), fds);
    signalEventfd(fds[0]!.fd);
    fds[0]!.close();
    expect(drainEventfd(kick.fd)).toBe(0);
  });
});

test('the back-end request channel is relayed in both directions', () => {
  using rig = new Rig();
  const [ours, theirs] = socketPair();
  using frontChannel = new MessageSocket(ours);
  rig.front.send(message(FrontendRequest.SET_BACKEND_REQ_FD, new Uint8Array(0), 9), [theirs.fd]);
  theirs.close();
  rig.turn();
  const fds: OwnedFd[] = [];
  expect(rig.back.receive(new Uint8Array(12), fds)).toBe(12);
  {
    using backChannel = new MessageSocket(fds[0]!);
    using object = new OwnedFd(createMemfd('object', 4096));
    const request = message(8, new Uint8Array(16), 9);
    const reply = message(8, new Uint8Array(8), 5);
    backChannel.send(request, []);
    rig.turn();
    expect(receiveAll(frontChannel).octets.equals(request)).toBe(true);
    frontChannel.send(reply, [object.fd]);
    rig.turn();
    const answer = receiveAll(backChannel);
    expect(answer.octets.equals(reply)).toBe(true);
    expect(answer.inodes).toEqual([describeFd(object.fd)]);
    expect(rig.seen('be>fe', 'backend').equals(request)).toBe(true);
    expect(rig.seen('fe>be', 'backend').equals(reply)).toBe(true);
  }
  rig.turn();
  expect(frontChannel.receive(new Uint8Array(1), [])).toBe(0);
  expect(rig.events).toContain('backend be>fe eof');
  expect(rig.relay.hasEnded).toBe(false);
});

test('a back-end request channel may outlive its connection', () => {
  using rig = new Rig();
  const [ours, theirs] = socketPair();
  using frontChannel = new MessageSocket(ours);
  rig.front.send(message(FrontendRequest.SET_BACKEND_REQ_FD, new Uint8Array(0)), [theirs.fd]);
  theirs.close();
  rig.turn();
  const fds: OwnedFd[] = [];
  rig.back.receive(new Uint8Array(12), fds);
  using backChannel = new MessageSocket(fds[0]!);
  rig.front.close();
  rig.turn();
  expect([rig.relay.hasEnded, rig.relay.isClosed]).toEqual([true, false]);
  backChannel.send(message(2, new Uint8Array(0)), []);
  backChannel.close();
  rig.turn();
  expect(receiveAll(frontChannel).octets).toHaveLength(12);
  expect(rig.relay.isClosed).toBe(true);
});

describe('the end', () => {
  test('comes after all that was sent before it', () => {
    using rig = new Rig();
    rig.front.send(Buffer.alloc(7, 1), []);
    rig.front.close();
    rig.turn();
    expect(receiveAll(rig.back).octets).toEqual(Buffer.alloc(7, 1));
    expect(rig.back.receive(new Uint8Array(1), [])).toBe(0);
    expect(rig.relay.hasEnded).toBe(true);
    expect(rig.events).toContain('main fe>be eof');
  });

  test('of one direction leaves the other', () => {
    using rig = new Rig();
    rig.front.shutdownSend();
    rig.turn();
    expect(rig.back.receive(new Uint8Array(1), [])).toBe(0);
    rig.back.send(message(1, new Uint8Array(8), 5), []);
    rig.turn();
    expect(receiveAll(rig.front).octets).toHaveLength(20);
    expect(rig.relay.hasEnded).toBe(false);
    rig.back.close();
    rig.turn();
    expect(rig.relay.hasEnded).toBe(true);
  });

  test('of a back-end that does not read reaches the front-end, and nothing is left open', () => {
    using rig = new Rig();
    using kick = new OwnedFd(createEventfd());
    const big = message(12, new Uint8Array(8000));
    while (rig.front.sendSome(big, [kick.fd]) > 0) rig.turn();
    rig.back.close();
    rig.turn();
    expect(receiveAll(rig.front).octets).toHaveLength(0);
    rig.front.close();
    rig.turn();
    expect(rig.relay.hasEnded).toBe(true);
  });
});

test('a side that does not read stops the other, and loses nothing', () => {
  using rig = new Rig();
  const big = message(
    24,
    Uint8Array.from({ length: 60_000 }, (_, i) => i),
  );
  const sent: Buffer[] = [];
  for (let size = 1; size > 0; rig.turn()) {
    const piece = big.subarray(Buffer.concat(sent).length % big.length).subarray(0, 8000);
    size = rig.front.sendSome(piece, []);
    if (size > 0) sent.push(piece.subarray(0, size));
    if (size > 0 && sent.length > 500) throw new Error('nothing stops the front-end');
  }
  const received: Buffer[] = [];
  for (let round = 0; round < 500; round += 1) {
    received.push(receiveAll(rig.back, 8192).octets);
    rig.turn();
  }
  expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true);
});

test('any octets in any pieces are passed on unchanged, with as many descriptors', () => {
  const octets = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 60 }),
    fc
      .record({ request: fc.nat(45), size: fc.nat(40) })
      .map(({ request, size }) => message(request, Buffer.alloc(size))),
    fc
      .record({ request: fc.nat(45), size: fc.nat(40) })
      .map(({ request, size }) => message(request, Buffer.alloc(size)).subarray(0, 12 + (size >> 1))),
  );
  const sends = fc.array(
    fc.record({ octets, fds: fc.nat(2), isForward: fc.boolean(), turns: fc.boolean() }),
    { maxLength: 12 },
  );
  using kick = new OwnedFd(createEventfd());
  fc.assert(
    fc.property(sends, (all) => {
      using rig = new Rig();
      const sent = { forward: [] as Uint8Array[], backward: [] as Uint8Array[] };
      const fds = { forward: 0, backward: 0 };
      for (const each of all) {
        const direction = each.isForward ? 'forward' : 'backward';
        (each.isForward ? rig.front : rig.back).send(
          each.octets,
          Array.from({ length: each.fds }, () => kick.fd),
        );
        sent[direction].push(each.octets);
        fds[direction] += each.fds;
        if (each.turns) rig.turn();
      }
      rig.turn();
      rig.front.shutdownSend();
      rig.back.shutdownSend();
      rig.turn();
      const [forward, backward] = [receiveAll(rig.back), receiveAll(rig.front)];
      expect(forward.octets.equals(Buffer.concat(sent.forward))).toBe(true);
      expect(backward.octets.equals(Buffer.concat(sent.backward))).toBe(true);
      expect([forward.fdAt.length, backward.fdAt.length]).toEqual([fds.forward, fds.backward]);
      expect(rig.seen('fe>be').equals(forward.octets)).toBe(true);
      expect(rig.seen('be>fe').equals(backward.octets)).toBe(true);
    }),
    { numRuns: 150 },
  );
});
