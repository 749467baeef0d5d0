import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { buildTopology } from '../../src/memory/mtree/build.ts';
import { parseMtree } from '../../src/memory/mtree/parse.ts';
import { printTree } from '../../src/memory/mtree/print-tree.ts';
import { checkFuzz, type FuzzCase } from '../oracle/fuzz.ts';
import { checkMachine, type MachineCase } from '../oracle/machine.ts';
import { checkSequence, type SequenceCase } from '../oracle/sequence.ts';

const folder = new URL('../../fixtures/mtree/', import.meta.url);

/** Every recording of a kind, by name. */
const recordings = (kind: string): readonly (readonly [string, unknown])[] =>
  readdirSync(new URL(`${kind}/`, folder)).map((name) => [
    name,
    JSON.parse(gunzipSync(readFileSync(new URL(`${kind}/${name}`, folder))).toString()),
  ]);

const machines = recordings('machines');

test.each(machines)('%s: the trees give the views and the texts QEMU gave', (_, recording) => {
  checkMachine(recording as MachineCase);
});

test.each(recordings('sequences'))('%s: listeners hear what QEMU told its own', (_, recording) => {
  checkSequence(recording as SequenceCase);
});

test.each(recordings('fuzz'))('%s: every callback, answer and view is as in QEMU', (_, recording) => {
  checkFuzz(recording as FuzzCase);
});

/** Regions of one name are told apart by the order of sections, which is a guess where several were named before. */
const AMBIGUOUS = 9;

test('a tree built from the text of info mtree -D prints the same text again', () => {
  const different = machines.filter(([, recording]) => {
    const text = (recording as MachineCase).hmp['mtree-D']!;
    const parsed = parseMtree(text);
    return (
      parsed.kind !== 'tree' || printTree(buildTopology(parsed).topology, { showsDisabled: true }) !== text
    );
  });
  expect(different.length).toBeLessThanOrEqual(AMBIGUOUS);
});
