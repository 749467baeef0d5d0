import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Errno } from '../../protocol/errno.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { FuseExtType } from '../../protocol/fuse-flags.ts';
import { ExtHeader, Secctx, SuppGroups } from '../../protocol/fuse-extensions.ts';
import { MkdirIn } from '../../protocol/fuse-requests.ts';
import type { FuseRequest } from '../../src/fuse/request.ts';
import { message, Mount } from './guest.ts';

const seen: { groups: number[]; name: string; context: string }[] = [];
function mkdir(request: FuseRequest): number {
  const { input } = request;
  const text = (address: number, size: number): string =>
    Buffer.from(input.u8.subarray(address - input.address, address - input.address + size)).toString();
  seen.push({
    groups: Array.from({ length: request.groupCount }, (_, i) =>
      input.view.getUint32(request.groupsAddress - input.address + 4 * i, true),
    ),
    name: request.secctxNameLength === 0 ? '' : text(request.secctxNameAddress, request.secctxNameLength),
    context: text(request.secctxAddress || input.address, request.secctxSize),
  });
  return 128;
}

const mount = new Mount({ mkdir });
const mkdirIn = MkdirIn.encode({ mode: 0o755, umask: 0 });
const send = (extensions: Uint8Array, totalExtlen = Math.ceil(extensions.length / 8)): number | undefined =>
  mount.errorOf(message({ opcode: FuseOpcode.MKDIR, totalExtlen }, mkdirIn, 'dir\0', extensions));

/** An extension, padded to 8 bytes as the kernel does. */
function extension(type: number, content: Uint8Array): Buffer {
  const size = Math.ceil((ExtHeader.size + content.length) / 8) * 8;
  const octets = Buffer.alloc(size);
  octets.set(ExtHeader.encode({ size, type }));
  octets.set(content, ExtHeader.size);
  return octets;
}
const groups = (...gids: number[]): Buffer =>
  extension(
    FuseExtType.GROUPS,
    Buffer.concat([SuppGroups.encode({ nrGroups: gids.length }), Buffer.from(Uint32Array.from(gids).buffer)]),
  );
const secctx = (name: string, context: string): Buffer =>
  extension(1, Buffer.concat([Secctx.encode({ size: context.length }), Buffer.from(`${name}\0${context}`)]));

describe('extensions', () => {
  test('a supplementary group and a security context, in either order', () => {
    const label = 'system_u:object_r:virtiofs_t:s0\0';
    for (const octets of [
      Buffer.concat([secctx('security.selinux', label), groups(1234)]),
      Buffer.concat([groups(1234), secctx('security.selinux', label)]),
    ]) {
      expect(send(octets)).toBe(0);
      expect(seen.splice(0)).toEqual([{ groups: [1234], name: 'security.selinux', context: label }]);
    }
  });

  test('what one request had, the next has not', () => {
    send(Buffer.concat([groups(1, 2), secctx('a', 'b')]));
    send(Buffer.alloc(0));
    expect(seen.splice(0)[1]).toEqual({ groups: [], name: '', context: '' });
  });

  test('a list without contexts, types nobody knows, and a kernel that counts no extensions', () => {
    expect(send(extension(0, Buffer.alloc(0)))).toBe(0);
    expect(send(Buffer.concat([extension(99, Buffer.alloc(24)), groups(7)]))).toBe(0);
    expect(send(secctx('security.selinux', 'x'), 0)).toBe(0);
    expect(seen.splice(0).map(({ groups: g, name }) => [g, name])).toEqual([
      [[], ''],
      [[7], ''],
      [[], 'security.selinux'],
    ]);
  });

  test.each([
    ['a count in the header that is not what follows', groups(1), 3],
    ['a size below its header', ExtHeader.encode({ size: 7, type: 32 }), 1],
    ['a size beyond the request', ExtHeader.encode({ size: 16, type: 32 }), 1],
    ['groups without a count', ExtHeader.encode({ size: 8, type: 32 }), 1],
    ['more groups than there are', extension(32, SuppGroups.encode({ nrGroups: 0x4000_0001 })), 2],
    ['a context without name', secctx('', 'context'), undefined],
    ['a context longer than the extension', extension(1, Secctx.encode({ size: 1 })), undefined],
    ['a rest of 4 octets', Buffer.alloc(4), 0],
  ])('%s is refused', (_, octets, totalExtlen) => {
    expect(send(octets, totalExtlen)).toBe(-Errno.EINVAL);
    expect(seen.length).toBe(0);
  });

  test('any octets are taken or refused, and nothing is found outside of them', () => {
    const start = 40 + MkdirIn.size + 4;
    const probe = new Mount({
      mkdir: ({ input, groupsAddress, groupCount, secctxAddress, secctxSize, length }) => {
        if (groupCount > 0)
          expect(groupsAddress - input.address + 4 * groupCount).toBeLessThanOrEqual(length);
        if (secctxSize > 0) expect(secctxAddress - input.address + secctxSize).toBeLessThanOrEqual(length);
        return 128;
      },
    });
    const record = fc
      .tuple(
        fc.integer({ min: 0, max: 40 }),
        fc.constantFrom(0, 1, 2, 31, 32, 33),
        fc.uint8Array({ maxLength: 40 }),
      )
      .map(([size, type, octets]) => Buffer.concat([ExtHeader.encode({ size, type }), octets]));
    fc.assert(
      fc.property(fc.array(record, { maxLength: 3 }), (records) => {
        const octets = message({ opcode: FuseOpcode.MKDIR }, mkdirIn, 'dir\0', ...records);
        expect([0, -Errno.EINVAL]).toContain(probe.errorOf(octets, 200));
        expect(octets.length).toBeGreaterThanOrEqual(start);
      }),
      { numRuns: 100 },
    );
  });
});
