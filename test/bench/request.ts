/**
 * `npm run bench:request [-- SECONDS [REGEX]]`: what a request costs the device thread. Driver and device take turns in one
 * thread, so no other processor, no waiting and little of what else the machine does is in the figures; and
 * `node --cpu-prof` shows both.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PassthroughFs } from '../../src/passthrough/passthrough-fs.ts';
import { InProcessBackend, startMachine } from '../support/loopback.ts';
import { prepare, type Stream } from './generator.ts';
import { fillShare, MEMORY } from './peer.ts';
import { BenchMount, LINUX_LAYOUT, machineOptions } from './rig.ts';
import { type Row, THROUGHPUT } from './suite.ts';

const BATCHES = 16;
const ROUNDS = 15;

const seconds = Number(process.argv[2] ?? 1);
const only = new RegExp(process.argv[3] ?? '');
const directory = mkdtempSync(join(MEMORY, 'vhost-user-'));

try {
  fillShare(directory);
  using fileSystem = new PassthroughFs({
    sharedDir: directory,
    cache: 'auto',
    writeback: false,
    allowDirectIo: false,
    readdirplus: true,
    xattr: false,
    posixAcl: false,
    killprivV2: true,
    announceSubmounts: true,
    inodeFileHandles: 'prefer',
    locks: 'host',
  });
  using backend = new InProcessBackend(fileSystem);
  using mount = new BenchMount(
    startMachine(backend, machineOptions(LINUX_LAYOUT)),
    LINUX_LAYOUT,
    backend.turn,
  );
  for (const row of THROUGHPUT.filter(({ name }) => only.test(name))) {
    const { nanos, bytes } = measure(mount, backend, row);
    console.log(
      `${row.name.padEnd(30)}${nanos.toFixed(0).padStart(8)} ns${bytes.toFixed(1).padStart(8)} bytes of heap`,
    );
  }
} finally {
  rmSync(directory, { recursive: true });
}

/** The fastest of several rounds, and what a request allocates. */
function measure(
  mount: BenchMount,
  backend: InProcessBackend,
  row: Row,
): { readonly nanos: number; readonly bytes: number } {
  const rig = mount.rigs[0]!;
  const stream = { queue: rig.queue, memory: rig.memory, workload: row.make(mount, rig) };
  prepare(stream);
  for (let lane = 0; lane < stream.workload.depth; lane += 1) rig.queue.offer(stream.workload.next(lane));
  const round = (ms: number): number => {
    const began = performance.now();
    let operations = 0;
    let now = began;
    for (; now - began < ms; now = performance.now())
      for (let i = 0; i < BATCHES; i += 1) operations += turn(stream, backend);
    return (1e6 * (now - began)) / operations;
  };
  round(500);
  const nanos = Array.from({ length: ROUNDS }, () => round((1000 * seconds) / ROUNDS));
  const before = process.memoryUsage().heapUsed;
  let operations = 0;
  for (let i = 0; i < 100; i += 1) operations += turn(stream, backend);
  const bytes = (process.memoryUsage().heapUsed - before) / operations;
  rig.queue.publish();
  backend.turn();
  while (rig.queue.arrived() > 0) rig.queue.take();
  return { nanos: Math.min(...nanos), bytes };
}

function turn({ queue, memory, workload }: Stream, backend: InProcessBackend): number {
  queue.publish();
  backend.turn();
  let operations = 0;
  for (let count = queue.arrived(); count > 0; count -= 1) {
    const lane = queue.laneOf[queue.take()]!;
    if (memory.errorOf(lane) !== 0) throw new Error(`${workload.name}: errno ${-memory.errorOf(lane)}`);
    operations += workload.done(lane);
    queue.offer(workload.next(lane));
  }
  return operations;
}
