/**
 * The daemon under requests of every size and layout while memory slots come and go: reads, writes and the memory around
 * them are checked octet by octet, and the file on the host in the end.
 *
 * CHURN_REQUESTS in the environment sets how many requests each configuration gets, CHURN_SEED their seed; the default
 * takes a few seconds.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { Pattern } from '../../src/stress/pattern.ts';
import { KiB, MiB } from '../../src/units.ts';
import { Daemon } from '../support/daemon.ts';
import { Churn, type ChurnFigures, FILE_SIZE } from './churn.ts';

const REQUESTS = Number(process.env['CHURN_REQUESTS'] ?? 5000);
const SEED = Number(process.env['CHURN_SEED'] ?? 1);
const O_RDWR = 2;
const BASE_SIZE = 8 * MiB;

const SLOTS = { slots: 96, slotSize: 256 * KiB, leastSlots: 48 };
/** Few enough for a front-end that tells the whole table each time. */
const TABLE = { slots: 7, slotSize: 4 * MiB, leastSlots: 2 };

interface Configuration {
  readonly name: string;
  readonly flags: readonly string[];
  readonly queues: 1 | 2;
  readonly eventIdx: boolean;
  readonly indirectEntries: number;
  readonly table?: true;
  /** The file is dropped from the page cache now and then, so that reads go another way. */
  readonly cold?: true;
}

const CONFIGURATIONS: readonly Configuration[] = [
  { name: 'one queue', flags: [], queues: 1, eventIdx: true, indirectEntries: 32 },
  {
    name: 'one queue with a thread, no polling, neither event_idx nor indirect tables',
    flags: ['--queue-threads=1', '--poll-us=0'],
    queues: 1,
    eventIdx: false,
    indirectEntries: 0,
  },
  { name: 'two queues, a thread each', flags: [], queues: 2, eventIdx: true, indirectEntries: 32 },
  {
    name: 'two queues, a thread each, no polling, no event_idx',
    flags: ['--queue-threads=2', '--poll-us=0'],
    queues: 2,
    eventIdx: false,
    indirectEntries: 64,
  },
  {
    name: 'two queues on one thread, no indirect tables',
    flags: ['--queue-threads=1'],
    queues: 2,
    eventIdx: true,
    indirectEntries: 0,
  },
  {
    name: 'two queues, a thread each, the whole memory table told at each change',
    flags: ['--queue-threads=2'],
    queues: 2,
    eventIdx: true,
    indirectEntries: 32,
    table: true,
  },
  { name: 'one queue, cold data', flags: [], queues: 1, eventIdx: true, indirectEntries: 32, cold: true },
  {
    name: 'two queues, a thread each, cold data',
    flags: ['--queue-threads=2'],
    queues: 2,
    eventIdx: true,
    indirectEntries: 64,
    cold: true,
  },
];

/** Requests between two times that the file is dropped from the page cache. */
const WARM = 500;

/** Runs `count` requests. */
function run(churn: Churn, count: number, dropCache: (() => void) | undefined): ChurnFigures {
  if (dropCache === undefined) return churn.run(count);
  let figures: ChurnFigures | undefined;
  for (let done = 0; done < count; done += WARM) {
    dropCache();
    const part = churn.run(WARM);
    figures = figures === undefined ? part : sum(figures, part);
  }
  return figures!;
}

const sum = (a: ChurnFigures, b: ChurnFigures): ChurnFigures => ({
  requests: a.requests + b.requests,
  reads: a.reads + b.reads,
  writes: a.writes + b.writes,
  megabytes: a.megabytes + b.megabytes,
  slotChanges: a.slotChanges + b.slotChanges,
  seconds: a.seconds + b.seconds,
});

/** Writes back and forgets: dd's nocache flag is POSIX_FADV_DONTNEED. */
function dropCache(path: string): void {
  execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
}

const sha256 = (octets: Uint8Array): string => createHash('sha256').update(octets).digest('hex');

test.each(CONFIGURATIONS)(
  `${REQUESTS} requests while slots come and go: $name`,
  { timeout: Math.max(300_000, REQUESTS) },
  async (configuration) => {
    const { flags, queues, eventIdx, indirectEntries } = configuration;
    await using daemon = await Daemon.start({
      name: 'churn',
      logLevel: 'warn',
      flags: [`--num-request-queues=${queues}`, ...flags],
    });
    const model = Uint8Array.from(new Pattern(FILE_SIZE).of(0, SEED));
    const path = join(daemon.sharedDir, 'file');
    writeFileSync(path, model);

    const { leastSlots, ...layout } = configuration.table ? TABLE : SLOTS;
    using machine = LoopbackMachine.start({
      socket: daemon.socketPath,
      baseSize: BASE_SIZE,
      ...layout,
      requestQueues: queues,
      queueSize: 1024,
      eventIdx,
      indirectEntries,
      ...(configuration.table && { protocolFeatures: [ProtocolFeature.MQ, ProtocolFeature.REPLY_ACK] }),
    });
    const client = new VirtioFsClient(machine);
    expectAnswer(client.init(), 'INIT');
    const { nodeid } = expectAnswer(client.lookup(ROOT, 'file'), 'LOOKUP');
    const { fh } = expectAnswer(client.open(nodeid, O_RDWR), 'OPEN');

    const churn = new Churn(machine, { nodeid, fh }, model, { seed: SEED, leastSlots });
    const figures = run(churn, REQUESTS, configuration.cold && (() => dropCache(path)));
    churn.finish();
    if (process.env['CHURN_REQUESTS'] !== undefined) console.log(configuration.name, figures);

    expect(figures.slotChanges).toBeGreaterThan(REQUESTS / 50);
    expect(sha256(readFileSync(path))).toBe(sha256(model));
    expect(daemon.mappedGuestMemory()).toBe(BASE_SIZE);
    expect(daemon.process.log).toBe('');
    machine.close();
    expect(await daemon.close()).toEqual({ code: 0, signal: null });
  },
);
