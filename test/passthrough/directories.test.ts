import { existsSync, mkdirSync, readdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import type { InodeFileHandles } from '../../src/passthrough/options.ts';
import { Client, isRoot, openFds } from './client.ts';

const policies: readonly InodeFileHandles[] = isRoot ? ['prefer', 'never'] : ['never'];
/** Thousands of files are made: in memory where there is some. */
const SHM = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

function fill(dir: string, count: number, name: (i: number) => string): string[] {
  const names = Array.from({ length: count }, (_, i) => name(i));
  for (const n of names) writeFileSync(join(dir, n), '');
  return names;
}

test.each([
  [true, 4096],
  [false, 4096],
  [true, 65536],
  [true, 500],
  [false, 300],
])('a directory is listed whole, each name once (plus %s, %i bytes a reply)', (isPlus, size) => {
  using client = new Client({}, SHM);
  const names = fill(client.dir, 700, (i) => `n${i}-${'x'.repeat((i * 7) % 200)}`);
  const listed = client.listAll(1n, size, isPlus);
  expect(listed.map((e) => e.name).sort()).toEqual([...names, '.', '..'].sort());
  const known = listed.filter((e) => e.nodeid !== 0n);
  expect(known).toHaveLength(isPlus ? names.length : 0);
  expect(client.fs.inodeCount).toBe(1 + known.length);
});

test('entries of READDIRPLUS count as lookups; "." and ".." do not', () => {
  using client = new Client();
  fill(client.dir, 30, (i) => `f${i}`);
  const [first] = [client.listAll(), client.listAll()];
  for (const { name, nodeid } of first) {
    if (name === '.' || name === '..') {
      expect(nodeid).toBe(0n);
      continue;
    }
    expect(client.lookup(name).nodeid).toBe(nodeid);
    client.forget(nodeid, 2n);
    expect(client.getattrCode(nodeid)).toBe(0);
    client.forget(nodeid, 1n);
    expect(client.getattrCode(nodeid)).toBe(-Errno.ESTALE);
  }
  expect(client.fs.inodeCount).toBe(1);
});

test('a listing goes on from any offset it was given, and starts anew at 0', () => {
  using client = new Client();
  const names = fill(client.dir, 200, (i) => `name-${i}`);
  const fh = client.opendir();
  const all = client.listAll();
  for (const at of [150, 3, 77, 0]) {
    const rest = client.list(1n, fh, all[at]!.off, 4096);
    expect(rest[0]!.name).toBe(all[at + 1]!.name);
  }
  writeFileSync(join(client.dir, 'later'), '');
  const again = [];
  for (let offset = 0n; ;) {
    const part = client.list(1n, fh, offset);
    if (part.length === 0) break;
    again.push(...part.map((e) => e.name));
    offset = part.at(-1)!.off;
  }
  expect(again).toHaveLength(names.length + 3);
  expect(again).toContain('later');
});

test.each([
  [1000, tmpdir()],
  [5000, SHM],
])('%i entries in %s under change: those that stay are listed once', (count, parent) => {
  using client = new Client({}, parent);
  const stay = fill(client.dir, count / 2, (i) => `stay-${i}`);
  const go = fill(client.dir, count / 2, (i) => `go-${i}`);
  let round = 0;
  const listed = client.listAll(1n, 4096, true, () => {
    for (let i = 0; i < 20 && go.length > 0; i += 1) unlinkSync(join(client.dir, go.pop()!));
    writeFileSync(join(client.dir, `new-${(round += 1)}`), '');
  });
  const seen = listed.map((e) => e.name).filter((n) => n.startsWith('stay-'));
  expect(seen).toHaveLength(stay.length);
  expect(new Set(seen).size).toBe(stay.length);
});

test.each(policies)(
  '20,000 files with 64 descriptors, handles %s: all reachable, none lost',
  (inodeFileHandles) => {
    const before = openFds();
    {
      using client = new Client({ inodeFileHandles, fdBudget: 64 }, SHM);
      for (let d = 0; d < 10; d += 1) {
        mkdirSync(join(client.dir, `d${d}`));
        fill(join(client.dir, `d${d}`), 2000, (i) => `${i}`);
      }
      const nodes: bigint[] = [];
      for (let d = 0; d < 10; d += 1) {
        const { nodeid } = client.lookup(`d${d}`);
        nodes.push(
          ...client
            .listAll(nodeid, 65536)
            .filter((e) => e.nodeid !== 0n)
            .map((e) => e.nodeid),
        );
      }
      expect(nodes).toHaveLength(20_000);
      expect(client.fs.inodeCount).toBe(20_011);
      expect(openFds() - before).toBeLessThan(64 + 8);
      for (let i = 0; i < nodes.length; i += 7) expect(client.getattr(nodes[i]!).nlink).toBe(1);
      const { fh } = client.open(nodes[19_999]!);
      expect(client.write(nodes[19_999]!, fh, 0n, 'x')).toBe(1);
      expect(client.fs.fdCount).toBeLessThanOrEqual(64);
      for (const nodeid of nodes) client.forget(nodeid);
      client.release(nodes[19_999]!, fh);
      expect(client.fs.inodeCount).toBe(11);
    }
    expect(openFds()).toBe(before);
  },
);

test('without handles an evicted inode follows RENAME, and what the host took away is ESTALE', () => {
  using client = new Client({ inodeFileHandles: 'never', fdBudget: 32 });
  const a = client.mkdir('a', 0o755);
  const b = client.mkdir('b', 0o755, {}, 0, a.nodeid);
  const file = client.create('f', { parent: b.nodeid });
  client.write(file.nodeid, file.fh, 0n, '12345');
  client.release(file.nodeid, file.fh);
  const evict = (): void => {
    for (let i = 0; i < 100; i += 1) client.mkdir(`filler-${Math.random()}`, 0o755);
  };
  evict();
  expect(client.rename('a', 'c')).toBe(0);
  evict();
  expect(client.getattr(file.nodeid).size).toBe(5n);
  const gone = client.create('gone');
  client.release(gone.nodeid, gone.fh);
  evict();
  unlinkSync(join(client.dir, 'gone'));
  writeFileSync(join(client.dir, 'gone'), 'another');
  expect(client.getattrCode(gone.nodeid)).toBe(-Errno.ESTALE);
  expect(client.lookup('gone').nodeid).not.toBe(gone.nodeid);
});

test('more open files than the budget allows are refused with ENFILE, and closing makes room', () => {
  using client = new Client({ fdBudget: 40 });
  const { nodeid, fh } = client.create('f');
  const fhs: bigint[] = [fh];
  let code: number | undefined = 0;
  for (let i = 0; i < 60 && code === 0; i += 1) {
    code = client.openCode(nodeid);
    fhs.push(0n);
  }
  expect(code).toBe(-Errno.ENFILE);
  expect(client.lookupCode('f')).toBe(0);
  expect(readdirSync(client.dir)).toEqual(['f']);
  client.send(38, 0n, []); // DESTROY
  client.mount();
  const again = client.lookup('f');
  expect(client.openCode(again.nodeid)).toBe(0);
});
