/**
 * Follows a recorded conversation, or one that goes on: each record in, what there is to say about it out. No I/O.
 *
 * Connections are told apart by label and number; each has a session of its own.
 */
import type { Channel, ConversationRecord, EventRecord, MessageRecord } from './conversation-record.ts';
import { type Anomaly, ConversationSession, type Reading } from './conversation-session.ts';
import { FrontendRequest, VhostUserHeader } from '../../protocol/vhost-user.ts';

/** What there is to say about a record. */
export interface Observation {
  readonly record: ConversationRecord;
  /** Empty for the first connection of a recording without labels. */
  readonly connection: string;
  /** Of a message. */
  readonly reading?: Reading;
  readonly anomalies: readonly Anomaly[];
}

export class Conversation {
  readonly #sessions = new Map<string, ConversationSession>();

  observe(record: ConversationRecord): Observation {
    const connection = connectionOf(record);
    if (record.kind === 'event') return { record, connection, anomalies: this.#event(record, connection) };
    const reading = this.#session(record, connection).read(record);
    return { record, connection, reading, anomalies: reading.anomalies };
  }

  /** Nothing comes any more. @returns the replies that did not come */
  end(): readonly Anomaly[] {
    return [...this.#sessions.values()].flatMap((session) => [
      ...session.end('main'),
      ...session.end('backend'),
    ]);
  }

  /** What is known of each connection now; of one that was made anew, of the last. */
  get sessions(): ReadonlyMap<string, ConversationSession> {
    return this.#sessions;
  }

  #event(record: EventRecord, connection: string): readonly Anomaly[] {
    const session = this.#sessions.get(connection);
    if (record.event === 'connect') {
      const anomalies = session === undefined ? [] : [...session.end('main'), ...session.end('backend')];
      this.#sessions.set(connection, new ConversationSession(true));
      return anomalies;
    }
    const chan: Channel = record.chan ?? 'main';
    const isSevered = record.event === 'close' || record.event === 'error';
    const isReplierGone = (record.dir === 'be>fe') === (chan === 'main') && record.dir !== undefined;
    if (record.octets !== undefined || record.event === 'raw') {
      const text = record.reason ?? 'octets that are no message';
      return [{ kind: 'framing', n: record.n, text }];
    }
    return isSevered || (record.event === 'eof' && isReplierGone) ? (session?.end(chan) ?? []) : [];
  }

  #session(record: MessageRecord, connection: string): ConversationSession {
    const known = this.#sessions.get(connection);
    if (known !== undefined) return known;
    const { request } = VhostUserHeader.decode(record.octets);
    const session = new ConversationSession(request === FrontendRequest.GET_FEATURES);
    this.#sessions.set(connection, session);
    return session;
  }
}

function connectionOf({ label, conn }: ConversationRecord): string {
  if (label !== undefined) return conn === 0 ? label : `${label}/${conn}`;
  return conn === 0 ? '' : `${conn}`;
}
