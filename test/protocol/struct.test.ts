import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytes, CodecError, i64, pad, struct, u16, u32, u64, u8 } from '../../protocol/struct.ts';

const Inner = struct('inner', 24, { a: u32, p: pad(4), b: u64, c: bytes(4), d: u16, e: u8, q: pad(1) });
const Outer = struct('outer', 32, { x: i64, inner: Inner });

describe('struct', () => {
  test('fields land at their offsets, little-endian, padding zero', () => {
    const value = {
      x: -5n,
      inner: { a: 0xffff_ffff, b: 2n ** 64n - 1n, c: Uint8Array.of(1, 2, 3, 4), d: 0x1234, e: 7 },
    };
    const encoded = Outer.encode(value);
    expect(encoded.toString('hex')).toBe('fbffffffffffffffffffffff00000000ffffffffffffffff0102030434120700');
    expect(Outer.decode(encoded)).toEqual(value);
    expect(Inner.offset).toEqual({ a: 0, p: 4, b: 8, c: 16, d: 20, e: 22, q: 23 });
  });

  test('padding octets are ignored when decoded', () => {
    const encoded = Inner.encode({ a: 1, b: 2n, c: new Uint8Array(4), d: 3, e: 4 });
    encoded.fill(0xff, 4, 8);
    expect(Inner.decode(encoded)).toEqual({ a: 1, b: 2n, c: new Uint8Array(4), d: 3, e: 4 });
  });

  test('a value that does not fit is refused by the path of its field', () => {
    const value = { x: 0n, inner: { a: -1, b: 0n, c: new Uint8Array(4), d: 0, e: 0 } };
    expect(() => Outer.encode(value)).toThrow(/outer\.inner\.a: -1/);
    expect(() => Outer.encode({ ...value, x: 2n ** 63n })).toThrow(CodecError);
  });

  test('a table that disagrees with the header fails when it is declared', () => {
    expect(() => struct('short', 8, { a: u32 })).toThrow(TypeError);
    expect(() => struct('misaligned', 12, { a: u32, b: u64 })).toThrow(/aligned/);
    expect(struct('packed', 12, { a: u32, b: u64 }, { packed: true }).offset.b).toBe(4);
  });

  test('any bytes decode, or are a CodecError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (octets) => {
        if (octets.length < Outer.size) expect(() => Outer.decode(octets)).toThrow(CodecError);
        else expect(Outer.encode(Outer.decode(octets)).length).toBe(Outer.size);
      }),
    );
  });
});
