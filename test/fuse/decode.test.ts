import { describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { OPERATIONS } from '../../src/fuse/operations.ts';
import type { FuseRequest } from '../../src/fuse/request.ts';
import { initMessage, message, Mount } from './guest.ts';

/** Opcodes without a row, and why. */
const WITHOUT_ROW = {
  INIT: 'server.ts',
  DESTROY: 'server.ts',
  FORGET: 'server.ts',
  BATCH_FORGET: 'server.ts',
  INTERRUPT: 'server.ts',
  NOTIFY_REPLY: 'answers RETRIEVE, which we do not send',
  SETUPMAPPING: 'needs a DAX window',
  REMOVEMAPPING: 'needs a DAX window',
};

const ROWS = Object.entries(FuseOpcode).flatMap(([name, opcode]) => {
  const row = OPERATIONS[opcode];
  return row === undefined ? [] : [{ name, opcode, row }];
});

/** Arguments 01 02 03…, so that a field read at a wrong place shows. */
const ascending = (size: number): Buffer => Buffer.from(Array.from({ length: size }, (_, i) => i + 1));

describe('every opcode', () => {
  test('has a row, or a listed reason not to', () => {
    const without = Object.entries(FuseOpcode).filter(([, opcode]) => OPERATIONS[opcode] === undefined);
    expect(without.map(([name]) => name).sort()).toEqual(Object.keys(WITHOUT_ROW).sort());
  });

  test.each(ROWS)('$name is decoded and reaches its method', ({ opcode, row }) => {
    const seen: string[] = [];
    const spy = (request: FuseRequest): number => {
      const arg = Buffer.from(request.input.u8.subarray(40, 40 + row.argSize));
      const names = row.names.map((_, i) => request.nameText(i));
      seen.push(
        arg.toString('hex'),
        ...names,
        `${request.nodeid} ${request.uid} ${request.gid} ${request.pid}`,
      );
      return row.replySize;
    };
    const mount = new Mount({ [row.method]: spy }, { init: initMessage(0n) });
    const arg = ascending(row.wireSize);
    if (row.trailer === 'value' || row.trailer === 'data') arg.writeUInt32LE(4, row.valueSizeAt);
    const names = row.names.map((_, i) => `name${i}\0`);
    const data = row.trailer === 'value' || row.trailer === 'data' ? ['data'] : [];
    const octets = message({ opcode, nodeid: 9n, uid: 1000, gid: 1001 }, arg, ...names, ...data);

    expect(mount.send(octets, 16 + row.replySize)).toMatchObject({
      used: 16 + row.replySize,
      header: { error: 0 },
    });
    const padded = Buffer.alloc(row.argSize);
    arg.copy(padded);
    expect(seen).toEqual([padded.toString('hex'), ...row.names.map((_, i) => `name${i}`), '9 1000 1001 42']);
    if (row.replySize > 0) expect(mount.errorOf(octets, 15 + row.replySize)).toBe(-Errno.EINVAL);
    if (octets.length > 40) {
      const short = Buffer.from(octets.subarray(0, -1));
      short.writeUInt32LE(short.length, 0);
      expect(mount.errorOf(short)).toBe(-Errno.EINVAL);
    }
  });
});

describe('names', () => {
  const nameless = (opcode: number, ...rest: string[]): number | undefined =>
    new Mount({
      lookup: () => 128,
      symlink: () => 128,
      getxattr: () => 0,
      rename: () => 0,
      tmpfile: () => 144,
    }).errorOf(message({ opcode }, ...rest));

  test.each(['a', '...', '.a', '..a', 'a b\n', '\u{1f600}', '\\', 'x'.repeat(255)])(
    '%j is a name',
    (name) => {
      expect(nameless(FuseOpcode.LOOKUP, `${name}\0`)).toBe(0);
    },
  );

  test.each(['', '.', '..', '/', 'a/b', '/etc', '../x', 'a/', 'a\0b', 'a\0'])('%j is refused', (name) => {
    expect(nameless(FuseOpcode.LOOKUP, `${name}\0`)).toBe(-Errno.EINVAL);
  });

  test('a name without NUL, one too long, and octets that are not UTF-8', () => {
    expect(nameless(FuseOpcode.LOOKUP, 'name')).toBe(-Errno.EINVAL);
    expect(nameless(FuseOpcode.LOOKUP)).toBe(-Errno.EINVAL);
    expect(nameless(FuseOpcode.LOOKUP, `${'x'.repeat(256)}\0`)).toBe(-Errno.ENAMETOOLONG);
    expect(nameless(FuseOpcode.LOOKUP, `${'x'.repeat(90_000)}\0`)).toBe(-Errno.E2BIG);
    const mount = new Mount({ lookup: () => 128 });
    expect(mount.errorOf(message({ opcode: FuseOpcode.LOOKUP }, Uint8Array.of(0xff, 0xfe, 0)))).toBe(0);
  });

  test('a symlink may lead anywhere, but is not empty nor longer than PATH_MAX', () => {
    expect(nameless(FuseOpcode.SYMLINK, 'link\0', '../../etc/passwd\0')).toBe(0);
    expect(nameless(FuseOpcode.SYMLINK, 'link\0', `${'x'.repeat(4095)}\0`)).toBe(0);
    expect(nameless(FuseOpcode.SYMLINK, 'link\0', `${'x'.repeat(4096)}\0`)).toBe(-Errno.ENAMETOOLONG);
    expect(nameless(FuseOpcode.SYMLINK, 'link\0', '\0')).toBe(-Errno.ENOENT);
    expect(nameless(FuseOpcode.SYMLINK, '../link\0', 'x\0')).toBe(-Errno.EINVAL);
  });

  test('both names of a rename are checked', () => {
    const newdir = '\x01\0\0\0\0\0\0\0';
    expect(nameless(FuseOpcode.RENAME, newdir, 'a\0', 'b\0')).toBe(0);
    expect(nameless(FuseOpcode.RENAME, newdir, 'a\0', '..\0')).toBe(-Errno.EINVAL);
    expect(nameless(FuseOpcode.RENAME, newdir, 'a/b\0', 'c\0')).toBe(-Errno.EINVAL);
    expect(nameless(FuseOpcode.RENAME, newdir, 'a\0')).toBe(-Errno.EINVAL);
  });

  test('an xattr name may hold a slash, but not be empty or beyond 255', () => {
    expect(nameless(FuseOpcode.GETXATTR, '\0'.repeat(8), 'user.a/b\0')).toBe(0);
    expect(nameless(FuseOpcode.GETXATTR, '\0'.repeat(8), '\0')).toBe(-Errno.ERANGE);
    expect(nameless(FuseOpcode.GETXATTR, '\0'.repeat(8), `${'x'.repeat(256)}\0`)).toBe(-Errno.ERANGE);
  });

  test('TMPFILE is named "/" by Linux', () => {
    expect(nameless(FuseOpcode.TMPFILE, '\0'.repeat(16), '/\0')).toBe(0);
  });
});

describe('SETXATTR', () => {
  const seen: string[] = [];
  const setxattr = (request: FuseRequest): number => {
    const at = request.valueAddress - request.input.address;
    const value = Buffer.from(request.input.u8.subarray(at, at + request.valueSize)).toString();
    seen.push(`${request.u32(4)} ${request.u32(8)} ${request.nameText(0)}=${value}`);
    return 0;
  };
  const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
  const send = (init: bigint, arg: Uint8Array, value: string): number | undefined =>
    new Mount({ setxattr, capabilities: { posixAcl: true } }, { init: initMessage(init) }).errorOf(
      message({ opcode: FuseOpcode.SETXATTR }, arg, 'user.a\0', value),
    );
  const ACL = FuseInitFlag.POSIX_ACL | FuseInitFlag.DONT_MASK | FuseInitFlag.SETXATTR_EXT;

  test('both forms look the same to the file system', () => {
    expect(send(0n, words(5, 2), 'value')).toBe(0);
    expect(send(ACL, words(5, 2, 1, 0), 'value')).toBe(0);
    expect(seen.splice(0)).toEqual(['2 0 user.a=value', '2 1 user.a=value']);
  });

  test('a value of 64 KiB is the largest', () => {
    expect(send(0n, words(65_536, 0), 'x'.repeat(65_536))).toBe(0);
    expect(send(0n, words(65_537, 0), 'x'.repeat(65_537))).toBe(-Errno.E2BIG);
    expect(send(0n, words(0xffff_ffff, 0), 'x')).toBe(-Errno.E2BIG);
    expect(send(0n, words(6, 0), 'value')).toBe(-Errno.EINVAL);
  });
});
