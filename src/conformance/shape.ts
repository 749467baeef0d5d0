/** How a request lies in descriptors: where it is cut, in which entries, in which table. */
import { VRING_DESC_F_NEXT } from '../../protocol/virtio-ring.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import type { Descriptor } from './raw-ring.ts';

/** One descriptor before it is linked to the next. */
export type Unlinked = Omit<Descriptor, 'next'>;

export type Order = 'forwards' | 'backwards';

/** How a request lies in descriptors. What is left out: one to read and one to write, in the ring's own table. */
export interface Shape {
  /** Bytes of each descriptor's buffer; what is left goes into one more. */
  readonly readable?: readonly number[];
  readonly writable?: readonly number[];
  /** So many descriptors are followed by one that refers to an indirect table with all others. */
  readonly indirectAfter?: number;
  /** Flags of the descriptor that refers to the table, beside INDIRECT. */
  readonly indirectFlags?: number;
  /** Bytes the table is off the alignment of 16. */
  readonly misaligned?: number;
  /** Which entries of the table the descriptors take: in order; or the first, and then from the last on backwards. */
  readonly order?: Order;
  /** Where buffers are taken from; otherwise next to each other in the base region. */
  readonly place?: (size: number, isWritable: boolean) => GuestBuffer;
}

export const described = ({ gpa, bytes }: GuestBuffer, flags: number): Unlinked => ({
  gpa,
  length: bytes.length,
  flags,
});

/** Links descriptors that take the entries from `from` on, the first of them first; answers them by entry. */
export function chained(list: readonly Unlinked[], order: Order, from: number): readonly Descriptor[] {
  const offsetOf = (i: number): number => (order === 'forwards' || i === 0 ? i : list.length - i);
  const entries: Descriptor[] = [];
  list.forEach((descriptor, i) => {
    const isLast = i + 1 === list.length;
    entries[offsetOf(i)] = {
      ...descriptor,
      flags: descriptor.flags | (isLast ? 0 : VRING_DESC_F_NEXT),
      next: isLast ? 0 : from + offsetOf(i + 1),
    };
  });
  return entries;
}

/** Cuts `total` bytes: the sizes as told, then the rest. */
export function pieces(total: number, sizes: readonly number[] = []): readonly number[] {
  const cut: number[] = [];
  let left = total;
  for (const size of sizes) {
    if (left <= 0) break;
    cut.push(Math.min(size, left));
    left -= size;
  }
  return left > 0 ? [...cut, left] : cut;
}
