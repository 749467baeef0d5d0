import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { PassthroughFs } from '../../src/passthrough/passthrough-fs.ts';
import type { PassthroughOptions } from '../../src/passthrough/options.ts';
import { ended, startWorker } from '../support/typescript-worker.ts';
import type { BusyGuestSetup } from './busy-guest.ts';
import { Client, DEFAULTS, isRoot, openFds } from './client.ts';

const THREADS = 3;
/** More of both for a long run: THREADS_STEPS=200000 THREADS_SEED=1. */
const STEPS = Number(process.env['THREADS_STEPS'] ?? 2000);
const SEED = Number(process.env['THREADS_SEED'] ?? 5);
const SHOWN_BYTES = 16 * 4 * 8;

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'threads-'));
  for (let i = 0; i < 6; i += 1) writeFileSync(join(directory, `name-${i}`), '');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function runThreads(options: Partial<PassthroughOptions>): Promise<void> {
  const fdsBefore = openFds();
  const fs = new PassthroughFs({ ...DEFAULTS, ...options, sharedDir: directory }, 'shared');
  const fdsAtRest = fs.fdCount;
  const share = fs.handover();
  const shown = new SharedArrayBuffer(SHOWN_BYTES);
  const ready = new SharedArrayBuffer(4);
  const module = new URL('./busy-guest.ts', import.meta.url);
  await Promise.all(
    Array.from({ length: THREADS }, (_, i) => {
      const setup = { share, seed: SEED + 17 * i, steps: STEPS, shown, ready, threads: THREADS };
      return ended(startWorker(module, setup satisfies BusyGuestSetup));
    }),
  );
  expect(fs.openCount).toBe(0);
  expect(fs.inodeCount).toBe(1);
  expect(fs.fdCount).toBe(fdsAtRest);
  fs.dispose();
  expect(openFds()).toBe(fdsBefore);
}

test.skipIf(!isRoot)('threads on one share, inodes held by file handle', () => runThreads({}));

test('threads on one share, each inode held by a descriptor', () =>
  runThreads({ inodeFileHandles: 'never' }));

test('threads on one share with too few descriptors: inodes are closed and found again by name', () =>
  runThreads({ inodeFileHandles: 'never', fdBudget: 32 }));

test.skipIf(!isRoot)('threads on one share with too few descriptors, and file handles', () =>
  runThreads({ fdBudget: 32 }),
);

test.each(['prefer', 'never'] as const)(
  'what one finds another uses, however long the tables have become (%s)',
  (inodeFileHandles) => {
    for (let i = 0; i < 1500; i += 1) writeFileSync(join(directory, `more-${i}`), '');
    const options = { inodeFileHandles, sharedDir: directory };
    using first = new Client(options, undefined, 'shared');
    using second = new Client(options, undefined, first.fs.handover());
    const nodeids = Array.from({ length: 1500 }, (_, i) => first.lookup(`more-${i}`).nodeid);
    const nodeid = nodeids.at(-1)!;
    const { fh } = first.open(nodeid);
    expect(second.getattr(nodeid)).toEqual(first.getattr(nodeid));
    expect(second.lookup('more-1499').nodeid).toBe(nodeid);
    const lock = second.lock(FuseOpcode.SETLK, nodeid, { fh, owner: 1n, type: 0 });
    expect(lock).toEqual(Buffer.alloc(0));
    second.release(nodeid, fh);
    expect(first.fs.openCount).toBe(0);
    expect(first.fs.fdCount).toBeLessThan(inodeFileHandles === 'never' ? 1510 : 10);
    for (const each of nodeids) second.forget(each, 2n);
    expect(first.fs.inodeCount).toBe(1);
  },
);

test('a share that was opened for one thread is not handed over', () => {
  using fs = new PassthroughFs({ ...DEFAULTS, sharedDir: directory });
  expect(() => fs.handover()).toThrow(RangeError);
});
