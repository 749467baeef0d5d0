import { chmodSync, chownSync, lstatSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { Fattr, FUSE_OPEN_KILL_SUIDGID, FuseWrite } from '../../protocol/fuse-flags.ts';
import { changeUmask } from '../../src/host/credentials.ts';
import { Client, isRoot } from './client.ts';

const UID = 1234;
const GID = 2345;
const GROUP = 3456;
const O_TRUNC = 0o1000;

const idsOf = (path: string): readonly [number, number, number] => {
  const { uid, gid, mode } = lstatSync(path);
  return [uid, gid, mode & 0o7777];
};

test.skipIf(!isRoot)('what a user creates is its own, and the daemon stays root', () => {
  using client = new Client();
  chmodSync(client.dir, 0o777);
  const caller = { uid: UID, gid: GID };
  client.create('file', { mode: 0o666, ...caller });
  client.mkdir('dir', 0o777, caller);
  client.mknod('fifo', 0o010644, 0, caller);
  client.symlink('link', 'x', caller);
  expect(idsOf(join(client.dir, 'file'))).toEqual([UID, GID, 0o666]);
  expect(idsOf(join(client.dir, 'dir'))).toEqual([UID, GID, 0o777]);
  expect(idsOf(join(client.dir, 'fifo'))).toEqual([UID, GID, 0o644]);
  expect(idsOf(join(client.dir, 'link')).slice(0, 2)).toEqual([UID, GID]);
  for (const nobody of [{ uid: 0xffff_ffff }, { gid: 0xffff_ffff }])
    expect(() => client.mkdir('nobodys', 0o755, { ...caller, ...nobody })).toThrow(`${-Errno.EINVAL}`);
  client.create('root-again');
  expect(idsOf(join(client.dir, 'root-again')).slice(0, 2)).toEqual([0, 0]);
  expect([process.geteuid!(), process.getegid!()]).toEqual([0, 0]);
});

test.skipIf(!isRoot)('a failed creation leaves the daemon root too', () => {
  using client = new Client();
  mkdirSync(join(client.dir, 'there'));
  for (let i = 0; i < 3; i += 1)
    expect(() => client.mkdir('there', 0o755, { uid: UID, gid: GID })).toThrow(`${-Errno.EEXIST}`);
  expect(process.geteuid!()).toBe(0);
});

test.skipIf(!isRoot)(
  'the supplementary group sent along, and what the guest granted otherwise, give access',
  () => {
    using client = new Client();
    mkdirSync(join(client.dir, 'shared'));
    chownSync(join(client.dir, 'shared'), 0, GROUP);
    chmodSync(join(client.dir, 'shared'), 0o2770);
    const parent = client.lookup('shared').nodeid;
    client.create('a', { uid: UID, gid: GID, group: GROUP, mode: 0o2755, parent });
    expect(idsOf(join(client.dir, 'shared/a'))).toEqual([UID, GROUP, 0o2755]);
    client.create('b', { uid: UID, gid: GID, mode: 0o644, parent });
    expect(idsOf(join(client.dir, 'shared/b'))).toEqual([UID, GROUP, 0o644]);
    client.mkdir('d', 0o755, { uid: UID, gid: GID, group: GROUP }, 0, parent);
    expect(idsOf(join(client.dir, 'shared/d'))).toEqual([UID, GROUP, 0o2755]);
  },
);

test('the umask is the guest’s to apply without ACLs, ours with them', () => {
  const before = changeUmask(0);
  {
    using plain = new Client();
    plain.create('f', { mode: 0o666, umask: 0o077 });
    expect(statSync(join(plain.dir, 'f')).mode & 0o777).toBe(0o666);
    using acl = new Client({ posixAcl: true });
    acl.create('f', { mode: 0o666, umask: 0o027 });
    acl.mkdir('d', 0o777, {}, 0o077);
    expect(statSync(join(acl.dir, 'f')).mode & 0o777).toBe(0o640);
    expect(statSync(join(acl.dir, 'd')).mode & 0o777).toBe(0o700);
  }
  changeUmask(before);
});

test.skipIf(!isRoot)('setuid and setgid go with the write, truncation or opening that says so', () => {
  using client = new Client();
  const path = join(client.dir, 'f');
  writeFileSync(path, 'data');
  const { nodeid } = client.lookup('f');
  const mode = (): number => statSync(path).mode & 0o7777;
  const { fh } = client.open(nodeid);

  chmodSync(path, 0o6755);
  client.write(nodeid, fh, 0n, 'x');
  expect(mode()).toBe(0o6755);
  client.write(nodeid, fh, 0n, 'x', { writeFlags: FuseWrite.KILL_SUIDGID });
  expect(mode()).toBe(0o755);

  chmodSync(path, 0o6755);
  client.setattr(nodeid, { valid: Fattr.SIZE, size: 2n });
  expect(mode()).toBe(0o6755);
  client.setattr(nodeid, { valid: Fattr.SIZE | Fattr.KILL_SUIDGID, size: 1n });
  expect(mode()).toBe(0o755);

  chmodSync(path, 0o6755);
  client.open(nodeid, 2 | O_TRUNC);
  expect(mode()).toBe(0o6755);
  client.open(nodeid, 2 | O_TRUNC, FUSE_OPEN_KILL_SUIDGID);
  expect(mode()).toBe(0o755);

  chmodSync(path, 0o6755);
  expect(client.setattr(nodeid, { valid: 0 }).mode & 0o7777).toBe(0o755); // as before fallocate and copy_file_range

  chmodSync(path, 0o6755);
  expect(client.setattr(nodeid, { valid: Fattr.UID | Fattr.GID, uid: UID, gid: GID })).toMatchObject({
    uid: UID,
    gid: GID,
  });
  expect(mode()).toBe(0o755);
});

test.skipIf(!isRoot)('setgid without execution by the group stays, whoever writes', () => {
  using client = new Client();
  const path = join(client.dir, 'f');
  writeFileSync(path, 'data');
  chownSync(path, UID, GID);
  const { nodeid } = client.lookup('f');
  const { fh } = client.open(nodeid);
  chmodSync(path, 0o6745);
  client.write(nodeid, fh, 0n, 'x', { writeFlags: FuseWrite.KILL_SUIDGID });
  expect(statSync(path).mode & 0o7777).toBe(0o2745);
  client.setattr(nodeid, { valid: Fattr.SIZE | Fattr.KILL_SUIDGID, size: 1n });
  expect(statSync(path).mode & 0o7777).toBe(0o2745);
  client.open(nodeid, 2 | O_TRUNC, FUSE_OPEN_KILL_SUIDGID);
  expect(statSync(path).mode & 0o7777).toBe(0o2745);
  client.create('daemon');
  expect(idsOf(join(client.dir, 'daemon')).slice(0, 2)).toEqual([0, 0]);
});

test.skipIf(!isRoot)('with ACLs the guest may set them, and setgid goes when it says so', () => {
  using client = new Client({ posixAcl: true });
  const { nodeid } = client.create('f');
  chmodSync(join(client.dir, 'f'), 0o2775);
  // Version 2; user rwx, a named user r--, group r-x, mask rwx, other r-x.
  const entry = (tag: number, perm: number, id = 0xffff_ffff): Buffer => {
    const octets = Buffer.alloc(8);
    octets.writeUInt16LE(tag, 0);
    octets.writeUInt16LE(perm, 2);
    octets.writeUInt32LE(id, 4);
    return octets;
  };
  const version = Buffer.from([2, 0, 0, 0]);
  const acl = Buffer.concat([
    version,
    entry(1, 7),
    entry(2, 4, UID),
    entry(4, 5),
    entry(16, 7),
    entry(32, 5),
  ]);
  expect(client.setxattr(nodeid, 'system.posix_acl_access', acl)).toBe(0);
  expect(statSync(join(client.dir, 'f')).mode & 0o7777).toBe(0o2775);
  expect(client.setxattr(nodeid, 'system.posix_acl_access', acl, 0, 1)).toBe(0);
  expect(statSync(join(client.dir, 'f')).mode & 0o7777).toBe(0o775);
  expect(client.getxattr(nodeid, 'system.posix_acl_access')).toEqual(acl);
  expect(process.getegid!()).toBe(0);
});
