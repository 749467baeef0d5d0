import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import {
  CAP_FSETID,
  changeUmask,
  dropCapability,
  hasCapability,
  raiseCapabilities,
  setEffectiveGroup,
  setEffectiveUser,
} from '../../src/host/credentials.ts';
import { readAttributes, STATX_BASIC_STATS, StatxWord } from '../../src/host/files-attributes.ts';
import { append, copyFileRange, readAt, seekTo, writeAt } from '../../src/host/files-io.ts';
import { makeDirectory, readDirectory, readLink, removeName } from '../../src/host/files-names.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  closeFile,
  EMPTY_PATH,
  fdName,
  fdPath,
  O_CREAT,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  openFile,
} from '../../src/host/files-open.ts';
import { NativeMemory, setU64 } from '../../src/host/native-memory.ts';

const isRoot = process.geteuid?.() === 0;
const dir = mkdtempSync(join(tmpdir(), 'files-'));
afterAll(() => rmSync(dir, { recursive: true }));

const memory = NativeMemory.allocate(16384);
const DATA_AT = 8192;

/** Address of a path below the test's directory. */
function path(name: string): number {
  memory.u8.set(Buffer.from(`${join(dir, name)}\0`));
  return memory.address;
}

/** Address of one iovec over `size` octets at byte `at` of the test's memory. */
function iovec(at: number, size: number): number {
  const word = 1024;
  setU64(memory.u32, word, memory.address + at);
  setU64(memory.u32, word + 2, size);
  return memory.address + word * 4;
}

const octetsAt = (at: number, size: number): string =>
  Buffer.from(memory.u8.subarray(at, at + size)).toString();

test('octets go from memory to file and back, at any offset', () => {
  const fd = openFile(AT_FDCWD, path('data'), O_RDWR | O_CREAT, 0o600);
  memory.u8.set(Buffer.from('hello'), DATA_AT);
  expect(writeAt(fd, iovec(DATA_AT, 5), 1, 3)).toBe(5);
  expect(append(fd, iovec(DATA_AT, 2), 1)).toBe(2);
  expect(readFileSync(join(dir, 'data'), 'latin1')).toBe('\0\0\0hellohe');
  expect(readAt(fd, iovec(DATA_AT + 100, 100), 1, 6)).toBe(4);
  expect(octetsAt(DATA_AT + 100, 4)).toBe('lohe');
  expect(readAt(fd, iovec(DATA_AT, 1), 1, 2n ** 63n - 2n)).toBe(0);
  expect(seekTo(fd, -1, 0)).toBe(-Errno.EINVAL);
  closeFile(fd);
  expect(readAt(fd, iovec(DATA_AT, 1), 1, 0)).toBe(-Errno.EBADF);
});

test('an offset beyond 2^53 is exact where the file system has such', () => {
  const shm = openFile(
    AT_FDCWD,
    (memory.u8.set(Buffer.from('/dev/shm\0')), memory.address),
    O_RDWR | 0o20200000,
    0o600,
  );
  const offset = 2n ** 62n + 1n;
  const written = shm < 0 ? shm : writeAt(shm, iovec(DATA_AT, 1), 1, offset);
  expect(written === 1 ? seekTo(shm, 0, 2) : offset + 1n).toBe(offset + 1n);
  if (shm >= 0) closeFile(shm);
});

test('copy_file_range takes its offsets from memory', () => {
  writeFileSync(join(dir, 'from'), '0123456789');
  const from = openFile(AT_FDCWD, path('from'), O_RDONLY, 0);
  const to = openFile(AT_FDCWD, path('to'), O_RDWR | O_CREAT, 0o600);
  setU64(memory.u32, 1024, 4);
  setU64(memory.u32, 1026, 0);
  expect(copyFileRange(from, memory.address + 4096, to, memory.address + 4104, 3)).toBe(3);
  expect(readFileSync(join(dir, 'to'), 'utf8')).toBe('456');
  closeFile(from);
  closeFile(to);
});

test('a descriptor has a name in /proc, and an empty path means itself', () => {
  writeFileSync(join(dir, 'named'), 'x'.repeat(321));
  const fd = openFile(AT_FDCWD, path('named'), O_PATH, 0);
  expect(fdName(1234567890)).toBeGreaterThan(0);
  const reopened = openFile(AT_FDCWD, fdPath(fd), O_RDONLY, 0);
  expect(reopened).toBeGreaterThan(0);
  expect(readAttributes(fd, EMPTY_PATH, AT_EMPTY_PATH, STATX_BASIC_STATS, memory.address)).toBe(0);
  expect(memory.u32[StatxWord.size]).toBe(321);
  const length = readLink(AT_FDCWD, fdPath(fd), memory.address + DATA_AT, 4096);
  expect(octetsAt(DATA_AT, length)).toBe(join(dir, 'named'));
  closeFile(fd);
  closeFile(reopened);
});

test('directories are made, listed and removed; refusals are −errno', () => {
  expect(makeDirectory(AT_FDCWD, path('sub'), 0o700)).toBe(0);
  expect(makeDirectory(AT_FDCWD, path('sub'), 0o700)).toBe(-Errno.EEXIST);
  const fd = openFile(AT_FDCWD, path('sub'), O_RDONLY | O_DIRECTORY, 0);
  expect(readDirectory(fd, memory.address + DATA_AT, 4096)).toBe(48); // "." and ".."
  expect(readDirectory(fd, memory.address + DATA_AT, 4096)).toBe(0);
  closeFile(fd);
  expect(removeName(AT_FDCWD, path('sub'), 0)).toBe(-Errno.EISDIR);
  expect(removeName(AT_FDCWD, path('sub'), AT_REMOVEDIR)).toBe(0);
  expect(openFile(AT_FDCWD, path('sub'), O_RDONLY, 0)).toBe(-Errno.ENOENT);
});

test.skipIf(!isRoot)('identity and capabilities change for this thread alone, and come back', () => {
  const before = changeUmask(0);
  expect([setEffectiveGroup(77), setEffectiveUser(66)]).toEqual([0, 0]);
  const fd = openFile(AT_FDCWD, path(`../owned-${process.pid}`), O_RDWR | O_CREAT, 0o666);
  expect(hasCapability(CAP_FSETID)).toBe(false);
  expect([setEffectiveUser(0), setEffectiveGroup(0)]).toEqual([0, 0]);
  changeUmask(before);
  closeFile(fd);
  const { uid, gid } = statSync(join(dir, `../owned-${process.pid}`));
  rmSync(join(dir, `../owned-${process.pid}`));
  expect([uid, gid]).toEqual([66, 77]);
  expect(hasCapability(CAP_FSETID)).toBe(true);
  expect(dropCapability(CAP_FSETID)).toBe(1);
  expect([hasCapability(CAP_FSETID), dropCapability(CAP_FSETID)]).toEqual([false, 0]);
  expect(raiseCapabilities(1 << CAP_FSETID)).toBe(1 << CAP_FSETID);
});
