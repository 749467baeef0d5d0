/** Bad chains in the ring's own table. */
import { VRING_DESC_F_NEXT as NEXT, VRING_DESC_F_WRITE as WRITE } from '../../../protocol/virtio-ring.ts';
import { answer, at, type BadChain, badChainCase, out } from '../bad-chain.ts';
import type { ConformanceCase } from '../case.ts';

const IN_MEMORY = 'guest addresses map to the memory region that contains them';
const MEMORY = 'vhost-user § Memory access';
const LENGTH = 'the driver must not add a chain longer than 2^32 bytes; loops are forbidden';
const ORDER = 'the driver must place writable elements after readable ones';

const CHAINS: readonly BadChain[] = [
  memory(
    'reply-outside',
    'an answer that goes outside memory',
    (p) => [out(p), at(p.outside, 1024, WRITE)],
    0,
  ),
  memory('request-outside', 'a request that lies outside memory', (p) => [
    at(p.outside, 56, NEXT, 1),
    answer(p),
  ]),
  memory(
    'reply-beyond-end',
    'an answer that crosses the end of memory',
    (p) => [out(p), at(p.end - 8, 1024, WRITE)],
    8,
  ),
  memory(
    'reply-at-end',
    'an answer just behind the end of memory',
    (p) => [out(p), at(p.end, 1024, WRITE)],
    0,
  ),
  memory('request-beyond-end', 'a request that crosses the end of memory', (p) => [
    at(p.end - 8, 56, NEXT, 1),
    answer(p),
  ]),
  memory(
    'reply-wraps',
    'an answer whose address wraps around',
    (p) => [out(p), at(2n ** 64n - 4096n, 8192, WRITE)],
    0,
  ),
  memory('request-wraps', 'a request whose address wraps around', (p) => [
    at(2n ** 64n - 16n, 56, NEXT, 1),
    answer(p),
  ]),
  memory('reply-high', 'an answer at 2^63', (p) => [out(p), at(2n ** 63n, 1024, WRITE)], 0),
  memory(
    'reply-truncated',
    'an answer whose address is good in its lower half',
    (p) => [out(p), at(BigInt(p.reply.gpa) + 2n ** 40n, p.reply.bytes.length, WRITE)],
    0,
  ),
  memory('reply-4-gib', 'an answer of 4 GiB', (p) => [out(p), at(p.reply.gpa, 0xffff_ffff, WRITE)], Infinity),
  memory('request-4-gib', 'a request of 4 GiB', (p) => [at(p.request.gpa, 0xffff_ffff, NEXT, 1), answer(p)]),
  memory(
    'half-outside',
    'an answer of two buffers of which one is outside memory',
    (p) => [out(p), at(p.reply.gpa, 24, WRITE | NEXT, 2), at(p.outside, 1024, WRITE)],
    24,
  ),
  table('loop', 'a descriptor that is its own successor', LENGTH, (p) => [out(p, 0)]),
  table('loop-of-two', 'two descriptors that follow each other', LENGTH, (p) => [out(p), out(p, 0)]),
  table('loop-writable', 'a loop of writable descriptors', LENGTH, (p) => [
    out(p),
    at(p.reply.gpa, 8, WRITE | NEXT, 1),
  ]),
  table('next-outside', 'a successor outside the ring', 'next is an index of the table', (p) => [
    out(p, 5000),
    answer(p),
  ]),
  table('next-last', 'a successor just outside the ring', 'next is an index of the table', (p) => [
    out(p, 64),
    answer(p),
  ]),
  table('zero-readable', 'an empty readable buffer', 'a buffer has a length', (p) => [
    at(p.request.gpa, 0, NEXT, 1),
    out(p, 2),
    answer(p),
  ]),
  table('zero-writable', 'an empty writable buffer', 'a buffer has a length', (p) => [
    out(p),
    at(p.reply.gpa, 0, WRITE | NEXT, 2),
    answer(p),
  ]),
  table('zero-only', 'nothing but an empty buffer', 'a buffer has a length', (p) => [
    at(p.request.gpa, 0, 0),
  ]),
  table('short-header', 'a request shorter than its header', 'the device reads its header first', (p) => [
    at(p.request.gpa, 7, NEXT, 1),
    answer(p),
  ]),
  table('nothing-readable', 'no readable buffer', 'the device reads its header first', (p) => [answer(p)]),
  table('nothing-writable', 'no room for the answer', 'the answer needs writable buffers', (p) => [
    at(p.request.gpa, p.request.bytes.length, 0),
  ]),
  table(
    'small-reply',
    'room of 3 bytes for the answer',
    'the answer needs writable buffers',
    (p) => [out(p), at(p.reply.gpa, 3, WRITE)],
    3,
  ),
  table('writable-first', 'a writable buffer before the readable one', ORDER, (p) => [
    at(p.reply.gpa, p.reply.bytes.length, WRITE | NEXT, 1),
    at(p.request.gpa, p.request.bytes.length, 0),
  ]),
  table('writable-between', 'a writable buffer between readable ones', ORDER, (p) => [
    at(p.request.gpa, 16, NEXT, 1),
    at(p.reply.gpa, 64, WRITE | NEXT, 2),
    at(p.request.gpa + 16, p.request.bytes.length - 16, NEXT, 3),
    at(p.reply.gpa + 64, p.reply.bytes.length - 64, WRITE),
  ]),
  table('unknown-flags', 'all flags that mean nothing', 'flags are NEXT, WRITE and INDIRECT', (p) => [
    { ...out(p), flags: 0xfff8 | NEXT },
    { ...answer(p), flags: 0xfff8 | WRITE },
  ]),
];

export const HOSTILE_CHAIN_CASES: readonly ConformanceCase[] = CHAINS.map(badChainCase);

function memory(id: string, title: string, chain: BadChain['chain'], writable?: number): BadChain {
  return {
    id: `chain.${id}`,
    title,
    says: IN_MEMORY,
    section: MEMORY,
    chain,
    ...(writable === undefined ? {} : { writable }),
  };
}

function table(
  id: string,
  title: string,
  says: string,
  chain: BadChain['chain'],
  writable?: number,
): BadChain {
  return { id: `chain.${id}`, title, says, chain, ...(writable === undefined ? {} : { writable }) };
}
