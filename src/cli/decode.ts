/** `vhost-user decode`: recorded conversations as text, JSON or a summary. */
import { readFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { ConfigError } from '../errors.ts';
import { Conversation, type Observation } from '../vhost/conversation.ts';
import { observationJson } from '../vhost/conversation-json.ts';
import { type ConversationRecord, parseRecord } from '../vhost/conversation-record.ts';
import { SummaryBuilder, summaryText } from '../vhost/conversation-summary.ts';
import { observationText } from '../vhost/conversation-text.ts';
import { type TextOutput, standardOutput } from './text-output.ts';

export interface DecodeOptions {
  /** Recordings, one JSON object a line, perhaps compressed by gzip; each is a conversation of its own. */
  readonly files: readonly string[];
  /** One JSON object for each message, or for the summary, instead of text. */
  readonly json?: boolean;
  /** Counts, latencies, memory slots and anomalies instead of the messages. */
  readonly summary?: boolean;
  /** Standard output unless told otherwise. */
  readonly output?: TextOutput;
}

/** Lines of a file that are no record are skipped and counted. */
export interface Recording {
  readonly records: readonly ConversationRecord[];
  readonly unreadableLines: readonly number[];
}

/** @returns the exit status. @throws {ConfigError} if a file cannot be read, or has no record */
export async function runDecode(options: DecodeOptions): Promise<number> {
  const output = options.output ?? standardOutput();
  for (const file of options.files) {
    const recording = await readRecording(file);
    if (options.files.length > 1 && !options.json) output.write(`== ${file}\n`);
    if (options.summary) output.write(summaryOf(file, recording, options.json ?? false));
    else for (const text of messagesOf(recording, options.json ?? false)) output.write(text);
  }
  return 0;
}

/** @throws {ConfigError} */
export async function readRecording(file: string): Promise<Recording> {
  let octets: Buffer;
  try {
    octets = await readFile(file);
    if (octets[0] === 0x1f && octets[1] === 0x8b) octets = gunzipSync(octets);
  } catch (cause) {
    throw new ConfigError('SYSTEM', `${file} cannot be read: ${String(cause)}`, { cause });
  }
  const records: ConversationRecord[] = [];
  const unreadableLines: number[] = [];
  for (const [index, line] of octets.toString('utf8').split('\n').entries()) {
    if (line.trim() === '') continue;
    const record = parseRecord(line);
    if (record === undefined) unreadableLines.push(index + 1);
    else records.push(record);
  }
  if (records.length === 0) throw new ConfigError('BAD_OPTION', `${file} has no record of a conversation`);
  return { records, unreadableLines };
}

function* messagesOf({ records, unreadableLines }: Recording, asJson: boolean): Generator<string> {
  const conversation = new Conversation();
  const startedAt = records[0]!.t;
  const show = (observation: Observation): string =>
    asJson
      ? JSON.stringify(observationJson(observation))
      : observationText(observation, startedAt).join('\n');
  for (const record of records) yield `${show(conversation.observe(record))}\n`;
  const missing = conversation.end();
  if (asJson) {
    if (missing.length > 0) yield `${JSON.stringify({ anomalies: missing })}\n`;
    return;
  }
  for (const { text } of missing) yield `! missing-reply: ${text}\n`;
  for (const line of unreadableLines) yield `! line ${line} is no record\n`;
}

function summaryOf(file: string, { records, unreadableLines }: Recording, asJson: boolean): string {
  const conversation = new Conversation();
  const builder = new SummaryBuilder();
  for (const record of records) builder.add(conversation.observe(record), conversation);
  const summary = builder.finish(conversation);
  if (asJson) return `${JSON.stringify({ file, ...summary, unreadableLines })}\n`;
  const unreadable =
    unreadableLines.length === 0 ? '' : `lines that are no record: ${unreadableLines.join(', ')}\n`;
  return summaryText(summary) + unreadable;
}
