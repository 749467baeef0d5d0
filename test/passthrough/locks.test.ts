import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { InterruptIn, LkOut } from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { LockRows } from '../../src/passthrough/lock-rows.ts';
import { TableMemory } from '../../src/passthrough/table-memory.ts';
import { Client, type LockRequest, openFds } from './client.ts';

const { GETLK, SETLK, SETLKW } = FuseOpcode;
const READ = 0;
const WRITE = 1;
const UNLOCK = 2;
const FLOCK = 1;

describe('locks', () => {
  let client: Client;
  let nodeid: bigint;
  let fh: bigint;
  const fdsBefore = openFds();
  beforeEach(() => {
    client = new Client();
    ({ nodeid, fh } = client.create('f'));
  });
  afterEach(() => {
    client[Symbol.dispose]();
    expect(openFds()).toBe(fdsBefore);
  });
  const code = (opcode: number, request: Omit<LockRequest, 'fh'>, handle = fh): number | undefined => {
    const result = client.lock(opcode, nodeid, { fh: handle, ...request });
    return Buffer.isBuffer(result) ? 0 : result;
  };

  test('a range is one owner’s, and GETLK names it', () => {
    expect(code(SETLK, { owner: 1n, type: WRITE, start: 10n, end: 19n, pid: 101 })).toBe(0);
    expect(code(SETLK, { owner: 2n, type: READ, start: 19n, end: 30n })).toBe(-Errno.EAGAIN);
    expect(code(SETLK, { owner: 2n, type: READ, start: 20n, end: 30n, pid: 102 })).toBe(0);
    const asked = client.lock(GETLK, nodeid, { fh, owner: 3n, type: WRITE, start: 0n, end: 15n });
    expect(LkOut.decode(asked as Buffer).lk).toEqual({ start: 10n, end: 19n, type: WRITE, pid: 101 });
    const free = client.lock(GETLK, nodeid, { fh, owner: 3n, type: READ, start: 25n });
    expect(LkOut.decode(free as Buffer).lk.type).toBe(UNLOCK);
    expect(code(SETLK, { owner: 1n, type: UNLOCK, start: 0n, end: 14n })).toBe(0);
    expect(code(SETLK, { owner: 3n, type: WRITE, start: 0n, end: 14n })).toBe(0);
    expect(code(SETLK, { owner: 3n, type: WRITE, start: 0n, end: 15n })).toBe(-Errno.EAGAIN);
  });

  test('FLUSH and RELEASE with an owner end its locks', () => {
    for (const end of [
      (): unknown => client.flush(nodeid, fh, 1n),
      (): unknown => client.release(nodeid, fh, 1n),
    ]) {
      expect(code(SETLK, { owner: 1n, type: WRITE })).toBe(0);
      expect(code(SETLK, { owner: 2n, type: WRITE })).toBe(-Errno.EAGAIN);
      const second = client.open(nodeid).fh;
      end();
      expect(code(SETLK, { owner: 2n, type: WRITE }, second)).toBe(0);
      client.flush(nodeid, second, 2n);
      client.release(nodeid, second);
    }
  });

  test('locks that an open file owns end with it, those of others stay', () => {
    const other = client.open(nodeid).fh;
    expect(code(SETLK, { owner: 1n, type: WRITE, start: 0n, end: 9n }, other)).toBe(0);
    expect(code(SETLK, { owner: 2n, type: WRITE, start: 10n, end: 19n })).toBe(0);
    // A process that closed its last descriptor and locked anew through another, before the first one's RELEASE.
    expect(code(SETLK, { owner: 3n, type: WRITE, start: 20n, end: 29n }, other)).toBe(0);
    client.flush(nodeid, other, 3n);
    expect(code(SETLK, { owner: 3n, type: WRITE, start: 20n, end: 29n })).toBe(0);
    client.release(nodeid, other);
    expect(code(SETLK, { owner: 9n, type: WRITE, start: 0n, end: 9n })).toBe(0);
    expect(code(SETLK, { owner: 9n, type: WRITE, start: 10n, end: 19n })).toBe(-Errno.EAGAIN);
    expect(code(SETLK, { owner: 9n, type: WRITE, start: 20n, end: 29n })).toBe(-Errno.EAGAIN);
    client.release(nodeid, fh);
    ({ fh } = client.open(nodeid));
    expect(code(SETLK, { owner: 9n, type: WRITE })).toBe(0);
  });

  test('SETLKW waits until the lock is free', () => {
    code(SETLK, { owner: 1n, type: WRITE });
    expect(code(SETLKW, { owner: 2n, type: READ })).toBe(undefined);
    expect(client.retry()).toEqual([]);
    code(SETLK, { owner: 1n, type: UNLOCK });
    expect(client.retry()).toEqual([0]);
    expect(code(SETLK, { owner: 1n, type: WRITE })).toBe(-Errno.EAGAIN);
  });

  test('a circle of waiting is EDEADLK for who would close it', () => {
    code(SETLK, { owner: 1n, type: WRITE, start: 0n, end: 0n });
    code(SETLK, { owner: 2n, type: WRITE, start: 1n, end: 1n });
    code(SETLK, { owner: 3n, type: WRITE, start: 2n, end: 2n });
    expect(code(SETLKW, { owner: 1n, type: WRITE, start: 1n, end: 1n })).toBe(undefined);
    expect(code(SETLKW, { owner: 2n, type: WRITE, start: 2n, end: 2n })).toBe(undefined);
    expect(code(SETLKW, { owner: 3n, type: WRITE, start: 0n, end: 0n })).toBe(-Errno.EDEADLK);
    code(SETLK, { owner: 3n, type: UNLOCK });
    expect(client.retry()).toEqual([0]);
  });

  test('who does not wait any more closes no circle', () => {
    const ends = [
      (unique: bigint): unknown => client.send(FuseOpcode.INTERRUPT, 0n, [InterruptIn.encode({ unique })]),
      (): unknown => client.server.drain(0, () => undefined),
    ];
    for (const [i, end] of ends.entries()) {
      const [one, two] = [BigInt(2 * i + 1), BigInt(2 * i + 2)];
      expect(code(SETLK, { owner: two, type: WRITE, start: 1n, end: 1n })).toBe(0);
      expect(code(SETLKW, { owner: one, type: WRITE, start: 1n, end: 1n })).toBe(undefined);
      end(client.lastUnique);
      client.retry();
      expect(code(SETLK, { owner: one, type: WRITE, start: 0n, end: 0n })).toBe(0);
      expect(code(SETLKW, { owner: two, type: WRITE, start: 0n, end: 0n })).toBe(undefined);
      expect(code(SETLK, { owner: one, type: UNLOCK })).toBe(0);
      expect(client.retry()).toEqual([0]);
      expect(code(SETLK, { owner: two, type: UNLOCK })).toBe(0);
    }
  });

  test('flock locks belong to the open file, and wait too', () => {
    const other = client.open(nodeid).fh;
    expect(code(SETLK, { owner: 1n, type: WRITE, lkFlags: FLOCK })).toBe(0);
    expect(code(SETLK, { owner: 1n, type: READ, lkFlags: FLOCK }, other)).toBe(-Errno.EAGAIN);
    expect(code(SETLKW, { owner: 1n, type: READ, lkFlags: FLOCK }, other)).toBe(undefined);
    client.release(nodeid, fh);
    expect(client.retry()).toEqual([0]);
  });

  test('nonsense is refused', () => {
    expect(code(SETLK, { owner: 1n, type: 3 })).toBe(-Errno.EINVAL);
    expect(code(SETLK, { owner: 1n, type: WRITE, start: 5n, end: 4n })).toBe(-Errno.EINVAL);
    expect(code(SETLK, { owner: 1n, type: WRITE, end: 2n ** 63n })).toBe(-Errno.EINVAL);
    expect(code(SETLK, { owner: 1n, type: WRITE }, 999n)).toBe(-Errno.EBADF);
  });

  test('locks that are never dropped end with the mount', () => {
    for (let owner = 1n; owner < 20n; owner += 1n)
      expect(code(SETLK, { owner, type: READ, start: owner, end: owner })).toBe(0);
    client.send(FuseOpcode.DESTROY, 0n, []);
    expect(client.fs.fdCount).toBeLessThan(5);
  });
});

test('ranges of an owner replace and split like painting octets', () => {
  const paint = fc.record({
    owner: fc.constantFrom('a', 'b'),
    isWrite: fc.boolean(),
    isUnlock: fc.boolean(),
    start: fc.integer({ min: 0, max: 15 }),
    length: fc.integer({ min: 1, max: 8 }),
  });
  fc.assert(
    fc.property(fc.array(paint, { maxLength: 30 }), (steps) => {
      using memory = TableMemory.reserve(100, false);
      const rows = new LockRows(memory);
      const owners = { a: { ownerLo: 1, ownerHi: 0xffff_ffff }, b: { ownerLo: 1, ownerHi: 0 } };
      const carriers = { a: rows.add(7, owners.a, 3, 1), b: rows.add(7, owners.b, 4, 1) };
      const painted = { a: Array<string>(32).fill(''), b: Array<string>(32).fill('') };
      for (const { owner, isWrite, isUnlock, start, length } of steps) {
        const range = {
          ...owners[owner],
          pid: 1,
          isWrite,
          start: BigInt(start),
          end: BigInt(start + length - 1),
        };
        if (isUnlock) rows.clearRange(carriers[owner], range.start, range.end);
        else rows.setRange(carriers[owner], range);
        painted[owner].fill(isUnlock ? '' : isWrite ? 'w' : 'r', start, start + length);
      }
      for (let at = 0; at < 32; at += 1) {
        const probe = { pid: 1, start: BigInt(at), end: BigInt(at) };
        for (const owner of ['a', 'b'] as const) {
          const others = painted[owner === 'a' ? 'b' : 'a'][at];
          const { a, b } = carriers;
          const blocker = (isWrite: boolean): number =>
            rows.conflict(7, { ...probe, ...owners[owner], isWrite });
          expect(blocker(true)).toBe(others === '' ? 0 : owner === 'a' ? b : a);
          expect(blocker(false)).toBe(others !== 'w' ? 0 : owner === 'a' ? b : a);
        }
      }
      rows.remove(carriers.a);
      rows.remove(carriers.b);
      expect(rows.count).toBe(0);
    }),
  );
});
