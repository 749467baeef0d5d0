/** What one queue, its guest or the operator does while another queue is at work: hostile chains, a guest that is gone, SIGTERM. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { FuseOpcode, InHeader } from '../../protocol/fuse.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { Pattern } from '../../src/stress/pattern.ts';
import { Random } from '../../src/stress/random.ts';
import { KiB, MiB } from '../../src/units.ts';
import { Daemon } from '../support/daemon.ts';
import { Churn, FILE_SIZE } from './churn.ts';

const O_RDWR = 2;
const SLOT = 256 * KiB;
const SLOTS = 48;
const QUEUE_SIZE = 256;
const ROUNDS = 60;
/** Chains the hostile queue gets in a round. */
const CHAINS = 64;

const startDaemon = (): Promise<Daemon> =>
  Daemon.start({ name: 'churn-faults', logLevel: 'error', flags: ['--num-request-queues=2'] });

/** A mount with a file, and requests on it. */
function visit(daemon: Daemon, firstQueue: number) {
  const path = join(daemon.sharedDir, 'file');
  const model = Uint8Array.from(new Pattern(FILE_SIZE).of(0, 3));
  writeFileSync(path, model);
  const machine = LoopbackMachine.start({
    socket: daemon.socketPath,
    baseSize: 8 * MiB,
    slotSize: SLOT,
    slots: SLOTS,
    requestQueues: 2,
    queueSize: QUEUE_SIZE,
    indirectEntries: 128,
  });
  const client = new VirtioFsClient(machine, firstQueue);
  expectAnswer(client.init(), 'INIT');
  const { nodeid } = expectAnswer(client.lookup(ROOT, 'file'), 'LOOKUP');
  const { fh } = expectAnswer(client.open(nodeid, O_RDWR), 'OPEN');
  const churn = new Churn(machine, { nodeid, fh }, model, { seed: 5, leastSlots: SLOTS / 2, firstQueue });
  return { machine, churn, path };
}

test('a queue of hostile chains, stopped and started over and over, harms nobody on the other one', async () => {
  await using daemon = await startDaemon();
  const { machine, churn, path } = visit(daemon, 2);
  using _ = machine;
  const random = new Random(7);
  const hostile = machine.queues[1]!;
  const requests = machine.ram.allocate(64 * KiB, 4096);
  for (let round = 0; round < ROUNDS; round += 1) {
    writeRequests(random, requests.bytes);
    for (let i = 0; i < QUEUE_SIZE; i += 1) writeDescriptor(random, machine, i, requests.gpa);
    for (let i = 0; i < CHAINS; i += 1) hostile.driver.addRaw(random.below(QUEUE_SIZE));
    const isStopped = round % 3 === 0;
    if (isStopped) hostile.driver.addRaw(QUEUE_SIZE + random.below(1000));
    hostile.submit();
    churn.run(50);
    await expect
      .poll(() => (isStopped ? hostile.hasFailed() : hostile.usedIndex === CHAINS), {
        timeout: 10_000,
        interval: 1,
      })
      .toBe(true);
    machine.restartQueue(1);
  }
  churn.finish();
  expect(Buffer.compare(readFileSync(path), churn.model)).toBe(0);
  machine.close();
  expect(await daemon.close()).toEqual({ code: 0, signal: null });
});

test('a front-end that is gone in the middle of its requests leaves nothing behind', async () => {
  await using daemon = await startDaemon();
  let idle: string[] = [];
  for (let round = 0; round < 4; round += 1) {
    const { machine, churn } = visit(daemon, 1);
    churn.run(500);
    churn.begin();
    machine.close();
    await expect.poll(() => daemon.mappedGuestMemory(), { timeout: 10_000 }).toBe(0);
    // The first visit has started the queue threads.
    if (round < 2) await expect.poll(async () => isSettled(daemon), { timeout: 10_000 }).toBe(true);
    if (round < 2) idle = daemon.openFds();
    else await expect.poll(() => daemon.openFds(), { timeout: 10_000 }).toEqual(idle);
  }
  expect(await daemon.close()).toEqual({ code: 0, signal: null });
});

test('SIGTERM in the middle of requests ends the daemon with status 0', async () => {
  await using daemon = await startDaemon();
  const { machine, churn } = visit(daemon, 1);
  using _ = machine;
  churn.run(500);
  churn.begin();
  expect(await daemon.process.stop()).toEqual({ code: 0, signal: null });
  expect([existsSync(daemon.socketPath), existsSync(`${daemon.socketPath}.pid`)]).toEqual([false, false]);
});

/** Whether no descriptor comes or goes for a while. */
async function isSettled(daemon: Daemon): Promise<boolean> {
  const before = daemon.openFds();
  await sleep(300);
  return daemon.openFds().join() === before.join();
}

const HARMLESS = Object.values(FuseOpcode).filter(
  (opcode) => opcode !== FuseOpcode.INIT && opcode !== FuseOpcode.DESTROY,
);

/** Headers that look like requests, for nodes that nobody has; the rest is noise. */
function writeRequests(random: Random, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = random.below(256);
  for (let at = 0; at + 1024 <= bytes.length; at += 1024)
    bytes.set(
      InHeader.encode({
        len: random.pick([0, 39, 40, 48, 80, 200, 1000, 0xffff_ffff]),
        opcode: random.pick([...HARMLESS, 0, 63, 4096]),
        unique: BigInt(2 * random.below(1 << 30)),
        nodeid: BigInt(1_000_000 + random.below(1 << 30)),
        uid: random.below(2000),
        gid: random.below(2000),
        pid: 1,
        totalExtlen: random.pick([0, 0, 1, 65_535]),
      }),
      at,
    );
}

/** Anything a descriptor can say but that our rings, or slots in use, are to be written to. */
function writeDescriptor(random: Random, machine: LoopbackMachine, index: number, requests: number): void {
  const flags = random.below(8);
  const beyond = machine.ram.slotGpa(SLOTS);
  const gpa = random.pick([
    requests + 1024 * random.below(64),
    requests + random.below(60 * KiB),
    beyond,
    3 * 1024 * MiB,
    2 ** 52,
    2 ** 53,
    2 ** 63,
    2 ** 64 - 4096,
  ]);
  const length = random.pick([0, 1, 16, 39, 40, 80, 1024]);
  machine.queues[1]!.driver.writeDescriptor(
    index,
    gpa,
    gpa >= beyond ? random.pick([length, 2 ** 31, 2 ** 32 - 1]) : length,
    flags,
    random.below(QUEUE_SIZE + 16),
  );
}
