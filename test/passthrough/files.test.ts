import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { StatxOut } from '../../protocol/fuse-attributes.ts';
import { Fattr, FuseWrite } from '../../protocol/fuse-flags.ts';
import * as wire from '../../protocol/fuse-requests.ts';
import { FUSE_INVALID_UIDGID, FuseOpcode } from '../../protocol/fuse.ts';
import { O_CREAT, O_DIRECT, O_RDWR } from '../../src/host/files-open.ts';
import type { InodeFileHandles } from '../../src/passthrough/options.ts';
import { Client, isRoot, openFds } from './client.ts';

const O_APPEND = 0o2000;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const S_IFIFO = 0o010000;

// Without file handles inodes are found again by name; both ways must behave alike.
const policies: readonly InodeFileHandles[] = isRoot ? ['prefer', 'never'] : ['never'];

describe.each(policies)('inode file handles: %s', (inodeFileHandles) => {
  let client: Client;
  let fdsBefore: number;
  beforeEach(() => {
    fdsBefore = openFds();
    client = new Client({ inodeFileHandles });
  });
  afterEach(() => {
    client[Symbol.dispose]();
    expect(openFds()).toBe(fdsBefore);
  });
  const host = (name: string): string => join(client.dir, name);

  test('a created file is written, read back, and on the host what was written', () => {
    const file = client.create('f', { mode: 0o640 });
    expect(file.attr.mode & 0o7777).toBe(0o640);
    expect(client.write(file.nodeid, file.fh, 0n, 'hello')).toBe(5);
    expect(client.write(file.nodeid, file.fh, 3n, 'p!')).toBe(2);
    expect(client.read(file.nodeid, file.fh, 0n, 4096).toString()).toBe('help!');
    expect(client.read(file.nodeid, file.fh, 5n, 10)).toHaveLength(0);
    expect(readFileSync(host('f'), 'utf8')).toBe('help!');
    expect(client.release(file.nodeid, file.fh)).toBe(0);
    expect(client.release(file.nodeid, file.fh)).toBe(-Errno.EBADF);
  });

  test('CREATE of what is there opens it, and refuses with O_EXCL', () => {
    writeFileSync(host('f'), 'old');
    const { nodeid, fh, attr } = client.create('f', { flags: 2 | O_TRUNC });
    expect(attr.size).toBe(0n);
    expect(client.lookup('f').nodeid).toBe(nodeid);
    client.release(nodeid, fh);
    const body = [
      wire.CreateIn.encode({ flags: 2 | O_EXCL, mode: 0o600, umask: 0, openFlags: 0 }),
      Buffer.from('f\0'),
    ];
    expect(client.code(FuseOpcode.CREATE, 1n, body)).toBe(-Errno.EEXIST);
  });

  test('appending writes go to the end, pages written back to where they belong', () => {
    const { nodeid, fh } = client.create('f', { flags: 2 | O_APPEND });
    client.write(nodeid, fh, 0n, 'abc', { flags: O_APPEND });
    client.write(nodeid, fh, 0n, 'def', { flags: O_APPEND });
    client.write(nodeid, fh, 0n, 'X', { flags: O_APPEND, writeFlags: 1 });
    expect(client.read(nodeid, fh, 0n, 100).toString()).toBe('Xbcdef');
  });

  test('names of any octets pass', () => {
    const name = Buffer.from([0xff, 0xfe, 0x20, 0x0a]);
    writeFileSync(Buffer.concat([Buffer.from(`${client.dir}/`), name]), '');
    expect(client.lookup(name).attr.size).toBe(0n);
    expect(client.listAll().map((e) => e.name)).toContain(name.toString('latin1'));
  });

  test('SETATTR changes mode, size and times; before 1970 too', () => {
    const { nodeid } = client.create('f');
    const valid = Fattr.MODE | Fattr.SIZE | Fattr.ATIME | Fattr.MTIME;
    const attr = client.setattr(nodeid, {
      valid,
      mode: 0o100600,
      size: 77n,
      atime: 5n,
      mtime: 2n ** 64n - 10n,
    });
    expect(attr).toMatchObject({ size: 77n, atime: 5n, mtime: 2n ** 64n - 10n });
    expect(statSync(host('f')).size).toBe(77);
    expect(statSync(host('f')).mode & 0o7777).toBe(0o600);
  });

  test('sizes beyond 2^53 are refused by the host, not mangled', () => {
    const { nodeid, fh } = client.create('f');
    const code = (size: bigint): number | undefined =>
      client.code(FuseOpcode.SETATTR, nodeid, [
        wire.SetattrIn.encode({ ...wire.SetattrIn.decode(Buffer.alloc(88)), valid: Fattr.SIZE, size }),
      ]);
    expect([0, -Errno.EFBIG]).toContain(code(2n ** 62n));
    expect(code(2n ** 63n)).toBe(-Errno.EINVAL);
    const write = wire.WriteIn.encode({
      fh,
      offset: 2n ** 63n + 5n,
      size: 1,
      writeFlags: 0,
      lockOwner: 0n,
      flags: 0,
    });
    expect(client.code(FuseOpcode.WRITE, nodeid, [write, Buffer.from('x')])).toBe(-Errno.EINVAL);
  });

  test('STATX tells the time of birth', () => {
    const { nodeid } = client.create('f');
    const body = wire.StatxIn.encode({ getattrFlags: 0, fh: 0n, sxFlags: 0, sxMask: 0xfff });
    const { stat } = StatxOut.decode(client.send(FuseOpcode.STATX, nodeid, [body]));
    expect(stat.ino).toBe(statSync(host('f'), { bigint: true }).ino);
    expect(stat.btime.tvSec).toBe(statSync(host('f'), { bigint: true }).birthtimeNs / 1_000_000_000n);
  });

  test('symbolic links are kept as they are, never followed', () => {
    const { nodeid, attr } = client.symlink('s', '/etc/passwd');
    expect(attr.mode & 0o170000).toBe(0o120000);
    expect(client.readlink(nodeid)).toBe('/etc/passwd');
    expect(readlinkSync(host('s'))).toBe('/etc/passwd');
    expect(client.lookup('s').nodeid).toBe(nodeid);
    expect(client.openCode(nodeid, 0)).toBe(-Errno.EBADF);
    expect(client.lookupCode('passwd', nodeid)).toBe(-Errno.ENOTDIR);
  });

  test('special files are made and removed, but never opened on the host', () => {
    const fifo = client.mknod('p', S_IFIFO | 0o600);
    expect(lstatSync(host('p')).isFIFO()).toBe(true);
    expect(client.openCode(fifo.nodeid, 0)).toBe(-Errno.EBADF);
    // Where the file system is known by a descriptor of its own, the file itself does not matter.
    const synced = client.fs.inodeFileHandles === 'never' ? -Errno.EBADF : 0;
    expect(client.code(FuseOpcode.SYNCFS, fifo.nodeid, [Buffer.alloc(8)])).toBe(synced);
    expect(client.unlink('p')).toBe(0);
  });

  test('a hard link is the same inode; each lookup is counted', () => {
    const { nodeid, fh } = client.create('a');
    expect(client.link(nodeid, 'b')).toMatchObject({ nodeid, attr: { nlink: 2 } });
    expect(client.unlink('a')).toBe(0);
    client.release(nodeid, fh);
    expect(client.getattr(nodeid).nlink).toBe(1);
    client.forget(nodeid, 1n);
    expect(client.getattrCode(nodeid)).toBe(0);
    client.forget(nodeid, 1n);
    expect(client.getattrCode(nodeid)).toBe(-Errno.ESTALE);
  });

  test('an unlinked file lives while it is open, or known', () => {
    const open = client.create('open');
    const known = client.create('known');
    client.release(known.nodeid, known.fh);
    expect(client.unlink('open')).toBe(0);
    expect(client.unlink('known')).toBe(0);
    client.write(open.nodeid, open.fh, 0n, 'still');
    expect(client.getattr(open.nodeid)).toMatchObject({ size: 5n, nlink: 0 });
    expect(client.getattr(known.nodeid).nlink).toBe(0);
    const directory = client.mkdir('dir', 0o755);
    expect(client.rmdir('dir')).toBe(0);
    expect(client.getattrCode(directory.nodeid)).toBe(0);
  });

  test('renaming over a file keeps the replaced one for who knows it', () => {
    const old = client.create('old');
    const kept = client.create('new');
    client.write(kept.nodeid, kept.fh, 0n, 'kept');
    client.release(kept.nodeid, kept.fh);
    expect(client.rename('old', 'new')).toBe(0);
    expect(client.lookup('new').nodeid).toBe(old.nodeid);
    expect(client.getattr(kept.nodeid)).toMatchObject({ nlink: 0, size: 4n });
  });

  test('RENAME2 knows NOREPLACE and EXCHANGE, and no unknown flag', () => {
    const a = client.create('a');
    const b = client.create('b');
    expect(client.rename('a', 'b', 1)).toBe(-Errno.EEXIST);
    expect(client.rename('a', 'b', 2)).toBe(0);
    expect(client.lookup('a').nodeid).toBe(b.nodeid);
    expect(client.lookup('b').nodeid).toBe(a.nodeid);
    expect(client.rename('a', 'b', 8)).toBe(-Errno.EINVAL);
  });

  test('TMPFILE gives a file without name, which LINK can name', () => {
    const { nodeid, fh, attr } = client.tmpfile(0o600);
    expect(attr.nlink).toBe(0);
    client.write(nodeid, fh, 0n, 'x');
    expect(client.link(nodeid, 'named').nodeid).toBe(nodeid);
    client.release(nodeid, fh);
    expect(readFileSync(host('named'), 'utf8')).toBe('x');
  });

  test('FALLOCATE, LSEEK and both COPY_FILE_RANGE', () => {
    const a = client.create('a');
    const b = client.create('b');
    client.write(a.nodeid, a.fh, 65536n, 'data');
    const lseek = (offset: bigint, whence: number): bigint =>
      client
        .send(FuseOpcode.LSEEK, a.nodeid, [wire.LseekIn.encode({ fh: a.fh, offset, whence })])
        .readBigUInt64LE(0);
    expect(lseek(0n, 3)).toBe(65536n);
    expect(lseek(0n, 4)).toBe(0n);
    expect(
      client.code(FuseOpcode.LSEEK, a.nodeid, [
        wire.LseekIn.encode({ fh: a.fh, offset: 2n ** 64n - 1n, whence: 3 }),
      ]),
    ).toBe(-Errno.ENXIO);
    const copy = {
      fhIn: a.fh,
      offIn: 65536n,
      nodeidOut: b.nodeid,
      fhOut: b.fh,
      offOut: 1n,
      len: 2n ** 60n,
      flags: 0n,
    };
    const body = [wire.CopyFileRangeIn.encode(copy)];
    expect(client.send(FuseOpcode.COPY_FILE_RANGE, a.nodeid, body).readUInt32LE(0)).toBe(4);
    expect(client.send(FuseOpcode.COPY_FILE_RANGE_64, a.nodeid, body).readBigUInt64LE(0)).toBe(4n);
    expect(readFileSync(host('b'), 'latin1')).toBe('\0data');
    const punch = { fh: a.fh, offset: 65536n, length: 4096n, mode: 3 };
    expect(client.code(FuseOpcode.FALLOCATE, a.nodeid, [wire.FallocateIn.encode(punch)])).toBe(0);
    expect(client.read(a.nodeid, a.fh, 65536n, 4).toString('latin1')).toBe('\0\0\0\0');
    const grow = { fh: a.fh, offset: 0n, length: 1048576n, mode: 0 };
    expect(client.code(FuseOpcode.FALLOCATE, a.nodeid, [wire.FallocateIn.encode(grow)])).toBe(0);
    expect(statSync(host('a')).size).toBe(1048576);
  });

  test('STATFS, FSYNC, FSYNCDIR, SYNCFS, FLUSH and ACCESS answer', () => {
    const { nodeid, fh } = client.create('f', { mode: 0o640 });
    const fsync = [wire.FsyncIn.encode({ fh, fsyncFlags: 1 })];
    expect(client.code(FuseOpcode.FSYNC, nodeid, fsync)).toBe(0);
    const dir = client.opendir();
    expect(client.code(FuseOpcode.FSYNCDIR, 1n, [wire.FsyncIn.encode({ fh: dir, fsyncFlags: 0 })])).toBe(0);
    expect(client.code(FuseOpcode.SYNCFS, 1n, [Buffer.alloc(8)])).toBe(0);
    expect(client.flush(nodeid, fh, 9n)).toBe(0);
    const { st } = wire.StatfsOut.decode(client.send(FuseOpcode.STATFS, 1n, []));
    expect(st.blocks > 0n && st.bsize > 0 && st.namelen >= 255).toBe(true);
    const mask = Buffer.from(new Uint32Array([4, 0]).buffer);
    expect(client.code(FuseOpcode.ACCESS, nodeid, [mask], { uid: 12_345, gid: 12_345 })).toBe(-Errno.EACCES);
    expect(client.code(FuseOpcode.ACCESS, nodeid, [mask])).toBe(0);
  });

  test('IOCTL passes inode flags and no other command', () => {
    const { nodeid, fh } = client.create('f');
    const call = (cmd: number, outSize: number): Buffer | number | undefined =>
      client.try(FuseOpcode.IOCTL, nodeid, [
        wire.IoctlIn.encode({ fh, flags: 0, cmd, arg: 0n, inSize: 0, outSize }),
      ]);
    expect(call(0x5401, 60)).toBe(-Errno.ENOTTY); // TCGETS
    const flags = call(0x8008_6601, 4);
    expect(Buffer.isBuffer(flags) ? flags.length : flags).toBeOneOf([20, -Errno.ENOTTY, -Errno.EOPNOTSUPP]);
  });

  test('extended attributes: set, get, size, list, remove; of links too', () => {
    const { nodeid } = client.create('f');
    expect(client.setxattr(nodeid, 'user.a', 'value')).toBe(0);
    expect(client.setxattr(nodeid, 'user.a', 'value', 1)).toBe(-Errno.EEXIST);
    expect(client.getxattr(nodeid, 'user.a')).toEqual(Buffer.from('value'));
    expect((client.getxattr(nodeid, 'user.a', 0) as Buffer).readUInt32LE(0)).toBe(5);
    expect(client.getxattr(nodeid, 'user.a', 2)).toBe(-Errno.ERANGE);
    expect(client.listxattr(nodeid)).toEqual(Buffer.from('user.a\0'));
    expect(client.listxattr(nodeid, 3)).toBe(-Errno.ERANGE);
    expect(client.removexattr(nodeid, 'user.a')).toBe(0);
    expect(client.getxattr(nodeid, 'user.a')).toBe(-Errno.ENODATA);
    expect(client.getxattr(nodeid, 'system.posix_acl_access')).toBe(-Errno.EOPNOTSUPP);
    const link = client.symlink('s', 'f');
    expect(client.setxattr(link.nodeid, 'user.a', 'x')).toBe(-Errno.EPERM); // as on any Linux: not the target's
  });

  test.skipIf(!isRoot)('names of trusted attributes are shown to root alone', () => {
    const { nodeid } = client.create('f');
    client.setxattr(nodeid, 'user.a', '1');
    if (client.setxattr(nodeid, 'trusted.b', '2') !== 0) return; // not in a user namespace
    const list = (caller: object): string =>
      client
        .send(FuseOpcode.LISTXATTR, nodeid, [wire.GetxattrIn.encode({ size: 4096 })], caller)
        .toString('latin1');
    expect(list({}).split('\0').sort()).toEqual(['', 'trusted.b', 'user.a']);
    expect(list({ uid: 1234 })).toBe('user.a\0');
    expect(list({ uid: FUSE_INVALID_UIDGID })).toBe(list({}));
  });

  test('a file that the host replaced is another inode, the old one is gone', () => {
    writeFileSync(host('f'), 'one');
    const before = client.lookup('f');
    writeFileSync(host('other'), 'other');
    renameSync(host('other'), host('f'));
    const after = client.lookup('f');
    expect(after.nodeid).not.toBe(before.nodeid);
    expect(client.getattr(after.nodeid).size).toBe(5n);
    expect([0, -Errno.ESTALE]).toContain(client.getattrCode(before.nodeid));
  });

  test('nodeids and handles that were never given, or are over, are unknown', () => {
    for (const nodeid of [0n, 2n, 99n, 2n ** 26n + 1n, 2n ** 53n, 2n ** 64n - 1n]) {
      expect(client.getattrCode(nodeid)).toBe(-Errno.ESTALE);
      client.forget(nodeid, 5n);
    }
    client.forget(1n, 2n ** 64n - 1n);
    expect(client.getattrCode(1n)).toBe(0);
    const read = wire.ReadIn.encode({ fh: 77n, offset: 0n, size: 1, readFlags: 0, lockOwner: 0n, flags: 0 });
    expect(client.code(FuseOpcode.READ, 1n, [read])).toBe(-Errno.EBADF);
    const dir = client.opendir();
    const readDir = wire.ReadIn.encode({
      fh: dir,
      offset: 0n,
      size: 1,
      readFlags: 0,
      lockOwner: 0n,
      flags: 0,
    });
    expect(client.code(FuseOpcode.READ, 1n, [readDir])).toBe(-Errno.EBADF);
  });

  test('nothing outside the directory is reached', () => {
    const outside = `${client.dir}-outside`;
    mkdirSync(outside);
    writeFileSync(join(outside, 'secret'), 'secret');
    symlinkSync(outside, host('link'));
    const link = client.lookup('link');
    for (const name of ['..', '.', '../x', 'link/secret', '/etc', ''])
      expect(client.lookupCode(name)).toBeLessThan(0);
    expect(client.lookupCode('secret', link.nodeid)).toBe(-Errno.ENOTDIR);
    expect(client.code(FuseOpcode.OPENDIR, link.nodeid, [Buffer.alloc(8)])).toBe(-Errno.EBADF);
    expect(client.code(FuseOpcode.MKDIR, link.nodeid, [Buffer.alloc(8), Buffer.from('d\0')])).toBe(
      -Errno.ENOTDIR,
    );
    expect(client.unlink('secret', link.nodeid)).toBe(-Errno.ENOTDIR);
    // A directory that becomes a link after it was looked up stays the directory it was.
    mkdirSync(host('d'));
    const d = client.lookup('d');
    renameSync(host('d'), host('moved'));
    symlinkSync(outside, host('d'));
    expect(client.lookupCode('secret', d.nodeid)).toBeLessThan(0);
    expect(existsSync(join(outside, 'secret'))).toBe(true);
    rmSync(outside, { recursive: true });
  });

  test('DESTROY lets everything go, and the next mount starts anew', () => {
    const { nodeid } = client.create('f');
    client.opendir();
    client.send(FuseOpcode.DESTROY, 0n, []);
    expect(client.fs.openCount).toBe(0);
    expect(client.fs.inodeCount).toBe(1);
    client.mount();
    expect(client.getattrCode(nodeid)).toBe(-Errno.ESTALE);
    expect(client.lookupCode('f')).toBe(0);
  });
});

test('a hard link the host made is found by either name', () => {
  using client = new Client();
  closeSync(openSync(join(client.dir, 'a'), 'w'));
  linkSync(join(client.dir, 'a'), join(client.dir, 'b'));
  expect(client.lookup('a').nodeid).toBe(client.lookup('b').nodeid);
});

test('without --xattr every xattr operation is ENOSYS', () => {
  using client = new Client({ xattr: false });
  expect(client.getxattr(1n, 'user.a')).toBe(-Errno.ENOSYS);
  expect(client.setxattr(1n, 'user.a', '')).toBe(-Errno.ENOSYS);
  expect(client.listxattr(1n)).toBe(-Errno.ENOSYS);
  expect(client.removexattr(1n, 'user.a')).toBe(-Errno.ENOSYS);
});

test.each([
  ['never', 1, 0, 0],
  ['auto', 0, 0, 1],
  ['metadata', 1, 10, 86_400],
  ['always', 2, 10, 86_400],
] as const)('cache=%s: flags of files %i and directories %i, %i s', (cache, file, directory, seconds) => {
  using client = new Client({ cache });
  const { nodeid } = client.create('f');
  expect(client.open(nodeid).openFlags).toBe(file);
  const opened = client.send(FuseOpcode.OPENDIR, 1n, [Buffer.alloc(8)]);
  expect(opened.readUInt32LE(8)).toBe(directory);
  const entry = client.send(FuseOpcode.LOOKUP, 1n, [Buffer.from('f\0')]);
  expect([entry.readBigUInt64LE(16), entry.readBigUInt64LE(24)]).toEqual([BigInt(seconds), BigInt(seconds)]);
});

test('with writeback a file opened for writing can be read', () => {
  using client = new Client({ writeback: true });
  const { nodeid, fh } = client.create('f', { flags: 1 | O_APPEND });
  client.write(nodeid, fh, 4n, 'tail', { writeFlags: 1, flags: O_APPEND });
  expect(client.read(nodeid, fh, 0n, 100).toString('latin1')).toBe('\0\0\0\0tail');
});

test.skipIf(!hasDirectIo())('a file opened for direct I/O is direct in the requests that say so', () => {
  using client = new Client({ allowDirectIo: true });
  const file = client.create('f', { flags: 2 | O_DIRECT });
  const opened = client.open(file.nodeid, 2 | O_DIRECT);
  for (const { fh } of [file, opened]) {
    // A page written back carries no flags, and is as long as the file.
    expect(client.write(file.nodeid, fh, 0n, 'hello', { writeFlags: FuseWrite.CACHE })).toBe(5);
    // As after fcntl(F_SETFL) without O_DIRECT.
    expect(client.write(file.nodeid, fh, 1n, 'EL')).toBe(2);
    expect(() => client.write(file.nodeid, fh, 1n, 'x', { flags: 2 | O_DIRECT })).toThrow(`-${Errno.EINVAL}`);
    expect(client.read(file.nodeid, fh, 1n, 4).toString()).toBe('ELlo');
  }
});

/** Whether the file system of temporary files has direct I/O that insists on alignment, as those on disks do. */
function hasDirectIo(): boolean {
  const path = join(mkdtempSync(join(tmpdir(), 'direct-')), 'f');
  try {
    const fd = openSync(path, O_CREAT | O_RDWR | O_DIRECT);
    try {
      writeSync(fd, 'x', 1);
      return false;
    } catch {
      return true;
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  } finally {
    rmSync(dirname(path), { recursive: true });
  }
}
