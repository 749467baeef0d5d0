/** The recorded conversations of fixtures/vhost-user/recordings. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { type ConversationRecord, parseRecord } from '../../src/vhost/conversation-record.ts';

const folder = fileURLToPath(new URL('../../fixtures/vhost-user/recordings', import.meta.url));

export const recordingPath = (name: string): string => join(folder, name);

/** Paths below the folder. */
export const RECORDINGS: readonly string[] = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.jsonl.gz'))
  .sort();

export const linesOf = (name: string): readonly string[] =>
  gunzipSync(readFileSync(recordingPath(name)))
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '');

export const recordsOf = (name: string): readonly ConversationRecord[] =>
  linesOf(name).map((line) => {
    const record = parseRecord(line);
    if (record === undefined) throw new Error(`${name}: no record: ${line}`);
    return record;
  });
