import type { RamBlock } from '../../src/memory/ram-block.ts';

/** A RAM block over plain bytes, zeroed. */
export function byteBlock(id: string, size: number): RamBlock & { readonly content: Uint8Array } {
  const content = new Uint8Array(size);
  return {
    id,
    size: BigInt(size),
    pageSize: 4096,
    isMigratable: true,
    content,
    bytes: {
      read: (offset, into) => {
        into.set(content.subarray(offset, offset + into.length));
      },
      write: (offset, from) => {
        content.set(from, offset);
      },
      view: (offset, bytes) => content.subarray(offset, offset + bytes),
    },
  };
}
