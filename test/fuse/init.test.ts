import { describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import { InitIn, InitOut } from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import type { FileSystem, Negotiated } from '../../src/fuse/file-system.ts';
import { wantedFlags } from '../../src/fuse/init.ts';
import { initMessage, message, Mount } from './guest.ts';

/** A file system that notes what happens to it. */
function recording(capabilities: FileSystem['capabilities'] = {}): {
  readonly fileSystem: FileSystem;
  readonly events: (Negotiated | 'destroy')[];
} {
  const events: (Negotiated | 'destroy')[] = [];
  const fileSystem = {
    capabilities,
    init: (negotiated: Negotiated) => void events.push(negotiated),
    destroy: () => void events.push('destroy'),
    statfs: () => 0,
  };
  return { fileSystem, events };
}

const statfs = message({ opcode: FuseOpcode.STATFS });
const initOf = (major: number, minor: number): Buffer =>
  message(
    { opcode: FuseOpcode.INIT },
    InitIn.encode({ major, minor, maxReadahead: 4096, flags: 0, flags2: 0 }),
  );

describe('INIT', () => {
  test('a guest of today gets 1 MiB transfers and the flags both have', () => {
    const { fileSystem, events } = recording({
      posixAcl: true,
      readdirplus: 'auto',
      submounts: true,
      idmap: true,
    });
    const mount = new Mount(fileSystem, { init: null });
    const { used, payload } = mount.send(initMessage(), 80);
    const flags = wantedFlags(fileSystem.capabilities);
    expect(used).toBe(80);
    expect(InitOut.decode(payload)).toEqual({
      major: 7,
      minor: 45,
      maxReadahead: 128 * 1024,
      flags: Number(flags & 0xffff_ffffn),
      maxBackground: 0xffff,
      congestionThreshold: 0xbfff,
      maxWrite: 1024 * 1024,
      timeGran: 1,
      maxPages: 256,
      mapAlignment: 0,
      flags2: Number(flags >> 32n),
      maxStackDepth: 0,
      requestTimeout: 0,
    });
    expect(flags & FuseInitFlag.ALLOW_IDMAP).toBe(FuseInitFlag.ALLOW_IDMAP);
    expect(events).toEqual([{ minor: 45, flags, maxWrite: 1024 * 1024, maxReadahead: 128 * 1024 }]);
  });

  test('a guest before 7.36 sends 16 bytes and gets no flags2', () => {
    const { fileSystem, events } = recording({ securityContext: true });
    const mount = new Mount(fileSystem, { init: null });
    const old = message(
      { opcode: FuseOpcode.INIT },
      initMessage(0xffff_ffff_bfff_ffffn, 31).subarray(40, 56),
    );
    expect(InitOut.decode(mount.send(old, 80).payload).flags2).toBe(0);
    expect(events).toMatchObject([{ minor: 31 }]);
    expect((events[0] as Negotiated).flags & (FuseInitFlag.INIT_EXT | FuseInitFlag.SECURITY_CTX)).toBe(0n);
  });

  test('ACLs need three flags: without one of them none is set', () => {
    const { fileSystem, events } = recording({ posixAcl: true });
    const without = new Mount(fileSystem, { init: initMessage(0x7fff_ffffn & ~FuseInitFlag.SETXATTR_EXT) });
    expect(without.server.negotiated).toBe(events[0]);
    expect((events[0] as Negotiated).flags & (FuseInitFlag.POSIX_ACL | FuseInitFlag.DONT_MASK)).toBe(0n);
  });

  test('a guest without MAX_PAGES writes 32 pages at most', () => {
    const mount = new Mount({}, { init: initMessage(0n) });
    expect(mount.server.negotiated).toMatchObject({ flags: 0n, maxWrite: 128 * 1024 });
  });

  test.each([
    [6, 45],
    [7, 26],
    [0, 0],
  ])('version %i.%i is refused', (major, minor) => {
    const mount = new Mount({}, { init: null });
    expect(mount.errorOf(initOf(major, minor))).toBe(-Errno.EPROTO);
    expect(mount.server.negotiated).toBeUndefined();
  });

  test('a later major is answered with ours, and mounts nothing yet', () => {
    const { fileSystem, events } = recording();
    const mount = new Mount(fileSystem, { init: null });
    const { header, payload } = mount.send(initOf(8, 0), 80);
    expect(header.error).toBe(0);
    expect(InitOut.decode(payload)).toMatchObject({ major: 7, minor: 45, flags: 0 });
    expect(events).toEqual([]);
    expect(mount.errorOf(statfs)).toBe(-Errno.EIO);
  });

  test('too short an INIT, or too little room for its answer, is refused', () => {
    const mount = new Mount({}, { init: null });
    expect(mount.errorOf(message({ opcode: FuseOpcode.INIT }, new Uint8Array(15)))).toBe(-Errno.EINVAL);
    expect(mount.errorOf(initMessage(), 79)).toBe(-Errno.EINVAL);
  });
});

describe('the life of a mount', () => {
  test('nothing is served before INIT, nor after DESTROY', () => {
    const { fileSystem, events } = recording();
    const mount = new Mount(fileSystem, { init: null });
    expect(mount.errorOf(statfs)).toBe(-Errno.EIO);
    mount.send(initMessage(), 80);
    expect(mount.errorOf(statfs)).toBe(0);
    expect(mount.errorOf(message({ opcode: FuseOpcode.DESTROY }))).toBe(0);
    expect(mount.errorOf(statfs)).toBe(-Errno.EIO);
    expect(events.map((event) => event === 'destroy')).toEqual([false, true]);
  });

  test('a guest that mounts again without DESTROY ends the mount before', () => {
    const { fileSystem, events } = recording();
    const mount = new Mount(fileSystem);
    mount.send(initMessage(), 80);
    expect(events.map((event) => event === 'destroy')).toEqual([false, true, false]);
  });

  test('reset ends the mount; a second reset does nothing', () => {
    const { fileSystem, events } = recording();
    const mount = new Mount(fileSystem);
    mount.server.reset();
    mount.server.reset();
    expect(events.map((event) => event === 'destroy')).toEqual([false, true]);
    expect(mount.errorOf(statfs)).toBe(-Errno.EIO);
  });
});
