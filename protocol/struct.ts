/**
 * Wire structs as tables.
 *
 * A struct is declared field by field, as the specification draws it, with its name and size from the C header.
 * A wrong size or a misaligned field fails when the module loads. The table gives the offsets that hot paths read
 * through typed arrays, and a codec for control messages. Only this module knows bufferpack. Little-endian only.
 */
import bufferpack from 'bufferpack';

/** Bytes that are not what a struct allows, or a value that does not fit its field. */
export class CodecError extends Error {
  override readonly name = 'CodecError';
  readonly code: 'BAD_SIZE' | 'BAD_VALUE';
  constructor(code: 'BAD_SIZE' | 'BAD_VALUE', message: string) {
    super(message);
    this.code = code;
  }
}

export interface FieldType<T> {
  readonly size: number;
  readonly align: number;
  /** bufferpack format; an empty one marks padding. */
  readonly format: string;
  /** From what bufferpack unpacked to the field's value. */
  readonly read: (raw: any) => T;
  /** From the field's value to what bufferpack packs; throws CodecError BAD_VALUE. */
  readonly write: (value: T, path: string) => any;
}

const integer = (format: string, size: number, min: number, max: number): FieldType<number> => ({
  size,
  align: size,
  format,
  read: (raw: number) => raw,
  write: (value, path) => {
    if (!Number.isInteger(value) || value < min || value > max)
      throw new CodecError('BAD_VALUE', `${path}: ${value}, allowed ${min}..${max}`);
    return value;
  },
});

const integer64 = (signed: boolean): FieldType<bigint> => ({
  size: 8,
  align: 8,
  format: '8A',
  read: (raw: Uint8Array) => {
    const view = new DataView(raw.buffer, raw.byteOffset, 8);
    return signed ? view.getBigInt64(0, true) : view.getBigUint64(0, true);
  },
  write: (value, path) => {
    const wrapped = signed ? BigInt.asIntN(64, value) : BigInt.asUintN(64, value);
    if (wrapped !== value) throw new CodecError('BAD_VALUE', `${path}: ${value} does not fit 64 bits`);
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
    return bytes;
  },
});

export const u8 = integer('B', 1, 0, 0xff);
export const u16 = integer('H', 2, 0, 0xffff);
export const u32 = integer('I', 4, 0, 0xffff_ffff);
export const i32 = integer('i', 4, -0x8000_0000, 0x7fff_ffff);
export const u64 = integer64(false);
export const i64 = integer64(true);

/** A fixed number of octets; decoded into a copy. */
export const bytes = (size: number): FieldType<Uint8Array> => ({
  size,
  align: 1,
  format: `${size}A`,
  read: (raw: Uint8Array) => Uint8Array.from(raw),
  write: (value, path) => {
    if (value.length !== size)
      throw new CodecError('BAD_VALUE', `${path}: ${value.length} bytes, allowed ${size}`);
    return Buffer.from(value);
  },
});

/** Reserved octets: ignored when decoded, zero when encoded, absent from the value. */
export const pad = (size: number): FieldType<undefined> => ({
  size,
  align: 1,
  format: '',
  read: () => undefined,
  write: () => undefined,
});

export type Fields = Readonly<Record<string, FieldType<any>>>;
type ValueKeys<F extends Fields> = {
  [K in keyof F]: F[K] extends FieldType<infer T> ? ([T] extends [undefined] ? never : K) : never;
}[keyof F];
type StructValue<F extends Fields> = {
  readonly [K in ValueKeys<F>]: F[K] extends FieldType<infer T> ? T : never;
};

/** A declared struct. It is itself a field type, so structs nest. */
export interface Struct<F extends Fields> extends FieldType<StructValue<F>> {
  readonly name: string;
  /** Byte offset of each field: what hot paths index typed arrays with. */
  readonly offset: { readonly [K in keyof F]: number };
  /**
   * Reads the struct at `at`. Octets after it are left alone.
   * @throws {CodecError} BAD_SIZE if fewer than `size` octets are there
   */
  decode(octets: Uint8Array, at?: number): StructValue<F>;
  /** @throws {CodecError} BAD_VALUE naming the field that does not fit */
  encode(value: StructValue<F>): Buffer;
}

/** The value type of a struct: `type Foo = ValueOf<typeof Foo>`. */
export type ValueOf<S> = S extends Struct<infer F> ? StructValue<F> : never;

/**
 * Declares a struct.
 *
 * @param name the C name, used in errors
 * @param size the C size in bytes; a mismatch throws when the module loads
 * @param options `packed` allows misaligned fields, as `__attribute__((packed))` does
 */
export function struct<F extends Fields>(
  name: string,
  size: number,
  fields: F,
  options: { readonly packed?: boolean } = {},
): Struct<F> {
  const names = Object.keys(fields);
  const offset: Record<string, number> = {};
  const parts: { readonly name: string; readonly type: FieldType<any>; readonly at: number }[] = [];
  let at = 0;
  let align = 1;
  for (const field of names) {
    const type = fields[field]!;
    if (!options.packed && at % type.align !== 0)
      throw new TypeError(`${name}.${field} at ${at} is not aligned to ${type.align}`);
    align = Math.max(align, options.packed ? 1 : type.align);
    offset[field] = at;
    parts.push({ name: field, type, at });
    at += type.size;
  }
  if (at !== size) throw new TypeError(`${name}: fields take ${at} bytes, the header says ${size}`);

  const valued = parts.filter((part) => part.type.format !== '');
  // One run of bufferpack per struct; padding becomes bufferpack's own pad octets.
  const format = `<${parts.map((p) => (p.type.format === '' ? `${p.type.size}x` : p.type.format)).join('')}`;

  const read = (raw: Uint8Array): StructValue<F> => {
    const values = bufferpack.unpack(format, Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength), 0);
    if (values === undefined)
      throw new CodecError('BAD_SIZE', `${name}: bufferpack refused ${raw.length} bytes`);
    return Object.fromEntries(valued.map((p, i) => [p.name, p.type.read(values[i])])) as StructValue<F>;
  };
  const write = (value: StructValue<F>, path: string): Buffer => {
    const out = Buffer.alloc(size);
    const given = value as Record<string, unknown>;
    const raw = valued.map((p) => p.type.write(given[p.name], `${path}.${p.name}`));
    if (bufferpack.packTo(format, out, 0, raw) === false)
      throw new CodecError('BAD_VALUE', `${path}: bufferpack refused the values`);
    return out;
  };

  return {
    name,
    size,
    align,
    format: `${size}A`,
    offset: offset as { readonly [K in keyof F]: number },
    read,
    write: (value, path) => write(value, path),
    decode: (octets, start = 0) => {
      if (octets.length - start < size)
        throw new CodecError(
          'BAD_SIZE',
          `${name}: ${Math.max(0, octets.length - start)} bytes, allowed ${size}`,
        );
      return read(octets.subarray(start, start + size));
    },
    encode: (value) => write(value, name),
  };
}
