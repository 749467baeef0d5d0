import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { requestFlags, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import type { ConversationRecord } from '../../src/vhost/conversation-record.ts';
import { replayScript } from '../../src/vhost/replay-script.ts';
import { Replayer, type ReplayReport } from '../../src/vhost/replayer.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';
import { RECORDINGS, recordsOf } from './recordings.ts';

const openFds = (): number => readdirSync('/proc/self/fd').length;
let before: number;
beforeEach(() => {
  before = openFds();
});
afterEach(() => {
  expect(openFds()).toBe(before);
});

const play = (
  records: readonly ConversationRecord[],
  options = { isExact: false, maxMemSlots: 509 },
): ReplayReport => {
  using backend = new InProcessBackend(new PaperFileSystem(), options);
  using replayer = new Replayer(backend.socket, { ...options, timeoutMs: 50, wait: backend.turn });
  return replayer.play(replayScript(records, undefined)!);
};

const sessions = RECORDINGS.filter((name) => !name.startsWith('faults/'));

test.each(sessions)('our back-end answers as the recorded one did: %s', (name) => {
  const report = play(recordsOf(name));
  expect(report.findings.filter(({ isDifference }) => isDifference)).toEqual([]);
  expect(report.sent).toBeGreaterThan(20);
});

test('features a back-end does not offer are left out, and it is told', () => {
  const report = play(recordsOf('migrate-source/messages.jsonl.gz'));
  expect(report.skipped).toBe(2);
  expect(report.findings.map(({ text }) => text)).toContain(
    'without DEVICE_STATE, which this back-end does not offer',
  );
});

test('a slot less than there was is a difference', () => {
  const report = play(recordsOf('boot-io-6g/messages.jsonl.gz'), { isExact: false, maxMemSlots: 5 });
  expect(report.findings.find(({ isDifference }) => isDifference)).toMatchObject({
    n: 48,
    name: 'ADD_MEM_REG',
    text: 'ADD_MEM_REG refused; recorded: ADD_MEM_REG ok',
  });
});

test('what another back-end refused and ours does not is a difference', () => {
  const report = play(recordsOf('faults/memtable-nack/messages.jsonl.gz'));
  expect(report.findings.map(({ text }) => text)).toContain(
    'SET_MEM_TABLE ok; recorded: SET_MEM_TABLE refused',
  );
});

test('a back-end that goes on where the recorded one hung up is a difference', () => {
  const report = play(recordsOf('faults/add2-close/messages.jsonl.gz'));
  expect(report.findings.map(({ text }) => text)).toContain('ADD_MEM_REG ok; recorded: no reply');
});

test('a back-end that does not answer, or hangs up, is a difference and not a failure', () => {
  const script = replayScript(recordsOf('rem-order/messages.jsonl.gz'), undefined)!;
  const [ours, theirs] = socketPair();
  {
    using silent = new MessageSocket(theirs);
    using replayer = new Replayer(ours, { isExact: false, timeoutMs: 10, wait: () => silent.close() });
    const report = replayer.play(script);
    expect(report.differences).toBe(1);
    expect(report.findings.at(-1)).toMatchObject({ n: 1, text: 'the back-end hung up' });
  }
});

test('only the chosen connection is played', () => {
  const records = recordsOf('fs-hotplug/messages.jsonl.gz');
  const second = replayScript(records, 1)!;
  expect(new Set(second.steps.map(({ message }) => message.conn))).toEqual(new Set([1]));
  expect(replayScript(records, 7)).toBeUndefined();
});

test('what makes no sense to the replayer is sent as it is', () => {
  const octets = VhostUserHeader.encode({ request: 77, flags: requestFlags(false), size: 0 });
  const record = { kind: 'message', n: 0, t: 0, conn: 0, chan: 'main', dir: 'fe>be', octets } as const;
  expect(play([{ ...record, fds: [{ kind: 'eventfd', id: 3 }, { kind: 'other' }] }]).sent).toBe(1);
});
