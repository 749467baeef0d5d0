/** A conversation for people: one line per message, and below it what the message changed. */
import { VhostUserHeader } from '../../protocol/vhost-user.ts';
import { GiB, hex, KiB, MiB, TiB } from '../units.ts';
import type { Observation } from './conversation.ts';
import type { MemorySnapshot } from './conversation-memory.ts';
import { requestName } from './conversation-names.ts';
import { type PayloadFields, payloadFields } from './conversation-payload.ts';
import type { EventRecord, FdDescription, MessageRecord } from './conversation-record.ts';
import type { Reading } from './conversation-session.ts';

/** Address ranges a line shows. */
const SHOWN_RANGES = 8;
/** Octets a line shows. */
const SHOWN_OCTETS = 32;
const INDENT = ' '.repeat(19);

/**
 * @param startedAt when the conversation began, in the seconds of the record
 * @returns lines without their ends
 */
export function observationText(observation: Observation, startedAt: number): readonly string[] {
  const { record, connection, reading, anomalies } = observation;
  const time = (record.t - startedAt).toFixed(6).padStart(11);
  const from = connection === '' ? '' : `{${connection}} `;
  const head = `${time} ${`#${record.n}`.padEnd(6)} ${from}`;
  const text = record.kind === 'event' ? eventText(record) : messageText(record, reading!);
  const notes = [
    ...(reading?.memory === undefined ? [] : [memoryText(reading.memory)]),
    ...(reading?.rings ?? []),
    ...anomalies.map((anomaly) => `! ${anomaly.kind}: ${anomaly.text}`),
  ];
  return [`${head}${text}`, ...notes.map((note) => `${INDENT}${note}`)];
}

/** `memory 3/509 slots, 6 GiB: 0x0+2 GiB 0x100000000+4 GiB (2 slots)` */
export function memoryText({ slots, limit, bytes, ranges }: MemorySnapshot): string {
  const shown = ranges
    .slice(0, SHOWN_RANGES)
    .map(
      ({ start, size, slots: count }) =>
        `${hex(start)}+${sizeText(size)}${count > 1 ? ` (${count} slots)` : ''}`,
    );
  const more = ranges.length > SHOWN_RANGES ? [`and ${ranges.length - SHOWN_RANGES} more ranges`] : [];
  const list = [...shown, ...more].join(', ');
  return `memory ${slots}${limit === undefined ? '' : `/${limit}`} slots, ${sizeText(bytes)}${list === '' ? '' : `: ${list}`}`;
}

function messageText(record: MessageRecord, { isReply, answers, ack, expectsReply }: Reading): string {
  const { chan, dir, octets, fds } = record;
  const { request, flags } = VhostUserHeader.decode(octets);
  const fields = payloadFields(chan, request, flags, octets.subarray(VhostUserHeader.size));
  const arrow = dir === 'fe>be' ? '>' : '<';
  const parts = [
    `${chan === 'backend' ? 'B' : ' '}${arrow} ${requestName(chan, request)}`,
    ...(isReply || !expectsReply ? [] : ['?']),
    ...(ack === undefined ? [fieldsText(fields)] : [ack === 'ok' ? 'ok' : `REFUSED ${fieldsText(fields)}`]),
    ...(fds.length === 0 ? [] : [`[${fdsText(fds)}]`]),
    ...(answers === undefined ? [] : [`(#${answers.n}, ${latencyText(answers.seconds)})`]),
  ];
  return parts.filter((part) => part !== '').join(' ');
}

function eventText({ chan, dir, event, reason, octets, fds }: EventRecord): string {
  const where = [chan === 'backend' ? 'back-end channel' : '', dir ?? '']
    .filter((part) => part !== '')
    .join(' ');
  const parts = [
    `-- ${event}`,
    where,
    reason ?? '',
    octets === undefined ? '' : `${octets.length} octets ${octetsText(octets)}`,
    fds === undefined || fds.length === 0 ? '' : `[${fdsText(fds)}]`,
  ];
  return parts.filter((part) => part !== '').join(' ');
}

function fieldsText(fields: PayloadFields): string {
  const texts = Object.entries(fields).map(([name, value]) => {
    if (name === 'bits' && Array.isArray(value)) return `[${value.join(' ')}]`;
    if (name === 'regions' && Array.isArray(value))
      return (value as readonly PayloadFields[]).map((region) => `{${fieldsText(region)}}`).join(' ');
    if (typeof value === 'object') return fieldsText(value as PayloadFields);
    if (name === 'padding' && Number(value) === 0) return '';
    if (name === 'nofd') return value === true ? 'without fd' : '';
    if (name === 'u64') return 'index' in fields ? '' : String(value);
    return `${name} ${name.endsWith('_size') ? sizeText(BigInt(value)) : String(value)}`;
  });
  return texts.filter((text) => text !== '').join(' ');
}

/** The same descriptor many times over, as SET_MEM_TABLE has it, is shown once. */
function fdsText(fds: readonly FdDescription[]): string {
  const counts = new Map<string, number>();
  for (const fd of fds) counts.set(fdText(fd), (counts.get(fdText(fd)) ?? 0) + 1);
  return [...counts].map(([text, count]) => (count === 1 ? text : `${count} × ${text}`)).join(', ');
}

function fdText({ kind, name, link, size, ino, id }: FdDescription): string {
  const label =
    kind === 'eventfd' ? `eventfd ${id ?? '?'}` : `${kind} ${name ?? (kind === 'file' ? link : '') ?? ''}`;
  const length = size === undefined ? '' : ` ${sizeText(BigInt(size))}`;
  return `${label.trimEnd()}${length}${ino === undefined ? '' : ` ino ${ino}`}`;
}

/** Binary units if that is exact, otherwise hexadecimal. */
function sizeText(bytes: bigint): string {
  const units = [
    [TiB, 'TiB'],
    [GiB, 'GiB'],
    [MiB, 'MiB'],
    [KiB, 'KiB'],
  ] as const;
  const unit = units.find(([size]) => bytes !== 0n && bytes % BigInt(size) === 0n);
  return unit === undefined ? hex(bytes) : `${bytes / BigInt(unit[0])} ${unit[1]}`;
}

export function latencyText(seconds: number): string {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} us`;
  return seconds < 1 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
}

function octetsText(octets: Uint8Array): string {
  const shown = Buffer.from(octets.subarray(0, SHOWN_OCTETS)).toString('hex');
  return octets.length > SHOWN_OCTETS ? `${shown}…` : shown;
}
