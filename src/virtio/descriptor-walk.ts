/**
 * Follows a chain of descriptors and finds its buffers in memory.
 *
 * Each word of a descriptor is loaded once, and only the copy is checked and used: the driver may change it meanwhile.
 * Whatever is wrong ends in `chain.fault`; nothing here throws.
 */
import {
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VringDesc,
} from '../../protocol/virtio-ring.ts';
import type { Chain } from './chain.ts';
import { IndirectTables, type TableMemory } from './indirect.ts';
import { DESC_WORDS } from './split-ring.ts';

/** Descriptors an indirect table may have although the ring is smaller: what QEMU allows. */
const MAX_INDIRECT = 1024;
/** Segments beyond one per descriptor, for buffers that cross slots. */
const SPARE_SEGMENTS = 64;
/** A 64-bit address whose upper word is below this is a safe integer; no region lies above. */
const MAX_ADDRESS_HIGH = 0x20_0000;
const HIGH_WORD = 0x1_0000_0000;

export class DescriptorWalk {
  /** Segments a chain needs room for. */
  readonly maxSegments: number;

  readonly #memory: TableMemory;
  readonly #desc: Uint32Array;
  readonly #num: number;
  readonly #hasIndirect: boolean;
  readonly #maxIndirect: number;
  readonly #tables: IndirectTables;

  /**
   * @param table the ring's descriptor table, all of it
   * @param hasIndirect VIRTIO_RING_F_INDIRECT_DESC was negotiated
   */
  constructor(memory: TableMemory, table: Uint32Array, hasIndirect: boolean) {
    this.#memory = memory;
    this.#desc = table;
    this.#num = table.length / DESC_WORDS;
    this.#hasIndirect = hasIndirect;
    this.#maxIndirect = Math.max(this.#num, MAX_INDIRECT);
    this.maxSegments = this.#maxIndirect + SPARE_SEGMENTS;
    this.#tables = new IndirectTables(memory, this.#maxIndirect);
  }

  /** Fills `chain`, which was begun, from descriptor `head`, which lies in the table. What is wrong goes to `chain.fault`. */
  follow(chain: Chain, head: number): void {
    let table = this.#desc;
    /** Word of the table's first descriptor; indirect tables lie within a larger array. */
    let start = 0;
    let entries = this.#num;
    let steps = 0;
    let index = head;
    let isIndirect = false;
    for (;;) {
      const at = start + index * DESC_WORDS;
      const low = table[at]!;
      const high = table[at + 1]!;
      const length = table[at + 2]!;
      const flagsAndNext = table[at + 3]!;
      if ((flagsAndNext & VRING_DESC_F_INDIRECT) !== 0) {
        if (isIndirect || !this.#hasIndirect || (flagsAndNext & VRING_DESC_F_NEXT) !== 0)
          return chain.blame('BAD_INDIRECT', 0);
        const count = this.#openTable(chain, high * HIGH_WORD + low, length);
        if (count === 0) return undefined;
        isIndirect = true;
        table = this.#tables.words;
        start = this.#tables.start;
        entries = count;
        steps = 0;
        index = 0;
        continue;
      }
      this.#append(chain, low, high, length, (flagsAndNext & VRING_DESC_F_WRITE) !== 0);
      if ((flagsAndNext & VRING_DESC_F_NEXT) === 0) return undefined;
      steps += 1;
      if (steps >= entries) return chain.blame('LOOP', 0);
      index = flagsAndNext >>> 16;
      if (index >= entries) return chain.blame('BAD_INDEX', 0);
    }
  }

  /** @returns entries of the table, 0 if it cannot be used */
  #openTable(chain: Chain, gpa: number, length: number): number {
    const count = length / VringDesc.size;
    if (count === 0 || !Number.isInteger(count)) chain.blame('BAD_INDIRECT', gpa);
    else if (count > this.#maxIndirect) chain.blame('TOO_LONG', gpa);
    else if (!this.#tables.open(gpa, length)) chain.blame('UNMAPPED', gpa);
    else return count;
    return 0;
  }

  /**
   * Appends one descriptor's buffer, a segment for each memory slot it touches. A buffer that is not there is left
   * out and noted, and the walk goes on: the rest of the chain may hold the place for an error reply.
   */
  #append(chain: Chain, low: number, high: number, length: number, isWritable: boolean): void {
    let gpa = high * HIGH_WORD + low;
    if (!isWritable && chain.writableCount !== 0) return chain.blame('BAD_ORDER', gpa);
    if (length === 0) return chain.blame('BAD_DESCRIPTOR', gpa);
    if (high >= MAX_ADDRESS_HIGH) return chain.blame('UNMAPPED', gpa);
    const memory = this.#memory;
    // As nearly always: all of it in one slot.
    if (
      memory.translate(gpa, length) === length &&
      chain.readableCount + chain.writableCount < this.maxSegments
    )
      return chain.append(memory.lastAddress, length, gpa, isWritable);
    let left = length;
    while (left > 0) {
      const size = memory.translate(gpa, left);
      if (size === 0) return chain.blame('UNMAPPED', gpa);
      if (chain.readableCount + chain.writableCount >= this.maxSegments) return chain.blame('TOO_LONG', gpa);
      chain.append(memory.lastAddress, size, gpa, isWritable);
      gpa += size;
      left -= size;
    }
    return undefined;
  }
}
