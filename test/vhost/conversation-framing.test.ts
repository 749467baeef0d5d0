import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VhostUserHeader } from '../../protocol/vhost-user.ts';
import { type Frame, FrameReader } from '../../src/vhost/conversation-framing.ts';

const MAX = 0x1_0000;

/** Gives the reader what it wants, in pieces of at most `piece`. */
function readAll(stream: Uint8Array, piece: number): readonly Frame[] {
  const reader = new FrameReader();
  const frames: Frame[] = [];
  for (let at = 0; at < stream.length;) {
    const size = Math.min(reader.wanted, piece, stream.length - at);
    const frame = reader.take(stream.subarray(at, at + size), []);
    if (frame !== undefined) frames.push(frame);
    const rest = at % 7 === 0 ? reader.rest(false) : undefined;
    if (rest !== undefined) frames.push(rest);
    at += size;
  }
  const rest = reader.rest(true);
  return rest === undefined ? frames : [...frames, rest];
}

const frame = (request: number, size: number): Buffer =>
  Buffer.concat([VhostUserHeader.encode({ request, flags: 1, size }), Buffer.alloc(size, request)]);

test('messages are found whatever pieces they come in', () => {
  const sizes = fc.array(fc.oneof(fc.nat(64), fc.constant(MAX)), { maxLength: 6 });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 100_000 }), (payloads, piece) => {
      fc.pre(piece > 100 || payloads.every((size) => size < MAX));
      const messages = payloads.map((size, i) => frame(i, size));
      const found = readAll(Buffer.concat(messages), piece);
      expect(found.map(({ kind }) => kind)).toEqual(messages.map(() => 'frame'));
      found.forEach(({ octets }, i) => expect(messages[i]!.equals(octets)).toBe(true));
    }),
    { numRuns: 60 },
  );
});

test('no octet of any stream is lost', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 1, max: 40 }), (stream, piece) => {
      expect(Buffer.concat(readAll(stream, piece).map(({ octets }) => octets)).equals(stream)).toBe(true);
    }),
  );
});

test('after a header that claims too much, octets are only octets, and it is said once', () => {
  const wrong = VhostUserHeader.encode({ request: 1, flags: 1, size: MAX + 1 });
  const found = readAll(Buffer.concat([frame(7, 4), wrong, frame(8, 4), frame(9, 4)]), 5);
  expect(found[0]!.kind).toBe('frame');
  expect(found.slice(1).map(({ kind }) => kind)).toEqual(found.slice(1).map(() => 'raw'));
  expect(found.filter(({ reason }) => reason !== undefined)).toHaveLength(1);
});

test('a stream that ends within a message says so', () => {
  expect(readAll(frame(3, 8).subarray(0, 15), 100)).toMatchObject([
    { kind: 'raw', reason: 'the connection ended within a message' },
  ]);
});
