/** What a front-end did in a recording, and what it was answered. Pure. */
import { VhostUserHeader } from '../../protocol/vhost-user.ts';
import { Conversation } from './conversation.ts';
import { requestName } from './conversation-names.ts';
import type { ConversationRecord, MessageRecord } from './conversation-record.ts';

/** A message of the front-end, and the reply that was recorded. */
interface ReplayStep {
  readonly message: MessageRecord;
  readonly reply: MessageRecord | undefined;
}

export interface ReplayScript {
  readonly steps: readonly ReplayStep[];
  /** The back-end hung up before the front-end did. */
  readonly endsByBackend: boolean;
}

/** Something to tell about a message of the recording. */
export interface ReplayFinding {
  readonly n: number;
  readonly name: string;
  /** Otherwise only something to know. */
  readonly isDifference: boolean;
  readonly text: string;
}

/**
 * @param conn the connection; undefined for the first that has messages
 * @returns undefined if it has no message of a front-end
 */
export function replayScript(
  records: readonly ConversationRecord[],
  conn: number | undefined,
): ReplayScript | undefined {
  const first = records.find((record) => record.kind === 'message' && (conn ?? record.conn) === record.conn);
  if (first === undefined) return undefined;
  const replies = new Map<number, MessageRecord>();
  const messages: MessageRecord[] = [];
  let endedBy: string | undefined;
  const conversation = new Conversation();
  for (const record of records) {
    if (record.conn !== first.conn || record.label !== first.label) continue;
    const { reading } = conversation.observe(record);
    if (record.kind === 'event') {
      const isEnd = record.event === 'eof' || record.event === 'close' || record.event === 'error';
      if (isEnd && record.chan !== 'backend')
        endedBy ??= record.event === 'close' ? 'be>fe' : (record.dir ?? 'fe>be');
      if (record.event === 'connect' && messages.length > 0) break; // the same number again: another connection
    } else if (record.chan === 'main' && record.dir === 'fe>be') messages.push(record);
    else if (record.chan === 'main' && reading?.answers !== undefined) replies.set(reading.answers.n, record);
  }
  if (messages.length === 0) return undefined;
  return {
    steps: messages.map((message) => ({ message, reply: replies.get(message.n) })),
    endsByBackend: endedBy === 'be>fe',
  };
}

/** The kind of a reply: what it answers, its flags, whether it acknowledges or refuses, how long it is. */
export function replyKind(octets: Uint8Array, isAck: boolean): string {
  const { request, flags, size } = VhostUserHeader.decode(octets);
  const name = requestName('main', request);
  const word =
    isAck && size === 8 ? (octets.subarray(12, 20).every((octet) => octet === 0) ? 'ok' : 'refused') : '';
  return `${name}${word === '' ? `, ${size} octets` : ` ${word}`}${flags === 5 ? '' : `, flags 0x${flags.toString(16)}`}`;
}
