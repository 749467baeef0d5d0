import { readFileSync } from 'node:fs';
import { compileFunction } from 'node:vm';
import { expect, test } from 'vitest';
import { load } from '../../src/memory/access.ts';
import type { AddressSpace } from '../../src/memory/address-space.ts';
import { printFlatView } from '../../src/memory/mtree/print-flat.ts';
import type { RamBlock } from '../../src/memory/ram-block.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';

const text = readFileSync(new URL('../../src/memory/README.md', import.meta.url), 'utf8');

/** An example and what it must print, by the heading above it. */
const examples = [...text.matchAll(/^## (.+?)$[^]*?```js\n([^]*?)```\n\n```text\n([^]*?)```/gm)].map(
  ([, heading, code, output]) => [heading!, code!, output!] as const,
);

test('every example of the document is found', () => {
  expect(examples).toHaveLength(text.split('```js').length - 1);
  expect(examples.length).toBeGreaterThan(5);
});

test.each(examples)('%s: the example prints what stands below it', (_, code, output) => {
  const topology = new MemoryTopology();
  const lines: string[] = [];
  const print = (line: string): void => {
    lines.push(`${line}\n`);
  };
  const show = (space: AddressSpace): void => {
    const ranges = printFlatView(topology, space.view).split('\n');
    for (const line of ranges) if (line.startsWith('  ')) print(line.trim());
  };
  const block = (size: bigint): RamBlock => ({ id: 'block', size, pageSize: 4096 });
  const run = compileFunction(code, ['topology', 'print', 'show', 'block', 'load']);
  run(topology, print, show, block, load);
  expect(lines.join('')).toBe(output);
});
