/** What a whole conversation comes to: messages, latencies, memory slots, rings, and what was wrong. */
import { VhostUserHeader } from '../../protocol/vhost-user.ts';
import type { Conversation, Observation } from './conversation.ts';
import { requestName } from './conversation-names.ts';
import type { Anomaly } from './conversation-session.ts';
import { latencyText } from './conversation-text.ts';

interface MessageCount {
  readonly name: string;
  readonly requests: number;
  readonly replies: number;
  readonly refused: number;
  /** Seconds from request to reply. */
  readonly medianLatency: number | null;
  readonly maxLatency: number | null;
}

interface ConnectionSummary {
  readonly connection: string;
  /** Most memory slots at any time, and at the end. */
  readonly slotHighWater: number;
  readonly slots: number;
  readonly slotLimit: number | null;
  readonly rings: readonly string[];
}

export interface ConversationSummary {
  readonly messages: readonly MessageCount[];
  readonly connections: readonly ConnectionSummary[];
  readonly anomalies: readonly Anomaly[];
}

interface Tally {
  requests: number;
  replies: number;
  refused: number;
  readonly latencies: number[];
}

export class SummaryBuilder {
  readonly #tallies = new Map<string, Tally>();
  readonly #anomalies: Anomaly[] = [];
  /** Of connections whose session was replaced by a later one of the same number. */
  readonly #highWater = new Map<string, number>();

  /** @param conversation which has just observed it */
  add({ record, connection, reading, anomalies }: Observation, conversation: Conversation): void {
    this.#anomalies.push(...anomalies);
    const session = conversation.sessions.get(connection);
    if (session !== undefined) {
      const most = Math.max(this.#highWater.get(connection) ?? 0, session.memory.highWater);
      this.#highWater.set(connection, most);
    }
    if (record.kind === 'event' || reading === undefined) return;
    const tally = this.#tally(requestName(record.chan, VhostUserHeader.decode(record.octets).request));
    if (reading.isReply) tally.replies += 1;
    else tally.requests += 1;
    if (reading.ack === 'nack') tally.refused += 1;
    if (reading.answers !== undefined) tally.latencies.push(reading.answers.seconds);
  }

  /** Ends the conversation, too. */
  finish(conversation: Conversation): ConversationSummary {
    this.#anomalies.push(...conversation.end());
    return {
      messages: [...this.#tallies].map(([name, { latencies, ...counts }]) => {
        const sorted = latencies.sort((a, b) => a - b);
        const medianLatency = sorted[sorted.length >> 1] ?? null;
        return { name, ...counts, medianLatency, maxLatency: sorted.at(-1) ?? null };
      }),
      connections: [...conversation.sessions].map(([connection, { memory, rings }]) => ({
        connection,
        slotHighWater: this.#highWater.get(connection) ?? memory.highWater,
        slots: memory.snapshot().slots,
        slotLimit: memory.limit ?? null,
        rings: rings.show(),
      })),
      anomalies: this.#anomalies,
    };
  }

  #tally(name: string): Tally {
    const known = this.#tallies.get(name);
    if (known !== undefined) return known;
    const tally = { requests: 0, replies: 0, refused: 0, latencies: [] };
    this.#tallies.set(name, tally);
    return tally;
  }
}

export function summaryText({ messages, connections, anomalies }: ConversationSummary): string {
  const rows = messages.map(({ name, requests, replies, refused, medianLatency, maxLatency }) => [
    name,
    `${requests}`,
    `${replies}`,
    refused === 0 ? '' : `${refused}`,
    medianLatency === null ? '' : latencyText(medianLatency),
    maxLatency === null ? '' : latencyText(maxLatency),
  ]);
  const lines = connections.flatMap(({ connection, slotHighWater, slots, slotLimit, rings }) => [
    `connection ${connection === '' ? '0' : connection}: memory slots at most ${slotHighWater}, at the end ${slots}, limit ${slotLimit ?? 'not told'}`,
    ...rings.map((ring) => `  ${ring}`),
  ]);
  const wrong = anomalies.map(({ kind, n, text }) => `  #${n} ${kind}: ${text}`);
  return [
    ...table([['message', 'requests', 'replies', 'refused', 'median', 'longest'], ...rows]),
    '',
    ...lines,
    '',
    anomalies.length === 0 ? 'no anomalies' : `anomalies: ${anomalies.length}`,
    ...wrong,
    '',
  ].join('\n');
}

function table(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
}
