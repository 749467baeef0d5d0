/**
 * One line of a recorded conversation: a message, or something else that happened to a connection. Text to records and
 * back; the field names are those of the recordings in fixtures/vhost-user.
 */
import {
  HeaderFlag,
  isReply,
  needsReply,
  VHOST_USER_VERSION,
  VhostUserHeader,
} from '../../protocol/vhost-user.ts';
import { requestName } from './conversation-names.ts';
import { payloadFields } from './conversation-payload.ts';

/** `main` is the connection itself, `backend` the socket of SET_BACKEND_REQ_FD. */
export type Channel = 'main' | 'backend';
export type Direction = 'fe>be' | 'be>fe';

/** What a file descriptor was, as far as it could be told when it passed. */
export interface FdDescription {
  /** memfd, file, eventfd, socket, pipe or other. */
  readonly kind: string;
  readonly link?: string;
  readonly name?: string;
  /** Bytes, hexadecimal. */
  readonly size?: string;
  readonly ino?: number;
  /** Of an eventfd: which one, and its counter. */
  readonly id?: number;
  readonly count?: number;
}

interface Common {
  /** Order in the recording. */
  readonly n: number;
  /** Seconds since the epoch. */
  readonly t: number;
  /** Which of several recordings in one. */
  readonly label?: string;
  readonly conn: number;
}

export interface MessageRecord extends Common {
  readonly kind: 'message';
  readonly chan: Channel;
  readonly dir: Direction;
  /** Header and payload; at least a header. */
  readonly octets: Uint8Array;
  readonly fds: readonly FdDescription[];
}

export interface EventRecord extends Common {
  readonly kind: 'event';
  readonly chan?: Channel;
  readonly dir?: Direction;
  /** connect, eof, error, raw, … */
  readonly event: string;
  /** Why, if there is something to say. */
  readonly reason?: string;
  /** Octets that are no message. */
  readonly octets?: Uint8Array;
  readonly fds?: readonly FdDescription[];
}

export type ConversationRecord = MessageRecord | EventRecord;

/** @returns undefined if the line is not a record */
export function parseRecord(line: string): ConversationRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  const { n, t, chan, dir } = fields;
  if (typeof n !== 'number' || typeof t !== 'number') return undefined;
  const common = {
    n,
    t,
    conn: typeof fields['conn'] === 'number' ? fields['conn'] : 0,
    ...(typeof fields['label'] === 'string' ? { label: fields['label'] } : {}),
  };
  const where: { readonly chan?: Channel; readonly dir?: Direction } = {
    ...(chan === 'main' || chan === 'backend' ? { chan } : {}),
    ...(dir === 'fe>be' || dir === 'be>fe' ? { dir } : {}),
  };
  const octets = octetsOf(fields['hex'] ?? fields['raw']);
  const fds = fdsOf(fields['fds']);
  const event = fields['event'];
  if (typeof event === 'string') {
    const reason = fields['reason'] ?? fields['error'];
    return {
      kind: 'event',
      ...common,
      ...where,
      event,
      ...(typeof reason === 'string' ? { reason } : {}),
      ...(octets === undefined ? {} : { octets }),
      ...(fds.length === 0 ? {} : { fds }),
    };
  }
  const { chan: channel, dir: direction } = where;
  if (octets !== undefined && octets.length >= VhostUserHeader.size && channel && direction)
    return { kind: 'message', ...common, chan: channel, dir: direction, octets, fds };
  const rule = fields['rule'];
  return { kind: 'event', ...common, ...where, event: typeof rule === 'string' ? rule : 'note' };
}

/** One line, without its end. */
export function formatRecord(record: ConversationRecord): string {
  const { n, t, label, conn } = record;
  const common = { n, t, ...(label === undefined ? {} : { label }), conn };
  if (record.kind === 'event') {
    const { chan, dir, event, reason, octets, fds } = record;
    const hex = octets === undefined ? undefined : hexOf(octets);
    return JSON.stringify({ ...common, chan, dir, event, reason, hex, fds });
  }
  const { chan, dir, octets, fds } = record;
  const { request, flags, size } = VhostUserHeader.decode(octets);
  return JSON.stringify({
    ...common,
    chan,
    dir,
    req: request,
    name: requestName(chan, request),
    flags,
    version: flags & HeaderFlag.VERSION_MASK,
    reply: isReply(flags),
    need_reply: needsReply(flags),
    size,
    payload: payloadFields(chan, request, flags, octets.subarray(VhostUserHeader.size)),
    fds,
    hex: hexOf(octets),
  });
}

/** Is the header one the specification allows for this side: version 1, no unknown flag, a reply exactly if it should be? */
export function hasSaneFlags(flags: number, shouldBeReply: boolean): boolean {
  const allowed = shouldBeReply
    ? VHOST_USER_VERSION | HeaderFlag.REPLY
    : VHOST_USER_VERSION | (flags & HeaderFlag.NEED_REPLY);
  return flags === allowed;
}

const hexOf = (octets: Uint8Array): string =>
  Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString('hex');

function octetsOf(text: unknown): Uint8Array | undefined {
  if (typeof text !== 'string' || !/^(?:[0-9a-f]{2})*$/i.test(text)) return undefined;
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

function fdsOf(value: unknown): readonly FdDescription[] {
  if (!Array.isArray(value)) return [];
  return value.map((each: unknown) => {
    const fields = (typeof each === 'object' && each !== null ? each : {}) as Record<string, unknown>;
    const kept = Object.entries(FD_FIELDS).filter(
      ([name, type]) => typeof fields[name] === type && (name !== 'size' || HEX.test(String(fields[name]))),
    );
    return { kind: 'other', ...Object.fromEntries(kept.map(([name]) => [name, fields[name]])) };
  });
}

const HEX = /^0x[0-9a-f]{1,16}$/i;

const FD_FIELDS: Readonly<Record<keyof FdDescription, 'string' | 'number'>> = {
  kind: 'string',
  link: 'string',
  name: 'string',
  size: 'string',
  ino: 'number',
  id: 'number',
  count: 'number',
};
