import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runMtree } from '../../src/cli/mtree.ts';

const TREE = `address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
    0000000000000000-000000003fffffff (prio 0, ram): pc.ram
    00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic

address-space: I/O
  0000000000000000-000000000000ffff (prio 0, i/o): io

`;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mtree-'));
  writeFileSync(join(folder, 'tree.txt'), TREE);
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const run = async (options: Omit<Parameters<typeof runMtree>[0], 'file' | 'output'>): Promise<string> => {
  const output = join(folder, 'out');
  expect(await runMtree({ ...options, file: join(folder, 'tree.txt'), output })).toBe(0);
  return readFileSync(output, 'utf8');
};

test('text names the view, the slots, and what was guessed', async () => {
  const text = await run({ format: 'text', space: 'memory' });
  expect(text).toContain('  0000000000000000-000000003fffffff (prio 0, ram): pc.ram\n');
  expect(text).toContain('gpa 0x0 size 0x40000000 pc.ram');
  expect(text).toContain('Guessed, as the text does not say it:');
  expect(text).not.toContain('"I/O"');
});

test('JSON has addresses as hexadecimal strings', async () => {
  const report = JSON.parse(await run({ format: 'json' })) as {
    views: { ranges: unknown[]; memoryTable: unknown[] }[];
  };
  expect(report.views[0]!.memoryTable).toEqual([
    { guestPhysAddr: '0x0', memorySize: '0x40000000', name: 'pc.ram', offset: '0x0' },
  ]);
  expect(report.views[1]!.ranges).toHaveLength(1);
});

test('a picture is an SVG document', async () => {
  const picture = await run({ format: 'svg' });
  expect(picture.startsWith('<svg ')).toBe(true);
  expect(picture.trimEnd().endsWith('</svg>')).toBe(true);
});

test.each([
  ['a file that is not there', { file: '/nonexistent/tree.txt' }, 'SYSTEM'],
  ['an address space that is not there', { space: 'nowhere' }, 'BAD_OPTION'],
])('%s is told to the operator', async (_, options, code) => {
  const all = { file: join(folder, 'tree.txt'), format: 'text', ...options } as const;
  await expect(runMtree(all)).rejects.toThrow(expect.objectContaining({ name: 'ConfigError', code }));
});

test('a file that is something else is told to the operator', async () => {
  writeFileSync(join(folder, 'tree.txt'), 'hello\n');
  const options = { file: join(folder, 'tree.txt'), format: 'text' } as const;
  await expect(runMtree(options)).rejects.toThrow(
    expect.objectContaining({ name: 'ConfigError', code: 'BAD_OPTION' }),
  );
});
