import { describe, expect, test } from 'vitest';
import { Iovecs } from '../../src/fuse/iovecs.ts';
import { Chain } from '../../src/virtio/chain.ts';
import { HOST, readIovecs } from './guest.ts';

/** A chain of readable segments, then writable ones: [address, length]. */
function chainOf(readable: readonly [number, number][], writable: readonly [number, number][]): Chain {
  const chain = new Chain(4096);
  chain.begin(0);
  for (const [address, length] of readable) chain.append(address, length, 0, false);
  for (const [address, length] of writable) chain.append(address, length, 0, true);
  return chain;
}

describe('iovecs', () => {
  const iovecs = new Iovecs(HOST);
  const made = (): [number, number][] => readIovecs(iovecs.address, iovecs.count);

  test('start and end inside segments, and skip what lies before', () => {
    const chain = chainOf(
      [
        [0x1000, 10],
        [0x7fff_0000_2000, 10],
        [0x3000, 10],
      ],
      [[0x9000, 100]],
    );
    expect(iovecs.readable(chain, 15, 8)).toBe(8);
    expect(made()).toEqual([
      [0x7fff_0000_2005, 5],
      [0x3000, 3],
    ]);
    expect(iovecs.writable(chain, 16, 500)).toBe(84);
    expect(made()).toEqual([[0x9010, 84]]);
  });

  test('neighbours become one, also beyond 4 GiB', () => {
    const chain = chainOf(
      [],
      [
        [0x10_0000_0000, 0xffff_f000],
        [0x10_ffff_f000, 0x2000],
        [0x5000, 1],
      ],
    );
    expect(iovecs.writable(chain, 0, 2 ** 40)).toBe(0x1_0000_1001);
    expect(made()).toEqual([
      [0x10_0000_0000, 0x1_0000_1000],
      [0x5000, 1],
    ]);
  });

  test('at most 1024 are made; the rest is for another call', () => {
    const chain = chainOf(
      [],
      Array.from({ length: 1500 }, (_, i) => [i * 100, 10]),
    );
    expect(iovecs.writable(chain, 0, 15_000)).toBe(10_240);
    expect(iovecs.count).toBe(1024);
    expect(iovecs.writable(chain, 10_240, 4760)).toBe(4760);
    expect(made()[0]).toEqual([102_400, 10]);
    expect(iovecs.count).toBe(476);
  });

  test('nothing is covered by a size of 0 or less, or beyond the end', () => {
    const chain = chainOf([[0x1000, 10]], []);
    for (const [start, size] of [
      [0, 0],
      [0, -1],
      [10, 5],
    ] as const) {
      expect(iovecs.readable(chain, start, size)).toBe(0);
      expect(iovecs.count).toBe(0);
    }
  });
});
