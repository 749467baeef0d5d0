import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Errno, errnoName } from '../../protocol/errno.ts';
import * as attributes from '../../protocol/fuse-attributes.ts';
import * as extensions from '../../protocol/fuse-extensions.ts';
import * as flags from '../../protocol/fuse-flags.ts';
import * as notify from '../../protocol/fuse-notify.ts';
import * as requests from '../../protocol/fuse-requests.ts';
import * as fuse from '../../protocol/fuse.ts';
import { CodecError } from '../../protocol/struct.ts';

interface AnyStruct {
  readonly name: string;
  readonly size: number;
  readonly offset: Readonly<Record<string, number>>;
  decode(octets: Uint8Array): object;
  encode(value: object): Buffer;
}
const isStruct = (value: unknown): value is AnyStruct =>
  typeof value === 'object' && value !== null && 'encode' in value && 'offset' in value;
const STRUCTS = [fuse, attributes, requests, extensions, notify].flatMap((module) =>
  Object.values(module as Record<string, unknown>).filter(isStruct),
);

const HEADER = '/usr/include/linux/fuse.h';
const header = existsSync(HEADER) ? readFileSync(HEADER, 'utf8') : '';
const hasGcc = ((): boolean => {
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

describe('FUSE structs', () => {
  test.each(STRUCTS.map((struct) => [struct.name, struct] as const))(
    '%s decodes what it encodes',
    (_, struct) => {
      fc.assert(
        fc.property(fc.uint8Array({ minLength: struct.size, maxLength: struct.size }), (octets) => {
          const value = struct.decode(octets);
          expect(struct.decode(struct.encode(value))).toEqual(value);
        }),
        { numRuns: 20 },
      );
      expect(() => struct.decode(new Uint8Array(struct.size - 1))).toThrow(CodecError);
    },
  );

  test.skipIf(!hasGcc || header === '')(
    `sizes and offsets are those of ${HEADER}${hasGcc ? '' : ' (no gcc)'}`,
    () => {
      const wanted = new Map<string, number>();
      const lines: string[] = [];
      for (const struct of STRUCTS) {
        const [name] = struct.name.split(' ');
        const body = new RegExp(`struct ${name} \\{([^}]*)\\}`).exec(header)?.[1];
        if (body === undefined || struct.name !== name) continue; // newer than this header, or an older form
        wanted.set(name, struct.size);
        lines.push(`P("${name}", sizeof(struct ${name}));`);
        for (const [field, offset] of Object.entries(struct.offset)) {
          if (field === 'unused') continue; // shrinks as later minors take from it
          const member = field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
          if (!new RegExp(`\\b${member}\\b`).test(body)) continue;
          wanted.set(`${name}.${member}`, offset);
          lines.push(`P("${name}.${member}", __builtin_offsetof(struct ${name}, ${member}));`);
        }
      }
      const directory = mkdtempSync(join(tmpdir(), 'fuse-h-'));
      try {
        const source = join(directory, 'sizes.c');
        const program = join(directory, 'sizes');
        writeFileSync(
          source,
          `#include <stdio.h>\n#include <stdint.h>\n#include <linux/fuse.h>\n#define P(n, v) printf("%s %zu\\n", n, (size_t)(v))\nint main(void) {\n${lines.join('\n')}\nreturn 0; }\n`,
        );
        execFileSync('gcc', ['-o', program, source]);
        const found = execFileSync(program, { encoding: 'utf8' });
        const measured = new Map(
          found
            .trim()
            .split('\n')
            .map((line) => [line.split(' ')[0]!, Number(line.split(' ')[1])]),
        );
        expect(measured).toEqual(wanted);
        expect(measured.size).toBeGreaterThan(150);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
  );
});

describe('FUSE numbers', () => {
  /** `NAME = number` of our tables that the header writes as an enumerator or a shifted bit. */
  const compare = (table: Readonly<Record<string, number | bigint>>, prefix: string): number => {
    let compared = 0;
    for (const [name, value] of Object.entries(table)) {
      const bit = new RegExp(`#define ${prefix}${name}\\s+\\(1(?:ULL|ull)? << (\\d+)\\)`).exec(header)?.[1];
      const enumerator = new RegExp(`\\b${prefix}${name}\\s*= (\\d+)`).exec(header)?.[1];
      if (bit === undefined && enumerator === undefined) continue;
      compared += 1;
      expect([name, BigInt(value)]).toEqual([
        name,
        bit === undefined ? BigInt(enumerator!) : 1n << BigInt(bit),
      ]);
    }
    return compared;
  };

  test.skipIf(header === '')(`opcodes and flags are those of ${HEADER}`, () => {
    expect(compare(fuse.FuseOpcode, 'FUSE_')).toBeGreaterThan(45);
    expect(compare(fuse.FuseNotifyCode, 'FUSE_NOTIFY_')).toBeGreaterThan(5);
    expect(compare(flags.FuseInitFlag, 'FUSE_')).toBeGreaterThan(30);
    expect(compare(flags.Fattr, 'FATTR_')).toBeGreaterThan(10);
    expect(compare(flags.Fopen, 'FOPEN_')).toBeGreaterThan(5);
    expect(compare(flags.FuseWrite, 'FUSE_WRITE_')).toBe(3);
    expect(compare(flags.FuseRelease, 'FUSE_RELEASE_')).toBe(2);
    expect(compare(flags.FuseAttrFlag, 'FUSE_ATTR_')).toBe(2);
    expect(compare(flags.FuseSetupmapping, 'FUSE_SETUPMAPPING_FLAG_')).toBe(2);
  });

  test('opcodes are 1 to 53 without 7 and 19, INIT flags are bits 0 to 42', () => {
    const unused = new Set([7, 19]);
    const opcodes = Array.from({ length: 53 }, (_, i) => i + 1).filter((opcode) => !unused.has(opcode));
    expect(Object.values(fuse.FuseOpcode)).toEqual(opcodes);
    expect(Object.values(flags.FuseInitFlag)).toEqual(
      Array.from({ length: 43 }, (_, bit) => 1n << BigInt(bit)),
    );
  });

  test('records are padded to 8 bytes', () => {
    expect([0, 1, 8, 9].map(attributes.recordAlign)).toEqual([0, 8, 8, 16]);
  });
});

describe('errno', () => {
  test('numbers are those this system uses', () => {
    const aliases = new Set(['EWOULDBLOCK', 'ENOTSUP']);
    for (const [name, number] of Object.entries(constants.errno))
      if (!aliases.has(name)) expect((Errno as Readonly<Record<string, number>>)[name]).toBe(number);
  });

  test('names are found by number, negated or not', () => {
    expect([errnoName(2), errnoName(-38), errnoName(9999)]).toEqual(['ENOENT', 'ENOSYS', 'errno 9999']);
  });
});
