import { closeSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { waitReadable } from '../../src/host/poll.ts';
import { IoUring } from '../../src/host/io-uring.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { chill, diskDirectory, writeCold } from '../support/cold-file.ts';

const SIZE = 1 << 20;
const PAGE = 4096;
const ENTRIES = 8;

const probe = IoUring.open(ENTRIES);
const reason = typeof probe === 'number' ? `errno ${-probe}` : undefined;
if (typeof probe !== 'number') probe.close();
if (reason !== undefined) console.log(`test/host/io-uring: no io_uring here (${reason}): skipped`);

describe.skipIf(reason !== undefined)('io_uring', () => {
  let directory: string;
  let path: string;
  let content: Buffer;
  let fd: number;
  let ring: IoUring;
  /** The process's rings that are not ours: libuv may have some. */
  let others: ReadonlySet<string>;
  const memory = NativeMemory.allocate(SIZE);

  beforeEach(() => {
    directory = mkdtempSync(join(diskDirectory(), 'ring-'));
    path = join(directory, 'file');
    content = writeCold(path, SIZE);
    chill(path);
    fd = openSync(path, 'r+');
    others = new Set(ringFds());
    const opened = IoUring.open(ENTRIES);
    if (typeof opened === 'number') throw new Error(`errno ${-opened}`);
    ring = opened;
  });
  afterEach(() => {
    ring.close();
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });

  /** Takes so many completions. @returns results by ticket */
  const collect = (count: number): Map<number, number> => {
    const results = new Map<number, number>();
    while (results.size < count) {
      const ticket = ring.take();
      if (ticket < 0) ring.wait();
      else results.set(ticket, ring.result);
    }
    return results;
  };

  test('reads into buffers, many times its entries, in any order', () => {
    for (let round = 0; round < 20; round += 1) {
      for (let ticket = 0; ticket < ENTRIES; ticket += 1) {
        const at = ((round * ENTRIES + ticket) * 7 * PAGE) % SIZE;
        ring.read(fd, memory.address + ticket * PAGE, PAGE, at, ticket);
      }
      ring.submit();
      expect([...collect(ENTRIES).values()]).toEqual(Array.from({ length: ENTRIES }, () => PAGE));
      for (let ticket = 0; ticket < ENTRIES; ticket += 1) {
        const at = ((round * ENTRIES + ticket) * 7 * PAGE) % SIZE;
        const read = Buffer.from(memory.u8.subarray(ticket * PAGE, (ticket + 1) * PAGE));
        expect(read.equals(content.subarray(at, at + PAGE))).toBe(true);
      }
    }
    expect(ring.take()).toBe(-1);
  });

  test('iovecs may be overwritten once they were submitted', () => {
    using iovecs = NativeMemory.allocate(PAGE);
    const words = new BigUint64Array(iovecs.u8.buffer, iovecs.u8.byteOffset, 4);
    words.set([BigInt(memory.address + 10), 100n, BigInt(memory.address + 5000), 300n]);
    ring.readVector(fd, iovecs.address, 2, 777, 5);
    ring.submit();
    words.fill(0n);
    expect(collect(1)).toEqual(new Map([[5, 400]]));
    expect(Buffer.from(memory.u8.subarray(10, 110)).equals(content.subarray(777, 877))).toBe(true);
    expect(Buffer.from(memory.u8.subarray(5000, 5300)).equals(content.subarray(877, 1177))).toBe(true);
  });

  test('says by its eventfd that there is something to take', () => {
    expect(waitReadable(ring.eventFd, 0)).toBe(0);
    ring.read(fd, memory.address, PAGE, 0, 1);
    expect(ring.pending).toBe(1);
    ring.submit();
    expect(ring.pending).toBe(0);
    expect(waitReadable(ring.eventFd, 5000)).toBe(1);
    expect(collect(1)).toEqual(new Map([[1, PAGE]]));
  });

  test('answers as the system calls do: the end of the file, a bad descriptor, a sync', () => {
    ring.read(fd, memory.address, PAGE, SIZE - 10, 0);
    ring.read(fd, memory.address, PAGE, SIZE + 10, 1);
    ring.read(-1, memory.address, PAGE, 0, 2);
    ring.read(fd, 1, PAGE, 0, 3);
    ring.sync(fd, true, 4);
    ring.submit();
    const expected = [10, 0, -Errno.EBADF, -Errno.EFAULT, 0];
    expect(collect(5)).toEqual(new Map(expected.map((result, ticket) => [ticket, result])));
  });

  test('what the kernel does not take is completed with EAGAIN, and the eventfd says so', () => {
    const ringFd = ringFds().find((name) => !others.has(name));
    ring.read(fd, memory.address, PAGE, 0, 1);
    ring.read(fd, memory.address, PAGE, 0, 2);
    closeSync(Number(ringFd));
    openSync('/dev/null', 'r'); // in its place
    ring.submit();
    expect(waitReadable(ring.eventFd, 0)).toBe(1);
    ring.wait();
    expect(collect(2)).toEqual(
      new Map([
        [1, -Errno.EAGAIN],
        [2, -Errno.EAGAIN],
      ]),
    );
  });

  test('a full ring is submitted by itself', () => {
    for (let ticket = 0; ticket < ENTRIES; ticket += 1) ring.read(fd, memory.address, 1, 0, ticket);
    expect(ring.pending).toBe(0);
    expect(collect(ENTRIES).size).toBe(ENTRIES);
  });

  test('a size that is none is refused', () => {
    expect(IoUring.open(0)).toBe(-Errno.EINVAL);
  });
});

const ringFds = (): string[] =>
  readdirSync('/proc/self/fd').filter((name) => linkOf(name) === 'anon_inode:[io_uring]');

/** What a descriptor is of; the one that lists them is gone. */
function linkOf(name: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${name}`);
  } catch {
    return '';
  }
}
