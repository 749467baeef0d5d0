import { closeSync, openSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  createEventfd,
  drainEventfd,
  EFD_CLOEXEC,
  setNonBlocking,
  signalEventfd,
} from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { fdKind, fdPageSize, fdSize, mappableSize } from '../../src/host/stat.ts';
import { socketPair } from '../../src/host/unix-socket.ts';

const EAGAIN = 11;
const EBADF = 9;

test('a signalled eventfd drains once', () => {
  using fd = new OwnedFd(createEventfd());
  expect(drainEventfd(fd.fd)).toBe(-EAGAIN);
  expect([signalEventfd(fd.fd), signalEventfd(fd.fd)]).toEqual([0, 0]);
  expect(readFileSync(`/proc/self/fdinfo/${fd.fd}`, 'latin1')).toMatch(/eventfd-count: +2\n/);
  expect(drainEventfd(fd.fd)).toBe(0);
  expect(drainEventfd(fd.fd)).toBe(-EAGAIN);
});

test('an empty eventfd is drained without waiting, also if the peer has made it blocking', () => {
  using fd = new OwnedFd(createEventfd(EFD_CLOEXEC));
  expect(drainEventfd(fd.fd)).toBe(-EAGAIN);
});

test('a blocking eventfd of a peer can be made to answer at once', () => {
  using fd = new OwnedFd(createEventfd(EFD_CLOEXEC));
  expect(setNonBlocking(fd.fd)).toBe(0);
  expect(drainEventfd(fd.fd)).toBe(-EAGAIN);
});

test('a closed descriptor is −EBADF', () => {
  expect([signalEventfd(-1), drainEventfd(-1), setNonBlocking(-1)]).toEqual([-EBADF, -EBADF, -EBADF]);
  expect([fdSize(-1), mappableSize(-1), fdPageSize(-1)]).toEqual([-EBADF, -EBADF, -EBADF]);
  expect(fdKind(-1)).toBe('other');
});

test('each kind of descriptor is told apart', () => {
  using file = new OwnedFd(createMemfd('kind', 5 * 2 ** 30 + 1));
  using event = new OwnedFd(createEventfd());
  const [socket, other] = socketPair();
  const device = openSync('/dev/zero', 'r');
  const directory = openSync('/', 'r');
  expect([file.fd, event.fd, socket.fd, device, directory].map(fdKind)).toEqual([
    'file',
    'eventfd',
    'socket',
    'device',
    'other',
  ]);
  expect([fdSize(file.fd), mappableSize(file.fd)]).toEqual([5 * 2 ** 30 + 1, 5 * 2 ** 30 + 1]);
  expect(mappableSize(device)).toBe(Infinity);
  expect(fdPageSize(file.fd)).toBe(4096);
  socket.close();
  other.close();
  closeSync(device);
  closeSync(directory);
});
