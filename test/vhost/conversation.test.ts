import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FrontendRequest, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { SingleRegion, U64, VringState } from '../../protocol/vhost-user-payloads.ts';
import { Conversation } from '../../src/vhost/conversation.ts';
import { observationJson } from '../../src/vhost/conversation-json.ts';
import {
  type ConversationRecord,
  formatRecord,
  type MessageRecord,
  parseRecord,
} from '../../src/vhost/conversation-record.ts';
import { SummaryBuilder, summaryText } from '../../src/vhost/conversation-summary.ts';
import { observationText } from '../../src/vhost/conversation-text.ts';
import { linesOf, RECORDINGS, recordsOf } from './recordings.ts';

/** Every kind of anomaly of a recording with the message it is about. */
const anomaliesOf = (records: readonly ConversationRecord[]): readonly string[] => {
  const conversation = new Conversation();
  const found = records.flatMap((record) => conversation.observe(record).anomalies);
  return [...found, ...conversation.end()].map(({ kind, n }) => `#${n} ${kind}`);
};

const textOf = (records: readonly ConversationRecord[]): readonly string[] => {
  const conversation = new Conversation();
  return records.flatMap((record) => observationText(conversation.observe(record), records[0]!.t));
};

let order = 0;
const message = (
  request: number,
  payload: Uint8Array,
  { dir = 'fe>be', flags = 1, fds = 0 }: { dir?: 'fe>be' | 'be>fe'; flags?: number; fds?: number } = {},
): MessageRecord => {
  order += 1;
  const octets = Buffer.concat([VhostUserHeader.encode({ request, flags, size: payload.length }), payload]);
  const kinds = Array.from({ length: fds }, () => ({ kind: 'memfd', size: '0x1000' }));
  return { kind: 'message', n: order, t: order, conn: 0, chan: 'main', dir, octets, fds: kinds };
};
const connect = { kind: 'event', n: 0, t: 0, conn: 0, event: 'connect' } as const;
const empty = new Uint8Array(0);
const { GET_FEATURES, SET_PROTOCOL_FEATURES, ADD_MEM_REG, REM_MEM_REG, SET_VRING_ENABLE } = FrontendRequest;
const region = (guestPhysAddr: bigint): Uint8Array =>
  SingleRegion.encode({
    padding: 0n,
    region: { guestPhysAddr, memorySize: 0x1000n, userspaceAddr: guestPhysAddr, mmapOffset: 0n },
  });
/** REPLY_ACK and CONFIGURE_MEM_SLOTS. */
const negotiated = [connect, message(SET_PROTOCOL_FEATURES, U64.encode(0x8008n))];
const answer = (request: number, value: bigint): MessageRecord =>
  message(request, U64.encode(value), { dir: 'be>fe', flags: 5 });

describe('a record', () => {
  test.each(RECORDINGS)('is read and written as it was: %s', (name) => {
    for (const line of linesOf(name)) {
      const expected = JSON.parse(line) as Record<string, unknown>;
      // Marks of the scripted back-end, and events of it, are not ours; connections are counted from 0.
      if (!('hex' in expected)) continue;
      delete expected['rule'];
      delete expected['rewritten'];
      delete expected['orig_hex'];
      expect(JSON.parse(formatRecord(parseRecord(line)!))).toEqual({ conn: 0, ...expected });
    }
  });

  test.each(['', 'no JSON', '3', 'null', '{}', '{"n":1}', '{"n":"1","t":2}'])('is not: %s', (line) => {
    expect(parseRecord(line)).toBeUndefined();
  });

  test('of octets that are no message comes back as it was', () => {
    const record: ConversationRecord = {
      kind: 'event',
      n: 3,
      t: 1.5,
      label: 'A',
      conn: 2,
      chan: 'backend',
      dir: 'be>fe',
      event: 'raw',
      reason: 'why',
      octets: Uint8Array.of(1, 255),
      fds: [{ kind: 'socket', ino: 5 }],
    };
    expect(parseRecord(formatRecord(record))).toEqual(record);
  });
});

describe('anomalies', () => {
  const EXPECTED: Readonly<Record<string, readonly string[]>> = {
    'faults/add2-close/messages.jsonl.gz': ['#40 missing-reply'],
    'faults/add2-size-huge/messages.jsonl.gz': [
      '#45 memory',
      '#47 memory',
      '#49 memory',
      '#51 memory',
      '#50 missing-reply',
    ],
    'faults/breq-unknown/messages.jsonl.gz': ['#11 out-of-spec', '#11 missing-reply'],
    'faults/features-short/messages.jsonl.gz': ['#1 missing-reply'],
    'faults/features-size4/messages.jsonl.gz': ['#2 out-of-spec'],
    'faults/features-wrong-req/messages.jsonl.gz': ['#2 unexpected-reply', '#1 missing-reply'],
    'faults/memtable-nack/messages.jsonl.gz': ['#23 nack'],
    'faults/rem1-nack/messages.jsonl.gz': ['#47 nack'],
  };
  test.each(RECORDINGS)('are found where there are some, and nowhere else: %s', (name) => {
    expect(anomaliesOf(recordsOf(name))).toEqual(EXPECTED[name] ?? []);
  });

  test('a refused region does not enter the table', () => {
    const conversation = new Conversation();
    const records = [
      ...negotiated,
      message(ADD_MEM_REG, region(0n), { flags: 9, fds: 1 }),
      answer(ADD_MEM_REG, 0n),
      message(ADD_MEM_REG, region(0x1000n), { flags: 9, fds: 1 }),
      answer(ADD_MEM_REG, 1n),
    ];
    for (const record of records) conversation.observe(record);
    expect(conversation.sessions.get('')!.memory.snapshot().slots).toBe(1);
  });

  test.each([
    ['a request without what it needs', [connect, message(ADD_MEM_REG, region(0n), { fds: 1 })]],
    ['a descriptor too few', [...negotiated, message(ADD_MEM_REG, region(0n))]],
    ['a payload too short', [...negotiated, message(SET_VRING_ENABLE, new Uint8Array(4))]],
    ['flags that do not exist', [connect, message(GET_FEATURES, empty, { flags: 0x11 })]],
  ])('%s is out of the specification', (_, records) => {
    expect(anomaliesOf(records).some((text) => text.endsWith('out-of-spec'))).toBe(true);
  });

  test('removing what is not there is told', () => {
    expect(anomaliesOf([...negotiated, message(REM_MEM_REG, region(0n))])[0]).toMatch(/memory$/);
  });

  test('a region over the baseline limit is told', () => {
    const nine = Array.from({ length: 9 }, (_, i) =>
      message(ADD_MEM_REG, region(BigInt(i) << 20n), { fds: 1 }),
    );
    const withoutSlots = [connect, message(SET_PROTOCOL_FEATURES, U64.encode(8n))];
    expect(anomaliesOf([...withoutSlots, ...nine]).filter((text) => text.endsWith('memory'))).toHaveLength(1);
  });
});

describe('text', () => {
  const lines = textOf(recordsOf('boot-io-6g/messages.jsonl.gz'));

  test('shows a reply with its request and how long it took', () => {
    expect(lines).toContain('   0.014551 #9      < GET_MAX_MEM_SLOTS 0x1fd (#8, 36 us)');
  });

  test('shows fields and descriptors of a request, and the memory after it', () => {
    const at = lines.findIndex((line) => line.includes('ADD_MEM_REG ok (#28'));
    expect(lines[at - 1]).toContain(
      'guest_phys_addr 0x200000000 memory_size 256 MiB userspace_addr 0x7fcbd3ffe000 mmap_offset 0x0 [memfd memory-backend-memfd 256 MiB ino 1329]',
    );
    expect(lines[at + 1]!.trim()).toBe(
      'memory 3/509 slots, 6400 MiB: 0x0+2 GiB, 0x100000000+4352 MiB (2 slots)',
    );
  });

  test('shows what rings do', () => {
    const rings = lines.map((line) => line.trim()).filter((line) => line.startsWith('ring 1'));
    expect(rings).toEqual([
      'ring 1 started, not enabled, num 1024, base 0',
      'ring 1 running, num 1024, base 0',
      'ring 1 started, not enabled, num 1024, base 0',
      'ring 1 stopped, num 1024, base 53',
    ]);
  });

  test('says whose a message is when there are several', () => {
    expect(textOf(recordsOf('two-fs/messages-b.jsonl.gz'))[1]).toContain('{B}  > GET_FEATURES');
  });
});

test('a summary counts messages, slots and what was wrong', () => {
  const conversation = new Conversation();
  const builder = new SummaryBuilder();
  for (const record of recordsOf('faults/rem1-nack/messages.jsonl.gz'))
    builder.add(conversation.observe(record), conversation);
  const summary = builder.finish(conversation);
  expect(summary.connections).toMatchObject([{ slotHighWater: 4, slotLimit: 509 }]);
  expect(summary.messages.find(({ name }) => name === 'REM_MEM_REG')).toMatchObject({ refused: 1 });
  expect(summaryText(summary)).toContain('#47 nack: REM_MEM_REG of #46 refused: 0x1');
});

test('a ring without protocol features runs as soon as it is started', () => {
  const conversation = new Conversation();
  conversation.observe(message(FrontendRequest.SET_FEATURES, U64.encode(1n << 32n)));
  const { reading } = conversation.observe(
    message(FrontendRequest.SET_VRING_KICK, U64.encode(1n), { fds: 1 }),
  );
  expect(reading!.rings).toEqual(['ring 1 running, no addresses']);
  const stop = message(FrontendRequest.GET_VRING_BASE, VringState.encode({ index: 1, num: 0 }));
  conversation.observe(stop);
  const base = VringState.encode({ index: 1, num: 9 });
  const stopped = conversation.observe(message(stop.octets[0]!, base, { dir: 'be>fe', flags: 5 }));
  expect(stopped.reading!.rings).toEqual(['ring 1 stopped, base 9, no addresses']);
});

test('any messages in any order are told, never refused', () => {
  const some = fc.record({
    request: fc.oneof({ weight: 9, arbitrary: fc.nat(46) }, fc.nat(0xffff_ffff)),
    flags: fc.oneof(fc.constantFrom(1, 5, 9), fc.nat(0xffff_ffff)),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc.uint8Array({ minLength: 8, maxLength: 8 }),
      fc.uint8Array({ minLength: 40, maxLength: 40 }),
    ),
    size: fc.option(fc.nat(0xffff_ffff), { nil: undefined }),
    chan: fc.constantFrom('main' as const, 'backend' as const),
    dir: fc.constantFrom('fe>be' as const, 'be>fe' as const),
    fds: fc.array(fc.record({ kind: fc.constantFrom('memfd', 'eventfd', 'socket') }), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(fc.array(some, { maxLength: 12 }), (messages) => {
      const conversation = new Conversation();
      const builder = new SummaryBuilder();
      messages.forEach(({ request, flags, payload, size, ...rest }, n) => {
        const header = VhostUserHeader.encode({ request, flags, size: size ?? payload.length });
        const octets = Uint8Array.from(Buffer.concat([header, payload]));
        const record: ConversationRecord = { kind: 'message', n, t: n, conn: 0, octets, ...rest };
        const observation = conversation.observe(record);
        expect(observationText(observation, 0).length).toBeGreaterThan(0);
        expect(JSON.stringify(observationJson(observation))).toContain(`"n":${n}`);
        expect(parseRecord(formatRecord(record))).toEqual(record);
        builder.add(observation, conversation);
      });
      expect(summaryText(builder.finish(conversation))).toContain('anomalies');
    }),
  );
});
