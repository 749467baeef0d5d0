/** Two servers of one device, as on two threads; here they take turns in one. */
import { describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { InterruptIn, LkIn } from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { DEFERRED, type FileSystem } from '../../src/fuse/file-system.ts';
import { MOUNT_STATE_SIZE, MountState } from '../../src/fuse/mount-state.ts';
import type { SharedMount } from '../../src/fuse/server.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { initMessage, message, Mount } from './guest.ts';

const NEGOTIATED = { minor: 38, flags: (1n << 40n) | 0xffff_0001n, maxWrite: 1 << 20, maxReadahead: 4096 };

describe('the state of a mount', () => {
  test('is seen by every server that is given its memory, and each change by its generation', () => {
    using memory = NativeMemory.allocate(MOUNT_STATE_SIZE);
    const here = new MountState(memory);
    const there = new MountState(NativeMemory.at(memory.address, memory.size));
    expect([there.generation, there.negotiated]).toEqual([0, undefined]);
    expect(here.change(NEGOTIATED)).toBe(1);
    expect([there.generation, there.negotiated]).toEqual([1, NEGOTIATED]);
    expect(there.change(undefined)).toBe(2);
    expect([here.generation, here.negotiated]).toEqual([2, undefined]);
  });
});

const access = message({ opcode: FuseOpcode.ACCESS }, new Uint8Array(8));
const destroy = message({ opcode: FuseOpcode.DESTROY });
const setlkw = message(
  { opcode: FuseOpcode.SETLKW, unique: 6n },
  LkIn.encode({ fh: 0n, owner: 1n, lk: { start: 0n, end: 9n, type: 1, pid: 1 }, lkFlags: 0 }),
);

/** Two servers with a file system each, which note the life of the mount. */
function twoServers(): { first: Mount; second: Mount; heard: string[]; gate: { isTaken: boolean } } {
  const heard: string[] = [];
  const gate = { isTaken: false };
  const mounts: Mount[] = [];
  const shared: SharedMount = {
    state: new MountState(NativeMemory.allocate(MOUNT_STATE_SIZE)),
    gate: {
      exclusively: (change) => {
        if (!gate.isTaken) change();
        return !gate.isTaken;
      },
      waitForHolder: () => {
        heard.push('waited');
        gate.isTaken = false;
      },
    },
  };
  const fileSystem = (name: string): Partial<FileSystem> => ({
    init: () => heard.push(`${name} init`),
    join: () => heard.push(`${name} join`),
    destroy: () => heard.push(`${name} destroy`),
    access: () => 0,
    setlk: () => DEFERRED,
  });
  for (const name of ['first', 'second']) mounts.push(new Mount(fileSystem(name), { init: null, shared }));
  return { first: mounts[0]!, second: mounts[1]!, heard, gate };
}

describe('two servers of a device', () => {
  test('serve what one of them has mounted, and end it together', () => {
    const { first, second, heard } = twoServers();
    expect(second.errorOf(access)).toBe(-Errno.EIO);
    first.send(initMessage(), 80);
    expect([first.errorOf(access), second.errorOf(access)]).toEqual([0, 0]);
    expect(second.errorOf(destroy)).toBe(0);
    expect([first.errorOf(access), second.errorOf(access)]).toEqual([-Errno.EIO, -Errno.EIO]);
    expect(heard).toEqual(['first init', 'second join', 'second destroy']);
  });

  test('a second INIT, on the other queue, ends the first mount', () => {
    const { first, second, heard } = twoServers();
    first.send(initMessage(), 80);
    second.send(initMessage(), 80);
    expect(heard).toEqual(['first init', 'second join', 'second destroy', 'second init']);
  });

  test('an INIT or DESTROY while the other is at it is refused, a reset waits', () => {
    const { first, second, heard, gate } = twoServers();
    first.send(initMessage(), 80);
    gate.isTaken = true;
    expect(first.errorOf(initMessage())).toBe(-Errno.EAGAIN);
    expect(second.errorOf(destroy)).toBe(-Errno.EAGAIN);
    expect(first.errorOf(access)).toBe(0);
    second.server.reset();
    expect(heard.slice(-2)).toEqual(['waited', 'second destroy']);
  });

  test('an INTERRUPT reaches the one where the request waits, and so does the end of the mount', () => {
    const { first, second } = twoServers();
    first.send(initMessage(), 80);
    const completed: number[] = [];
    const retry = (): boolean => second.server.retryDeferred((_queue, head) => completed.push(head));
    second.send(setlkw, 16);
    expect(retry()).toBe(true);
    first.send(message({ opcode: FuseOpcode.INTERRUPT }, InterruptIn.encode({ unique: 6n })), 0);
    expect(retry()).toBe(false);
    second.send(setlkw, 16);
    first.send(destroy, 16);
    expect(retry()).toBe(false);
    expect(completed).toEqual([7, 7]);
  });
});
