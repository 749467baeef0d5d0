/** What the guest has closed is closed on the host a moment later, and is as any other file meanwhile and after it. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { FUSE_LK_FLOCK } from '../../protocol/fuse-flags.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { LOCK_EX, LOCK_NB, lockFile } from '../../src/host/files-lock.ts';
import { monotonicMs } from '../../src/host/clock.ts';
import type { InodeFileHandles } from '../../src/passthrough/options.ts';
import { Client, isRoot, openFds } from './client.ts';

/** How the host's name is open here, not counting O_PATH: the flags of each descriptor. */
function opened(path: string): number[] {
  const { ino } = statSync(path);
  return openFlags((fd) => statSync(`/proc/self/fd/${fd}`).ino === ino);
}

const O_PATH = 0o10000000;
const O_ACCMODE = 3;

function openFlags(isMeant: (fd: string) => boolean): number[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      if (!isMeant(fd)) return [];
      const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!;
      return (parseInt(flags, 8) & O_PATH) === 0 ? [parseInt(flags, 8) & O_ACCMODE] : [];
    } catch {
      return []; // the descriptor of the listing itself
    }
  });
}

/** Whether somebody has a flock lock on the host's file. */
function isLocked(path: string): boolean {
  const fd = openSync(path, 'r');
  const result = lockFile(fd, LOCK_EX | LOCK_NB);
  closeSync(fd);
  return result === -Errno.EAGAIN;
}

const policies: readonly InodeFileHandles[] = isRoot ? ['prefer', 'never'] : ['never'];

describe.each(policies)('inode file handles: %s', (inodeFileHandles) => {
  let client: Client;
  let fdsBefore: number;
  let now = 0;
  beforeEach(() => {
    fdsBefore = openFds();
    client = new Client({ inodeFileHandles });
    now = monotonicMs();
  });
  afterEach(() => {
    client[Symbol.dispose]();
    expect(openFds()).toBe(fdsBefore);
  });
  const host = (name: string): string => join(client.dir, name);
  /** Time passes, and nothing else happens. */
  function wait(): void {
    for (let i = 0; i < 3; i += 1) {
      now += 11;
      client.fs.upkeep(now);
    }
  }

  test('a file that was created and closed is soon open for writing no more', () => {
    const { nodeid, fh } = client.create('f', { mode: 0o755 });
    client.write(nodeid, fh, 0n, '#!/bin/true\n');
    expect(opened(host('f'))).toEqual([2]);
    client.release(nodeid, fh);
    wait();
    expect(opened(host('f'))).toEqual([]);
    expect(client.fs.upkeep(now)).toBe(-1);
    execFileSync(host('f'));
    expect(client.getattr(nodeid).size).toBe(12n);
    const again = client.open(nodeid, 2);
    expect(client.write(nodeid, again.fh, 0n, 'x')).toBe(1);
  });

  test('while the guest has it open it stays open, however long that takes', () => {
    const { nodeid, fh } = client.create('f');
    wait();
    expect(client.write(nodeid, fh, 0n, 'abc')).toBe(3);
    const second = client.open(nodeid, 0);
    client.release(nodeid, fh);
    wait();
    expect(client.read(nodeid, second.fh, 0n, 9).toString()).toBe('abc');
    expect(opened(host('f'))).toEqual([0]);
  });

  test('upkeep asks to be called again until nothing lingers', () => {
    expect(client.fs.upkeep(now)).toBe(-1);
    const { nodeid, fh } = client.create('f');
    const second = client.open(nodeid, 0);
    client.release(nodeid, second.fh);
    client.release(nodeid, fh);
    let calls = 0;
    for (let delay = client.fs.upkeep(now); delay >= 0; delay = client.fs.upkeep(now)) {
      expect(delay).toBeGreaterThan(0);
      now += delay;
      calls += 1;
    }
    expect(calls).toBeLessThanOrEqual(4);
    expect(opened(host('f'))).toEqual([]);
  });

  test('closed and opened for reading again it is the same descriptor; for writing another', () => {
    writeFileSync(host('f'), 'abc');
    const { nodeid } = client.lookup('f');
    const first = client.open(nodeid, 0);
    client.release(nodeid, first.fh);
    expect(opened(host('f'))).toEqual([0]);
    const second = client.open(nodeid, 0);
    expect(second.fh).not.toBe(first.fh);
    expect(client.code(FuseOpcode.RELEASE, nodeid, [Buffer.alloc(24)])).toBe(-Errno.EBADF);
    expect(opened(host('f'))).toEqual([0]);
    expect(client.read(nodeid, second.fh, 0n, 9).toString()).toBe('abc');
    const third = client.open(nodeid, 0);
    expect(opened(host('f'))).toEqual([0, 0]);
    client.release(nodeid, second.fh);
    const writer = client.open(nodeid, 1);
    expect(opened(host('f')).toSorted((a, b) => a - b)).toEqual([0, 0, 1]);
    client.release(nodeid, writer.fh);
    expect(opened(host('f'))).toEqual([0, 0]);
    client.release(nodeid, third.fh);
    wait();
    expect(opened(host('f'))).toEqual([]);
  });

  test('a flock lock ends with its file, and is not the next one’s', () => {
    writeFileSync(host('f'), '');
    const { nodeid } = client.lookup('f');
    const first = client.open(nodeid, 0);
    const lock = (fh: bigint, type: number): unknown =>
      client.lock(FuseOpcode.SETLK, nodeid, { fh, owner: 1n, type, lkFlags: FUSE_LK_FLOCK });
    expect(lock(first.fh, 1)).toEqual(Buffer.alloc(0));
    expect(isLocked(host('f'))).toBe(true);
    client.release(nodeid, first.fh);
    expect(isLocked(host('f'))).toBe(false);
    const created = client.create('g');
    expect(
      client.lock(FuseOpcode.SETLK, created.nodeid, {
        fh: created.fh,
        owner: 1n,
        type: 1,
        lkFlags: FUSE_LK_FLOCK,
      }),
    ).toEqual(Buffer.alloc(0));
    client.release(created.nodeid, created.fh);
    expect(isLocked(host('g'))).toBe(false);
  });

  test('unlinked while open, just closed, or later: the guest goes on using it', () => {
    for (const when of ['open', 'closed', 'later']) {
      const { nodeid, fh } = client.create('f');
      client.write(nodeid, fh, 0n, when);
      if (when === 'open') expect(client.unlink('f')).toBe(0);
      client.release(nodeid, fh);
      if (when === 'later') wait();
      if (when !== 'open') expect(client.unlink('f')).toBe(0);
      expect(readdirSync(client.dir)).toEqual([]);
      expect(client.getattr(nodeid)).toMatchObject({ nlink: 0, size: BigInt(when.length) });
      wait();
      expect(openFlags((fd) => readlinkSync(`/proc/self/fd/${fd}`).startsWith(host('f')))).toEqual([]);
      expect(client.getattr(nodeid)).toMatchObject({ nlink: 0, size: BigInt(when.length) });
      const again = client.open(nodeid, 2);
      expect(client.read(nodeid, again.fh, 0n, 9).toString()).toBe(when);
      client.release(nodeid, again.fh);
      client.forget(nodeid);
      expect(client.fs.inodeCount).toBe(1);
      wait();
      expect(openFlags((fd) => readlinkSync(`/proc/self/fd/${fd}`).startsWith(client.dir))).toHaveLength(
        inodeFileHandles === 'never' ? 0 : 1, // the mount's own
      );
    }
  });

  test('one of two names is unlinked, or replaced: it stays reachable by the other', () => {
    const { nodeid, fh } = client.create('f');
    client.release(nodeid, fh);
    client.link(nodeid, 'g');
    expect(client.unlink('f')).toBe(0);
    wait();
    expect(client.getattr(nodeid).nlink).toBe(1);
    const other = client.create('h');
    client.release(other.nodeid, other.fh);
    expect(client.rename('h', 'g')).toBe(0);
    wait();
    expect(client.getattr(nodeid).nlink).toBe(0);
    expect(client.getattr(other.nodeid).nlink).toBe(1);
    expect(client.lookup('g').nodeid).toBe(other.nodeid);
  });

  test('the host moves it, links it, removes it', () => {
    const { nodeid, fh } = client.create('f');
    client.release(nodeid, fh);
    renameSync(host('f'), host('g'));
    linkSync(host('g'), host('h'));
    expect(client.lookup('h').nodeid).toBe(nodeid);
    expect(client.unlink('f')).toBe(-Errno.ENOENT);
    expect(client.unlink('g')).toBe(0);
    wait();
    expect(client.lookup('h').nodeid).toBe(nodeid);
    expect(client.getattr(nodeid).nlink).toBe(1);
  });

  test('more files than can linger are created, closed and opened', () => {
    const files = Array.from({ length: 300 }, (_, i) => {
      const { nodeid, fh } = client.create(`f-${i}`);
      client.write(nodeid, fh, 0n, `${i}`);
      client.release(nodeid, fh);
      const again = client.open(nodeid, 0);
      client.release(nodeid, again.fh);
      return nodeid;
    });
    expect(openFlags((fd) => readlinkSync(`/proc/self/fd/${fd}`).startsWith(host('f-'))).length).toBeLessThan(
      129,
    );
    for (const [i, nodeid] of files.entries()) {
      const { fh } = client.open(nodeid, 0);
      expect(client.read(nodeid, fh, 0n, 9).toString()).toBe(`${i}`);
      client.release(nodeid, fh);
    }
    wait();
    expect(openFlags((fd) => readlinkSync(`/proc/self/fd/${fd}`).startsWith(host('f-')))).toEqual([]);
  });

  test('unmounting closes all', () => {
    const { nodeid, fh } = client.create('f');
    client.create('g');
    client.release(nodeid, fh);
    const { fh: reader } = client.open(nodeid, 0);
    client.release(nodeid, reader);
    client.fs.destroy();
    expect(opened(host('f'))).toEqual([]);
    expect(opened(host('g'))).toEqual([]);
    client.mount();
    expect(client.lookup('f').attr.size).toBe(0n);
  });

  test('few descriptors: what lingers makes room', () => {
    using small = new Client({ inodeFileHandles, fdBudget: 32 });
    const held = Array.from({ length: 20 }, (_, i) => small.create(`held-${i}`));
    for (let i = 0; i < 100; i += 1) {
      const { nodeid, fh } = small.create(`f-${i}`);
      small.release(nodeid, fh);
      const again = small.open(nodeid, 0);
      small.release(nodeid, again.fh);
      expect(small.fs.fdCount).toBeLessThanOrEqual(33);
    }
    for (const { nodeid, fh } of held) expect(small.write(nodeid, fh, 0n, 'x')).toBe(1);
  });
});
