/** Bad indirect tables. */
import {
  VRING_DESC_F_INDIRECT as INDIRECT,
  VRING_DESC_F_NEXT as NEXT,
} from '../../../protocol/virtio-ring.ts';
import { answer, at, type BadChain, badChainCase, out, type Parts } from '../bad-chain.ts';
import type { ConformanceCase } from '../case.ts';
import type { Descriptor } from '../raw-ring.ts';

const TABLES = 'virtio 1.2 § 2.7.5.3.1';
const IN_MEMORY = 'guest addresses map to the memory region that contains them';
const ONE_TABLE = 'the driver must not set INDIRECT within an indirect table';
const LENGTH = 'the driver must not add a chain longer than 2^32 bytes; loops are forbidden';

const TABLE_CHAINS: readonly BadChain[] = [
  indirect('outside', 'an indirect table outside memory', IN_MEMORY, (p) => [at(p.outside, 32, INDIRECT)], 0),
  indirect(
    'beyond-end',
    'an indirect table that crosses the end of memory',
    IN_MEMORY,
    (p) => [at(p.end - 16, 32, INDIRECT)],
    0,
  ),
  indirect(
    'odd-length',
    'an indirect table whose length is no multiple of 16',
    'the table has len / 16 entries',
    (p) => [at(p.table([out(p), answer(p)]), 40, INDIRECT)],
  ),
  indirect(
    'short',
    'an indirect table shorter than a descriptor',
    'the table has len / 16 entries',
    (p) => [at(p.table([out(p), answer(p)]), 8, INDIRECT)],
    0,
  ),
  indirect(
    'empty',
    'an empty indirect table',
    'the table has len / 16 entries',
    (p) => [at(p.table([out(p), answer(p)]), 0, INDIRECT)],
    0,
  ),
  indirect('4-gib', 'an indirect table of 4 GiB', 'a chain is no longer than the queue size', (p) => [
    at(p.table([out(p), answer(p)]), 0xffff_fff0, INDIRECT),
  ]),
  indirect(
    'too-long',
    'an indirect chain of 20,000 descriptors',
    'a chain is no longer than the queue size',
    (p) => [at(p.table(longChain(p, 20_000)), 20_000 * 16, INDIRECT)],
  ),
  indirect('nested', 'an indirect table within another', ONE_TABLE, (p) => {
    const inner = p.table([out(p), answer(p)]);
    return [at(p.table([at(inner, 32, INDIRECT)]), 16, INDIRECT)];
  }),
  indirect(
    'nested-in-itself',
    'an indirect table that refers to itself',
    ONE_TABLE,
    (p) => {
      const gpa = p.table([at(0, 16, INDIRECT)]);
      p.table([at(gpa, 16, INDIRECT)]);
      return [at(gpa, 16, INDIRECT)];
    },
    0,
  ),
  indirect(
    'with-next',
    'an indirect descriptor that has a successor',
    'the driver must not set both INDIRECT and NEXT',
    (p) => [at(p.table([out(p), answer(p)]), 32, INDIRECT | NEXT, 1), answer(p)],
    Infinity,
  ),
  indirect('next-outside', 'a successor outside the indirect table', 'next is an index of the table', (p) => [
    at(p.table([out(p, 7), answer(p)]), 32, INDIRECT),
  ]),
  indirect('loop', 'a loop within an indirect table', LENGTH, (p) => [
    at(p.table([out(p), out(p, 0)]), 32, INDIRECT),
  ]),
];

export const HOSTILE_INDIRECT_CASES: readonly ConformanceCase[] = TABLE_CHAINS.map(badChainCase);

/** One byte to read in each descriptor, and the answer in the last. */
const longChain = (parts: Parts, length: number): readonly Descriptor[] =>
  Array.from({ length }, (_, i) =>
    i + 1 === length ? answer(parts) : at(parts.request.gpa, 1, NEXT, (i + 1) & 0xffff),
  );

function indirect(
  id: string,
  title: string,
  says: string,
  chain: BadChain['chain'],
  writable?: number,
): BadChain {
  return {
    id: `indirect.${id}`,
    title,
    says,
    section: TABLES,
    isIndirect: true,
    chain,
    ...(writable === undefined ? {} : { writable }),
  };
}
