import { describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { FileLock } from '../../protocol/fuse-attributes.ts';
import { InterruptIn, LkIn } from '../../protocol/fuse-requests.ts';
import { FuseOpcode, OutHeader } from '../../protocol/fuse.ts';
import { DEFERRED, type FileSystem } from '../../src/fuse/file-system.ts';
import type { FuseRequest } from '../../src/fuse/request.ts';
import { CHAIN_DEFERRED } from '../../src/fuse/server.ts';
import { type Layout, message, Mount } from './guest.ts';

const lock = { start: 0n, end: 2n ** 63n - 1n, type: 1, pid: 42 };
const setlkw = (unique: bigint): Buffer =>
  message(
    { opcode: FuseOpcode.SETLKW, unique, nodeid: 3n, uid: 1000 },
    LkIn.encode({ fh: 5n, owner: 0xfedc_ba98_7654_3210n, lk: lock, lkFlags: 0 }),
  );
const interrupt = (unique: bigint): Buffer =>
  message({ opcode: FuseOpcode.INTERRUPT, unique: 99n }, InterruptIn.encode({ unique }));

/** A lock somebody else holds until `isFree`. */
class Held implements FileSystem {
  readonly capabilities = { posixLocks: true };
  isFree = false;
  readonly seen: string[] = [];

  setlk(request: FuseRequest): number {
    const lk = FileLock.decode(request.input.u8, 40 + LkIn.offset.lk);
    this.seen.push(
      `${request.nodeid} ${request.uid} ${request.u64(0)} ${request.arg[2]} ${lk.type} ${request.isRetry}`,
    );
    return this.isFree ? 0 : DEFERRED;
  }
}

type Completion = readonly [queueIndex: number, head: number, written: number];

/** A mount with one lock request waiting, in memory that stays as it was laid out. */
function waiting(layout?: Layout): {
  readonly mount: Mount;
  readonly held: Held;
  readonly completed: Completion[];
  readonly complete: (...completion: Completion) => void;
  readonly retry: () => boolean;
} {
  const held = new Held();
  const mount = new Mount(held);
  const completed: Completion[] = [];
  const complete = (...completion: Completion): void => void completed.push(completion);
  mount.guest.place(setlkw(17n), 16, layout);
  expect(mount.server.handle(mount.guest.chain, 2)).toBe(CHAIN_DEFERRED);
  return { mount, held, completed, complete, retry: () => mount.server.retryDeferred(complete) };
}

describe('a deferred request', () => {
  test.each([{}, { writable: [3, 9] }])(
    'is tried again with the same arguments until it succeeds',
    (layout) => {
      const { mount, held, completed, retry } = waiting(layout);
      expect(retry()).toBe(true);
      expect(completed).toEqual([]);
      held.isFree = true;
      expect(retry()).toBe(false);
      expect(completed).toEqual([[2, 7, 16]]);
      expect(OutHeader.decode(mount.guest.written())).toEqual({ len: 16, error: 0, unique: 17n });
      expect(mount.guest.isRestUntouched()).toBe(true);
      const fields = '3 1000 5 1985229328 1'; // 1985229328 is 0x76543210, the owner's low word
      expect(held.seen).toEqual([`${fields} false`, `${fields} true`, `${fields} true`]);
    },
  );

  test('is answered EINTR after INTERRUPT of its unique id, and only then', () => {
    const { mount, completed, retry } = waiting();
    const reply = (): OutHeader => OutHeader.decode(mount.guest.written());
    for (const unique of [16n, 17n]) {
      expect(completed).toEqual([]);
      expect(mount.server.handle(mount.guest.more(interrupt(unique), 0))).toBe(0);
      retry();
    }
    expect(completed).toEqual([[2, 7, 16]]);
    expect(reply()).toMatchObject({ error: -Errno.EINTR, unique: 17n });
  });

  test('is answered when its queue is drained, not when another is', () => {
    const { mount, completed, complete } = waiting();
    mount.server.drain(1, complete);
    expect(completed).toEqual([]);
    mount.server.drain(2, complete);
    expect(completed).toEqual([[2, 7, 16]]);
    expect(OutHeader.decode(mount.guest.written()).error).toBe(-Errno.EAGAIN);
    expect(mount.server.deferredCount).toBe(0);
  });

  test('whose reply buffer was removed is given back empty, and nothing is written', () => {
    const { mount, held, completed, retry } = waiting();
    const before = Buffer.from(mount.guest.memory.u8);
    mount.guest.end = 0;
    held.isFree = true;
    expect(retry()).toBe(false);
    expect(completed).toEqual([[2, 7, 0]]);
    expect(before.equals(mount.guest.memory.u8)).toBe(true);
  });

  test('marks the pages of its reply dirty', () => {
    const { mount, held, retry } = waiting({ writable: [8] });
    mount.guest.isLogging = true;
    held.isFree = true;
    retry();
    const { gpa, readableCount: first } = mount.guest.chain;
    expect(mount.guest.dirty).toEqual([
      { gpa: gpa[first], size: 8 },
      { gpa: gpa[first + 1], size: 8 },
    ]);
  });

  test('of a mount that ended is answered EINTR; reset forgets it', () => {
    const ended = waiting();
    ended.mount.server.handle(ended.mount.guest.more(message({ opcode: FuseOpcode.DESTROY }), 16));
    expect(ended.retry()).toBe(false);
    expect(ended.completed).toEqual([[2, 7, 16]]);
    const reset = waiting();
    reset.mount.server.reset();
    expect(reset.retry()).toBe(false);
    expect(reset.completed).toEqual([]);
  });

  test('beyond 4096 others is refused', () => {
    const mount = new Mount(new Held());
    mount.guest.place(setlkw(1n), 16);
    for (let i = 0; i < 4096; i += 1) expect(mount.server.handle(mount.guest.chain)).toBe(CHAIN_DEFERRED);
    expect(mount.server.handle(mount.guest.chain)).toBe(16);
    expect(OutHeader.decode(mount.guest.written()).error).toBe(-Errno.ENOLCK);
  });
});

test('requests that wait leave a quarter of their ring to others', () => {
  const held = new Held();
  const mount = new Mount(held);
  const { chain } = mount.guest;
  chain.ringCapacity = 8;
  for (let i = 0; i < 6; i += 1) {
    mount.guest.place(setlkw(BigInt(i + 1)), 16);
    expect(mount.server.handle(chain, 1)).toBe(CHAIN_DEFERRED);
  }
  mount.guest.place(setlkw(8n), 16);
  expect(mount.guest.reply(mount.server.handle(chain, 1)).header.error).toBe(-Errno.ENOLCK);
  held.isFree = true;
  mount.server.retryDeferred(() => undefined);
  held.isFree = false;
  mount.guest.place(setlkw(9n), 16);
  expect(mount.server.handle(chain, 1)).toBe(CHAIN_DEFERRED);
});
