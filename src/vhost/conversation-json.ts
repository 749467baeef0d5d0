/** What there is to say about a record, as plain data: 64-bit values are hexadecimal text. */
import { isReply, needsReply, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { hex } from '../units.ts';
import type { Observation } from './conversation.ts';
import type { MemorySnapshot } from './conversation-memory.ts';
import { requestName } from './conversation-names.ts';
import { payloadFields } from './conversation-payload.ts';

/** An object for JSON.stringify; what does not apply is absent. */
export function observationJson({ record, reading, anomalies }: Observation): object {
  const { n, t, label, conn, chan, dir } = record;
  const common = { n, t, label, conn, chan, dir };
  const noted = anomalies.length === 0 ? {} : { anomalies };
  if (record.kind === 'event') {
    const { event, reason, octets, fds } = record;
    return { ...common, event, reason, octets: octets?.length, fds, ...noted };
  }
  const { request, flags } = VhostUserHeader.decode(record.octets);
  return {
    ...common,
    req: request,
    name: requestName(record.chan, request),
    reply: isReply(flags),
    need_reply: needsReply(flags),
    payload: payloadFields(record.chan, request, flags, record.octets.subarray(VhostUserHeader.size)),
    fds: record.fds,
    ...(reading?.answers === undefined
      ? {}
      : { answers: reading.answers.n, latency_us: Math.round(reading.answers.seconds * 1e6) }),
    ...(reading?.ack === undefined ? {} : { ack: reading.ack }),
    ...(reading?.memory === undefined ? {} : { memory: memoryJson(reading.memory) }),
    ...(reading === undefined || reading.rings.length === 0 ? {} : { rings: reading.rings }),
    ...noted,
  };
}

const memoryJson = ({ slots, limit, bytes, ranges }: MemorySnapshot): object => ({
  slots,
  limit,
  bytes: hex(bytes),
  ranges: ranges.map((range) => ({ start: hex(range.start), size: hex(range.size), slots: range.slots })),
});
