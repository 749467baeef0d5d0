/** Frames of real peers: fixtures/vhost-user/README.md. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CodecError } from '../../protocol/struct.ts';
import { hasVersion, isReply, needsReply, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { NoPayload, U64, type Payload } from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';

interface Vector {
  readonly dir: 'fe>be' | 'be>fe';
  readonly req: number;
  readonly name: string;
  readonly flags: number;
  readonly version: number;
  readonly reply: boolean;
  readonly need_reply: boolean;
  readonly size: number;
  readonly payload: Record<string, unknown>;
  readonly hex: string;
  readonly fds: readonly unknown[];
}

const fixture = new URL('../../fixtures/vhost-user/codec-vectors.jsonl', import.meta.url);
const vectors = readFileSync(fixture, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Vector);

/** Replies of a misbehaving back-end whose payload no specification allows; the recorder counted its octets. */
const isMalformed = (v: Vector): boolean => v.dir === 'be>fe' && ('bytes' in v.payload || v.size === 0);

function payloadOf(v: Vector): Payload<unknown> {
  const row = frontendRow(v.req)!;
  if (v.dir === 'fe>be') return row.payload as Payload<unknown>;
  return (row.reply === 'ack' ? U64 : row.reply) as Payload<unknown>;
}

/** Decoded values as the recorder wrote them: snake case, 64-bit numbers in hex; fields it derived are left out. */
function asRecorded(value: unknown, v: Vector): unknown {
  if (value === undefined) return {};
  if (typeof value === 'bigint') return { u64: hex(value) };
  const plain = recorded(value) as Record<string, unknown>;
  if (v.name !== 'SET_MEM_TABLE') return plain;
  return { nregions: (plain['regions'] as unknown[]).length, ...plain };
}
function recorded(value: unknown): unknown {
  if (typeof value === 'bigint') return hex(value);
  if (Array.isArray(value)) return value.map(recorded);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [snakeCase(key), recorded(field)]));
}
const hex = (value: bigint): string => `0x${value.toString(16)}`;
const snakeCase = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const derived = new Set(['bits', 'index', 'nofd']);
const withoutDerived = (payload: Record<string, unknown>): Record<string, unknown> =>
  'u64' in payload
    ? Object.fromEntries(Object.entries(payload).filter(([key]) => !derived.has(key)))
    : payload;

describe('recorded frames', () => {
  test('all 61 are here', () => {
    expect(vectors.length).toBe(61);
    expect(vectors.filter(isMalformed).length).toBe(3);
  });

  test.each(vectors.map((v) => [`${v.dir} ${v.name} flags ${v.flags} size ${v.size}`, v] as const))(
    '%s: header decodes and encodes to the same bytes',
    (_, v) => {
      const frame = Buffer.from(v.hex, 'hex');
      const header = VhostUserHeader.decode(frame);
      expect(header).toEqual({ request: v.req, flags: v.flags, size: v.size });
      expect(hasVersion(v.flags)).toBe(v.version === 1);
      expect(isReply(v.flags)).toBe(v.reply);
      expect(needsReply(v.flags)).toBe(v.need_reply);
      expect(VhostUserHeader.encode(header).toString('hex')).toBe(v.hex.slice(0, 24));
      expect(frontendRow(v.req)!.name).toBe(v.name);
    },
  );

  test.each(
    vectors.filter((v) => !isMalformed(v)).map((v) => [`${v.dir} ${v.name} size ${v.size}`, v] as const),
  )('%s: payload decodes to what was recorded and encodes to the same bytes', (_, v) => {
    const octets = Buffer.from(v.hex.slice(24), 'hex');
    const payload = payloadOf(v);
    const value = payload.decode(octets);
    expect(asRecorded(value, v)).toEqual(withoutDerived(v.payload));
    expect(Buffer.from(payload.encode(value)).toString('hex')).toBe(v.hex.slice(24));
  });

  test.each(vectors.filter(isMalformed).map((v) => [`${v.name} size ${v.size}`, v] as const))(
    '%s: a payload of the wrong size is refused',
    (_, v) => {
      expect(() => payloadOf(v).decode(Buffer.from(v.hex.slice(24), 'hex'))).toThrow(CodecError);
    },
  );

  test.each(
    vectors.filter((v) => v.dir === 'fe>be').map((v) => [`${v.name} with ${v.fds.length} fds`, v] as const),
  )('%s: the table allows that many', (_, v) => {
    const { fds, payload } = frontendRow(v.req)!;
    expect(v.fds.length).toBeGreaterThanOrEqual(fds.min);
    expect(v.fds.length).toBeLessThanOrEqual(fds.max);
    expect(payload === NoPayload).toBe(v.size === 0);
  });
});
