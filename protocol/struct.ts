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

/** A field's type; without `packed` and `inPlace`, it is padding. */
export interface FieldType<T> {
  readonly size: number;
  readonly align: number;
  readonly packed?: Packed<T>;
  /** In place of `packed`, where bufferpack has no such type: it takes the field for padding. */
  readonly inPlace?: InPlace<T>;
}

interface Packed<T> {
  /** bufferpack format. */
  readonly format: string;
  /** From what bufferpack unpacked to the field's value. */
  readonly read: (raw: any) => T;
  /** From the field's value to what bufferpack packs; throws CodecError BAD_VALUE. */
  readonly write: (value: T, path: string) => any;
}

interface InPlace<T> {
  readonly get: (octets: Buffer, at: number) => T;
  /** @throws {CodecError} BAD_VALUE */
  readonly put: (octets: Buffer, at: number, value: T, path: string) => void;
}

const integer = (format: string, size: number, min: number, max: number): FieldType<number> => ({
  size,
  align: size,
  packed: {
    format,
    read: (raw: number) => raw,
    write: (value, path) => {
      if (!Number.isInteger(value) || value < min || value > max)
        throw new CodecError('BAD_VALUE', `${path}: ${value}, allowed ${min}..${max}`);
      return value;
    },
  },
});

const integer64 = (signed: boolean): FieldType<bigint> => ({
  size: 8,
  align: 8,
  inPlace: {
    get: (octets, at) => (signed ? octets.readBigInt64LE(at) : octets.readBigUInt64LE(at)),
    put: (octets, at, value, path) => {
      const wrapped = signed ? BigInt.asIntN(64, value) : BigInt.asUintN(64, value);
      if (wrapped !== value) throw new CodecError('BAD_VALUE', `${path}: ${value} does not fit 64 bits`);
      octets.writeBigUInt64LE(BigInt.asUintN(64, value), at);
    },
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
  inPlace: {
    get: (octets, at) => Uint8Array.from(octets.subarray(at, at + size)),
    put: (octets, at, value, path) => {
      if (value.length !== size)
        throw new CodecError('BAD_VALUE', `${path}: ${value.length} bytes, allowed ${size}`);
      octets.set(value, at);
    },
  },
});

/** Reserved octets: ignored when decoded, zero when encoded, absent from the value. */
export const pad = (size: number): FieldType<undefined> => ({ size, align: 1 });

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

  const valued = parts.filter(({ type }) => type.packed !== undefined || type.inPlace !== undefined);
  const packed = parts.flatMap(({ name: field, type }) =>
    type.packed === undefined ? [] : [{ name: field, ...type.packed }],
  );
  // One run of bufferpack per struct, if it has anything to do; the rest is pad octets to it.
  const format = `<${parts.map(({ type }) => type.packed?.format ?? `${type.size}x`).join('')}`;

  const get = (octets: Buffer, start: number): StructValue<F> => {
    const values = packed.length === 0 ? [] : bufferpack.unpack(format, octets, start);
    if (values === undefined)
      throw new CodecError('BAD_SIZE', `${name}: bufferpack refused ${octets.length} bytes`);
    const value: Record<string, unknown> = {};
    let next = 0;
    for (const { name: field, type, at: place } of valued)
      value[field] =
        type.inPlace === undefined
          ? type.packed!.read(values[next++])
          : type.inPlace.get(octets, start + place);
    return value as StructValue<F>;
  };
  const put = (octets: Buffer, start: number, value: StructValue<F>, path: string): void => {
    const given = value as Record<string, unknown>;
    const values = packed.map((field) => field.write(given[field.name], `${path}.${field.name}`));
    if (packed.length > 0 && bufferpack.packTo(format, octets, start, values) === false)
      throw new CodecError('BAD_VALUE', `${path}: bufferpack refused the values`);
    for (const { name: field, type, at: place } of valued)
      type.inPlace?.put(octets, start + place, given[field], `${path}.${field}`);
  };

  return {
    name,
    size,
    align,
    inPlace: { get, put },
    offset: offset as { readonly [K in keyof F]: number },
    decode: (octets, start = 0) => {
      if (octets.length - start < size)
        throw new CodecError(
          'BAD_SIZE',
          `${name}: ${Math.max(0, octets.length - start)} bytes, allowed ${size}`,
        );
      return get(Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength), start);
    },
    encode: (value) => {
      const out = Buffer.alloc(size);
      put(out, 0, value, name);
      return out;
    },
  };
}
