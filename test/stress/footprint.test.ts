import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { mapShared, unmap } from '../../src/host/mapping.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { findMapper, footprintOf, NO_MEMORY, surplus } from '../../src/stress/footprint.ts';

test('mappings and descriptors of guest memory are seen, and told when they are left over', () => {
  const before = footprintOf(process.pid)!;
  const fd = createMemfd('guest', 8192);
  {
    using _file = new OwnedFd(fd);
    const address = mapShared(fd, 0, 8192);
    const now = footprintOf(process.pid)!;
    expect(now.mappings - before.mappings).toBe(1);
    expect(now.bytes - before.bytes).toBe(8192);
    expect(now.memfds - before.memfds).toBe(1);
    expect(surplus(before, now)).toMatch(/^mappings of guest memory .*descriptors of guest memory/);
    expect(surplus(NO_MEMORY, now)).toContain('bytes of guest memory 8192');
    expect(findMapper([0, process.pid])).toBe(process.pid);
    unmap(address, 8192);
  }
  expect(surplus(before, footprintOf(process.pid)!)).toBe('');
});

test('a few more descriptors of its own are no leak, many are', () => {
  const before = footprintOf(process.pid)!;
  expect(surplus(before, { ...before, others: before.others + 8 })).toBe('');
  expect(surplus(before, { ...before, others: before.others + 9 })).toContain('other descriptors');
  expect(surplus(before, { ...before, eventfds: before.eventfds + 1 })).toContain('eventfds');
});

test('a process that is gone has none', async () => {
  const child = spawn('true');
  await once(child, 'exit');
  expect(footprintOf(child.pid!)).toBeUndefined();
  expect(findMapper([child.pid!])).toBeUndefined();
});
