import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FuseOpcode } from '../../protocol/fuse.ts';
import { type FileSystem, NO_REPLY } from '../../src/fuse/file-system.ts';
import { OPERATIONS } from '../../src/fuse/operations.ts';
import type { FuseRequest } from '../../src/fuse/request.ts';
import { initMessage, message, Mount } from './guest.ts';

/** A file system that answers every operation with whatever `next` says, writing that much. */
function answering(next: () => number): FileSystem {
  const serve = (request: FuseRequest): number => {
    const size = next();
    if (size > 0) request.reply.u8.fill(0x5a, 0, size);
    if (size % 3 === 0) {
      // As READ does, but without writing: covers any range.
      const covered = request.prepareDataOut(size, size % 7);
      expect(covered).toBeLessThanOrEqual(Math.max(0, request.replyRoom));
      request.prepareDataIn(size);
      request.isPayloadInPlace = false;
    }
    return size;
  };
  const methods = Object.values(OPERATIONS).map((row) => [row.method, serve] as const);
  return { capabilities: { posixAcl: true }, forget: () => undefined, ...Object.fromEntries(methods) };
}

const opcodes = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...Object.values(FuseOpcode)) },
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const layouts = fc.record({
  readable: fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 6 }),
  writable: fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 6 }),
  gap: fc.constantFrom(0, 3, 64),
});
/** Zeros and small numbers are likelier to pass a check than random octets. */
const octets = fc.uint8Array({ maxLength: 160 }).chain((random) =>
  fc.constantFrom(
    random,
    random.map((octet) => octet & 3),
    random.fill(0x61, 20),
  ),
);
const requests = fc.record({
  octets: fc.oneof(
    { weight: 1, arbitrary: octets },
    {
      weight: 5,
      arbitrary: fc
        .record({
          opcode: opcodes,
          octets,
          len: fc.option(fc.integer({ min: 0, max: 300 }), { nil: undefined }),
        })
        .map(({ opcode, octets: body, len }) =>
          message({ opcode, ...(len === undefined ? {} : { len }) }, body),
        ),
    },
  ),
  room: fc.integer({ min: 0, max: 400 }),
  layout: layouts,
  answer: fc.oneof(fc.integer({ min: -40, max: 500 }), fc.constant(NO_REPLY)),
});

test('any octets get a reply as long as it says, or none, and nothing else is written', () => {
  let answer = 0;
  const mount = new Mount(answering(() => answer));
  fc.assert(
    fc.property(requests, (request) => {
      answer = request.answer;
      if (mount.server.negotiated === undefined) mount.send(initMessage(), 80);
      const { used, header } = mount.send(request.octets, request.room, request.layout);
      expect(used).toBeLessThanOrEqual(request.room);
      if (used !== 0) {
        expect(header.len).toBe(used);
        expect(header.error === 0 ? used >= 16 : used === 16).toBe(true);
      }
      expect(mount.guest.isRestUntouched()).toBe(true);
    }),
    { numRuns: 400 },
  );
});

test('a broken chain gets an error or nothing', () => {
  const mount = new Mount(answering(() => 0));
  fc.assert(
    fc.property(requests, ({ octets: readable, room, layout }) => {
      mount.guest.place(readable, room, layout);
      const used = mount.server.reject(mount.guest.chain);
      expect([0, 16]).toContain(used);
      expect(mount.guest.isRestUntouched()).toBe(true);
    }),
    { numRuns: 100 },
  );
});
