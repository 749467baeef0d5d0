import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { AttrOut, EntryOut } from '../../protocol/fuse-attributes.ts';
import { BatchForgetIn, ForgetIn, ForgetOne, GetattrIn, WriteIn } from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { type FileSystem, NO_REPLY } from '../../src/fuse/file-system.ts';
import { initMessage, message, Mount, readIovecs } from './guest.ts';

const getattr = message({ opcode: FuseOpcode.GETATTR }, GetattrIn.encode({ getattrFlags: 1, fh: 9n }));
/** Answers GETATTR with octets 0, 1, 2… */
const counting: Partial<FileSystem> = {
  getattr: (request) => {
    for (let i = 0; i < AttrOut.size; i += 1) request.reply.u8[i] = i;
    return AttrOut.size;
  },
};
const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 12 });
const layouts = fc.record({ readable: sizes, writable: sizes, gap: fc.constantFrom(0, 1, 4, 7, 64) });

describe('replies', () => {
  test('a reply has length, error 0, the unique id and the payload', () => {
    const { used, header, payload } = new Mount(counting).send(getattr, 200);
    expect(used).toBe(120);
    expect(header).toEqual({ len: 120, error: 0, unique: 0x1122_3344_5566_7788n });
    expect([...payload]).toEqual(Array.from({ length: 104 }, (_, i) => i));
  });

  test('an errno becomes a bare header', () => {
    const mount = new Mount({ getattr: () => -Errno.ESTALE });
    expect(mount.send(getattr, 200)).toMatchObject({ used: 16, header: { len: 16, error: -Errno.ESTALE } });
  });

  test('a payload beyond the room is EIO, and no octet lands outside', () => {
    const mount = new Mount({ readlink: () => 101 });
    const { used, header } = mount.send(message({ opcode: FuseOpcode.READLINK }), 116);
    expect([used, header.error]).toEqual([16, -Errno.EIO]);
    expect(mount.guest.isRestUntouched()).toBe(true);
  });

  test('NO_REPLY gives the chain back empty', () => {
    expect(new Mount({ getattr: () => NO_REPLY }).send(getattr, 200).used).toBe(0);
  });

  test('a method that returns what is neither size nor errno is our bug', () => {
    expect(() => new Mount({ getattr: () => -5000 }).send(getattr, 200)).toThrow(RangeError);
  });
});

describe('what is refused', () => {
  test.each([
    ['an opcode nobody knows', message({ opcode: 999 }), Errno.ENOSYS],
    ['the unused opcode 7', message({ opcode: 7 }), Errno.ENOSYS],
    ['an opcode of 32 bits', message({ opcode: 0xffff_ffff }), Errno.ENOSYS],
    ['an operation the file system lacks', message({ opcode: FuseOpcode.STATFS }), Errno.ENOSYS],
    ['SETUPMAPPING, for there is no DAX window', message({ opcode: FuseOpcode.SETUPMAPPING }), Errno.ENOSYS],
    ['arguments one octet short', getattr.subarray(0, 55), Errno.EINVAL],
    [
      'a length beyond the chain',
      message({ opcode: FuseOpcode.GETATTR, len: 57 }, new Uint8Array(16)),
      Errno.EINVAL,
    ],
    [
      'a length below the header',
      message({ opcode: FuseOpcode.GETATTR, len: 39 }, new Uint8Array(16)),
      Errno.EINVAL,
    ],
  ])('%s', (_, octets, errno) => {
    const fixed = Buffer.from(octets);
    if (octets.length === 55) fixed.writeUInt32LE(55, 0);
    expect(new Mount(counting).errorOf(fixed)).toBe(-errno);
  });

  test('too little room for the reply, before anything is done', () => {
    let calls = 0;
    const mount = new Mount({ lookup: () => (calls += 1) });
    const lookup = message({ opcode: FuseOpcode.LOOKUP }, 'name\0');
    expect(mount.errorOf(lookup, 16 + EntryOut.size - 1)).toBe(-Errno.EINVAL);
    expect(calls).toBe(0);
    expect(mount.errorOf(lookup, 16 + EntryOut.size)).toBe(0);
  });

  test.each([0, 15])('%i octets of room are no room for an answer: used length 0, nothing done', (room) => {
    let calls = 0;
    const mount = new Mount({ unlink: () => (calls += 1) });
    expect(mount.send(message({ opcode: FuseOpcode.UNLINK }, 'name\0'), room).used).toBe(0);
    expect(calls).toBe(0);
    expect(mount.server.refused).toBe(1);
  });

  test.each([0, 1, 39])('%i octets are no header: used length 0', (size) => {
    expect(new Mount().send(new Uint8Array(size), 200).used).toBe(0);
  });

  test('a chain the ring refused is answered EFAULT as far as it is sound', () => {
    const mount = new Mount(counting);
    mount.guest.place(getattr, 200);
    expect(mount.guest.reply(mount.server.reject(mount.guest.chain)).header).toMatchObject({
      len: 16,
      error: -Errno.EFAULT,
    });
    mount.guest.place(getattr.subarray(0, 39), 200);
    expect(mount.server.reject(mount.guest.chain)).toBe(0);
  });
});

describe('FORGET', () => {
  const mounted = (): { readonly mount: Mount; readonly forgotten: [number, number][] } => {
    const forgotten: [number, number][] = [];
    return {
      mount: new Mount({ forget: (nodeid, nlookup) => void forgotten.push([nodeid, nlookup]) }),
      forgotten,
    };
  };
  const one = message({ opcode: FuseOpcode.FORGET, nodeid: 5n }, ForgetIn.encode({ nlookup: 3n }));

  test.each([0, 200])('is not answered, with %i octets of room', (room) => {
    const { mount, forgotten } = mounted();
    expect(mount.send(one, room).used).toBe(0);
    expect(forgotten).toEqual([[5, 3]]);
  });

  test('BATCH_FORGET forgets what is there, whatever its count says', () => {
    const { mount, forgotten } = mounted();
    const batch = (count: number): Buffer =>
      message(
        { opcode: FuseOpcode.BATCH_FORGET },
        BatchForgetIn.encode({ count }),
        ForgetOne.encode({ nodeid: 2n, nlookup: 1n }),
        ForgetOne.encode({ nodeid: 3n, nlookup: 4n }),
      );
    for (const count of [2, 1, 0xffff_ffff]) mount.send(batch(count), 0, { readable: [41, 13] });
    expect(forgotten).toEqual([
      [2, 1],
      [3, 4],
      [2, 1],
      [2, 1],
      [3, 4],
    ]);
  });

  test('BATCH_FORGET of 20,000 records is read in several steps, of 70,000 not to the end', () => {
    const { mount, forgotten } = mounted();
    const records = Buffer.alloc(70_000 * ForgetOne.size);
    for (let i = 0; i < 70_000; i += 1) records.writeUInt32LE(i, i * ForgetOne.size);
    const batch = (count: number): Buffer =>
      message({ opcode: FuseOpcode.BATCH_FORGET }, BatchForgetIn.encode({ count }), records);
    mount.send(batch(20_000), 0);
    expect(forgotten.map(([nodeid]) => nodeid)).toEqual(Array.from({ length: 20_000 }, (_, i) => i));
    mount.send(batch(70_000), 0);
    expect(forgotten.length).toBe(20_000 + 65_536);
  });

  test('is nothing before INIT, and nothing when short', () => {
    const { mount, forgotten } = mounted();
    mount.server.reset();
    mount.send(one, 0);
    mount.send(initMessage(), 80);
    const short = Buffer.from(one.subarray(0, 47));
    short.writeUInt32LE(47, 0);
    mount.send(short, 0);
    mount.send(message({ opcode: FuseOpcode.BATCH_FORGET }, new Uint8Array(7)), 0);
    expect(forgotten).toEqual([]);
  });
});

describe('layout', () => {
  test('any split of request and reply gives the answer of one piece', () => {
    const mount = new Mount({
      ...counting,
      rename: (request) => {
        const text = `${request.u64(0)} ${request.u32(8)} ${request.nameText(0)} ${request.nameText(1)}`;
        return request.reply.u8.set(Buffer.from(text)) ?? text.length;
      },
    });
    const rename = message(
      { opcode: FuseOpcode.RENAME },
      Buffer.from('0700000000000000', 'hex'),
      'old name\0',
      'new\0',
    );
    fc.assert(
      fc.property(fc.constantFrom(getattr, rename), layouts, (octets, layout) => {
        const whole = mount.send(octets, 300);
        const split = mount.send(octets, 300, layout);
        expect(split).toEqual(whole);
        expect(mount.guest.isRestUntouched()).toBe(true);
      }),
      { numRuns: 50 },
    );
    expect(mount.send(rename, 300).payload.toString()).toBe('7 0 old name new');
  });

  test('data moves between guest and file system through iovecs, however it is split', () => {
    const file = Buffer.alloc(512);
    const copied = (address: number, count: number, each: (at: Buffer) => void): void => {
      // The iovecs are native memory, as preadv sees them.
      for (const piece of mountIovecs(mount, address, count)) each(piece);
    };
    const mount: Mount = new Mount({
      read: (request) => {
        const size = request.prepareDataOut(request.u32(16), 0);
        let at = 0;
        copied(
          request.iovecAddress,
          request.iovecCount,
          (piece) => (at += file.copy(piece, 0, at, at + piece.length)),
        );
        return size;
      },
      write: (request) => {
        const size = request.prepareDataIn(request.u32(16));
        let at = 0;
        copied(request.iovecAddress, request.iovecCount, (piece) => (at += piece.copy(file, at)));
        request.reply.u32[0] = size;
        request.reply.u32[1] = 0;
        return 8;
      },
    });
    const args = (size: number): Buffer =>
      WriteIn.encode({ fh: 1n, offset: 0n, size, writeFlags: 0, lockOwner: 0n, flags: 0 });
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 400 }),
        layouts,
        layouts,
        (octets, first, second) => {
          file.fill(0);
          const written = mount.send(
            message({ opcode: FuseOpcode.WRITE }, args(octets.length), octets),
            24,
            first,
          );
          expect(written.payload.readUInt32LE(0)).toBe(octets.length);
          const read = mount.send(
            message({ opcode: FuseOpcode.READ }, args(octets.length)),
            16 + 400,
            second,
          );
          expect(read.payload).toEqual(Buffer.from(octets));
          expect(mount.guest.isRestUntouched()).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('WRITE that announces more octets than it brings is refused', () => {
    const mount = new Mount({ write: () => 8 });
    const args = WriteIn.encode({ fh: 1n, offset: 0n, size: 11, writeFlags: 0, lockOwner: 0n, flags: 0 });
    expect(mount.errorOf(message({ opcode: FuseOpcode.WRITE }, args, new Uint8Array(10)))).toBe(
      -Errno.EINVAL,
    );
    expect(mount.errorOf(message({ opcode: FuseOpcode.WRITE }, args, new Uint8Array(11)))).toBe(0);
  });
});

/** The buffers of guest memory that iovecs name. */
function mountIovecs({ guest }: Mount, address: number, count: number): Buffer[] {
  return readIovecs(address, count).map(([base, size]) => {
    const at = base - guest.memory.address;
    return Buffer.from(guest.memory.u8.buffer, at, size);
  });
}
