import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/host/eventfd.ts';
import { openFilesLimit, setOpenFilesLimit } from '../../src/host/limits.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { fdKind, fdSize } from '../../src/host/stat.ts';
import {
  acceptUnix,
  connectUnix,
  listenUnix,
  MessageSocket,
  socketPair,
} from '../../src/host/unix-socket.ts';

const EAGAIN = 11;
const EMSGSIZE = 90;

const openFdCount = (): number => readdirSync('/proc/self/fd').length;
const octets = (size: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, i) => (i * 7 + (i >> 8)) & 0xff);

let fdsBefore: number;
let here: MessageSocket;
let there: MessageSocket;
beforeEach(() => {
  fdsBefore = openFdCount();
  const [a, b] = socketPair();
  here = new MessageSocket(a, { sendTimeoutMs: 50 });
  there = new MessageSocket(b);
});
afterEach(() => {
  here.close();
  there.close();
  expect(openFdCount()).toBe(fdsBefore);
});

/** Everything that has come, in pieces of at most `piece` bytes, with the offset at which each descriptor came. */
function receiveAll(
  socket: MessageSocket,
  piece: number,
): { received: number[]; fds: OwnedFd[]; fdAt: number[] } {
  const [received, fds, fdAt]: [number[], OwnedFd[], number[]] = [[], [], []];
  const into = new Uint8Array(piece);
  for (;;) {
    const size = socket.receive(into, fds);
    if (size <= 0) return { received, fds, fdAt };
    while (fdAt.length < fds.length) fdAt.push(received.length);
    received.push(...into.subarray(0, size));
  }
}

describe('a message socket', () => {
  test('nothing to receive is −EAGAIN, a closed peer is 0, sending to it is −EPIPE and no signal', () => {
    const into = new Uint8Array(4);
    expect(there.receive(into, [])).toBe(-EAGAIN);
    here.close();
    expect(there.receive(into, [])).toBe(0);
    expect(there.send(octets(1), [])).toBe(-32);
  });

  test('a descriptor arrives as another one of the same file, close-on-exec', () => {
    using event = new OwnedFd(createEventfd());
    expect(here.send(octets(12), [event.fd])).toBe(12);
    const { received, fds } = receiveAll(there, 100);
    expect(received).toEqual([...octets(12)]);
    expect(fds.map(({ fd }) => fdKind(fd))).toEqual(['eventfd']);
    expect(fds[0]!.fd).not.toBe(event.fd);
    signalEventfd(fds[0]!.fd);
    expect(drainEventfd(event.fd)).toBe(0);
    fds[0]!.close();
  });

  test('received in pieces of any size, octets are whole and descriptors come with the first octet of their message', () => {
    const message = fc.record({ size: fc.integer({ min: 1, max: 300 }), fdCount: fc.nat({ max: 3 }) });
    using file = new OwnedFd(createMemfd('sent', 1));
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 50 }),
        (sent, piece) => {
          const starts: number[] = [];
          let total = 0;
          for (const { size, fdCount } of sent) {
            const fds = Array.from({ length: fdCount }, () => file.fd);
            expect(here.send(octets(size), fds)).toBe(size);
            starts.push(total);
            total += size;
          }
          const { received, fds, fdAt } = receiveAll(there, piece);
          for (const fd of fds) fd.close();
          expect(received).toEqual(sent.flatMap(({ size }) => [...octets(size)]));
          const expectedFds = sent.flatMap(({ fdCount }, i) =>
            Array.from({ length: fdCount }, () => starts[i]!),
          );
          expect(fdAt).toHaveLength(expectedFds.length);
          // A piece may begin before the message its descriptors belong to, but never ends before it.
          fdAt.forEach((at, i) => {
            expect(at).toBeLessThanOrEqual(expectedFds[i]!);
            expect(at + piece).toBeGreaterThan(expectedFds[i]!);
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  test('253 descriptors in one message arrive in order; 254 are refused', () => {
    const fds = Array.from({ length: 253 }, (_, i) => createMemfd(`m${i}`, i));
    expect(here.send(octets(1), [...fds, fds[0]!])).toBe(-22);
    expect(here.send(octets(1), fds)).toBe(1);
    for (const fd of fds) closeSync(fd);
    const received = receiveAll(there, 1).fds;
    expect(received.map(({ fd }) => fdSize(fd))).toEqual(Array.from({ length: 253 }, (_, i) => i));
    for (const fd of received) fd.close();
  });

  test('a message sent where there is no descriptor left leaks none and says so', () => {
    using file = new OwnedFd(createMemfd('sent', 1));
    expect(here.send(octets(4), [file.fd, file.fd, file.fd])).toBe(4);
    const limit = openFilesLimit();
    const hoard: number[] = [];
    const fds: OwnedFd[] = [];
    setOpenFilesLimit(64);
    try {
      for (let fd = createEventfd(); fd >= 0; fd = createEventfd()) hoard.push(fd);
      closeSync(hoard.pop()!); // room for one of the three
      expect(there.receive(new Uint8Array(4), fds)).toBe(-EMSGSIZE);
      hoard.push(createEventfd());
      expect(hoard.at(-1)).toBeGreaterThan(0); // the one that came was closed
    } finally {
      setOpenFilesLimit(limit);
    }
    for (const fd of hoard) closeSync(fd);
    expect(fds).toEqual([]);
  });

  test('a message longer than the socket holds arrives whole while the peer reads', () => {
    const long = octets(40_000);
    expect(here.send(long, [])).toBe(40_000);
    expect(receiveAll(there, 10_000).received).toEqual([...long]);
  });

  test('a peer that does not read is given up after the timeout', () => {
    const before = performance.now();
    expect(here.send(new Uint8Array(8 * 2 ** 20), [])).toBe(-110);
    expect(performance.now() - before).toBeGreaterThanOrEqual(49);
  });

  test('waiting for octets ends when they come, when the peer closes, or with the timeout', () => {
    expect(there.waitReadable(1)).toBe(0);
    here.send(octets(1), []);
    expect(there.waitReadable(-1)).toBe(1);
    there.receive(new Uint8Array(1), []);
    here.close();
    expect(there.waitReadable(-1)).toBe(1);
  });

  test('closed, it neither receives nor sends', () => {
    here.close();
    expect(here.fd).toBe(-1);
    expect(here.receive(new Uint8Array(1), [])).toBe(0);
    expect(here.send(octets(1), [])).toBe(-9);
  });

  test('no room to receive into is our mistake', () => {
    expect(() => here.receive(new Uint8Array(0), [])).toThrow(RangeError);
  });

  test('descriptors nobody received are closed with the socket', () => {
    using file = new OwnedFd(createMemfd('sent', 1));
    for (let i = 0; i < 10; i++) here.send(octets(1), [file.fd]);
  });
});

describe('a path', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'socket-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test('that is listened on has its mode and group, and connects', () => {
    const path = join(directory, 's');
    using listener = new OwnedFd(listenUnix(path, { backlog: 1, mode: 0o620, gid: process.getgid!() }));
    expect(statSync(path).mode & 0o7777).toBe(0o620);
    expect(acceptUnix(listener.fd)).toBe(-EAGAIN);
    using connected = new MessageSocket(new OwnedFd(connectUnix(path)));
    using accepted = new MessageSocket(new OwnedFd(acceptUnix(listener.fd)));
    connected.send(octets(3), []);
    expect(accepted.receive(new Uint8Array(9), [])).toBe(3);
  });

  test('that exists, is missing or too long is −errno', () => {
    const path = join(directory, 's');
    closeSync(openSync(path, 'w'));
    expect(listenUnix(path, { backlog: 1 })).toBe(-98); // EADDRINUSE
    expect(connectUnix(path)).toBe(-111); // ECONNREFUSED
    expect(connectUnix(join(directory, 'none'))).toBe(-2); // ENOENT
    expect(connectUnix(join(directory, 'x'.repeat(108)))).toBe(-36); // ENAMETOOLONG
  });
});
