/**
 * `npm run bench:slots`: what one memslot costs, end to end: model, message, socket, back-end, mmap, acknowledgement.
 *
 * Measured with 1 and with 500 memslots mapped, against our back-end and, where it is installed, the Rust virtiofsd (`VIRTIOFSD` names it);
 * all in turns, since the machine may be busy: only the ratios count. Our own share, of the model and the front-end, is everything but the
 * system calls: those that send and receive, which include waking the back-end, and the wait for the answer.
 * Status 1 if 500 memslots make a change more than 1.3 times as expensive, or our own share is more than 20 us.
 *
 * --rounds N   how often each is measured, default 9
 * --changes N  how many changes each time, default 400
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import { waitReadable } from '../../src/host/poll.ts';
import { MessageSocket } from '../../src/host/unix-socket.ts';
import { Machine } from '../../src/machine/machine.ts';
import type { MemslotArray } from '../../src/machine/memslot-array.ts';
import { MiB } from '../../src/units.ts';
import { commandOf, MEMORY, type PeerName, processorMicros } from './peer.ts';

const FEW = 1;
const MANY = 500;
const RATIO_BAR = 1.3;
const OWN_BAR_US = 20;
const SLOT = 2 * MiB;
/** So many times the changes of a round before the first: until then much of it is not compiled. */
const WARM_UP = 10;
const RAM = 16 * MiB;

/** Microseconds per change: one memslot mapped or unmapped. */
interface Cost {
  readonly total: number;
  /** Without system calls. */
  readonly own: number;
  /** In sendmsg and recvmsg. */
  readonly socket: number;
  /** Processor time of this thread, all of it. */
  readonly thread: number;
  readonly map: number;
  readonly unmap: number;
  /** Processor time of the back-end. */
  readonly backend: number;
}

/** Milliseconds spent in the socket so far. */
let inSocket = 0;

/** Has calls of a method of every socket timed. */
function time(method: 'send' | 'receive'): void {
  const { prototype } = MessageSocket;
  const original: unknown = Reflect.get(prototype, method);
  Reflect.set(prototype, method, function timed(this: MessageSocket, ...args: readonly unknown[]): unknown {
    const began = performance.now();
    const result: unknown = Reflect.apply(original as () => unknown, this, args);
    inSocket += performance.now() - began;
    return result;
  });
}

/** A machine with memslots, in front of a back-end or of none. */
class Rig {
  readonly name: string;
  readonly #machine = Machine.start({ ram: RAM });
  readonly #slots: MemslotArray;
  readonly #backend: SpawnedBackend | undefined;
  #waited = 0;
  #random = 1;

  private constructor(name: string, backend: SpawnedBackend | undefined) {
    this.name = name;
    this.#backend = backend;
    if (backend !== undefined)
      this.#machine.addDevice({
        name: 'fs0',
        socket: backend.connect(),
        wait: (fd, timeoutMs) => {
          const began = performance.now();
          waitReadable(fd, timeoutMs);
          this.#waited += performance.now() - began;
        },
      });
    this.#slots = this.#machine.addMemslots({ id: 'slots', count: MANY, slotSize: SLOT });
  }

  /** @returns undefined if the back-end is not installed */
  static async start(name: PeerName): Promise<Rig | undefined> {
    const command = commandOf(name);
    return command && new Rig(name, await SpawnedBackend.start(command, MEMORY));
  }

  static withoutBackend(): Rig {
    return new Rig('no back-end', undefined);
  }

  /** The cost with `mapped` memslots, one of which comes and goes, another one each time. */
  measure(mapped: number, changes: number): Cost {
    for (let slot = 0; slot < MANY; slot += 1) {
      if (slot < mapped) this.#slots.map(slot);
      else if (this.#slots.isMapped(slot)) this.#slots.unmap(slot);
    }
    this.#waited = inSocket = 0;
    const busyBefore = this.#processorMicros();
    const threadBefore = threadMicros();
    let [map, unmap] = [0, 0];
    const pairs = changes / 2;
    for (let i = 0; i < pairs; i += 1) {
      this.#random = (this.#random * 48271) % 0x7fff_ffff;
      const slot = this.#random % mapped;
      const began = performance.now();
      this.#slots.unmap(slot);
      const between = performance.now();
      this.#slots.map(slot);
      map += performance.now() - between;
      unmap += between - began;
    }
    const total = map + unmap;
    const thread = threadMicros() - threadBefore;
    return {
      total: (1000 * total) / changes,
      own: (1000 * (total - this.#waited - inSocket)) / changes,
      socket: (1000 * inSocket) / changes,
      thread: thread / changes,
      map: (1000 * map) / pairs,
      unmap: (1000 * unmap) / pairs,
      backend: (this.#processorMicros() - busyBefore) / changes,
    };
  }

  async stop(): Promise<void> {
    this.#machine.stop();
    this.#machine.close();
    await this.#backend?.stop();
  }

  #processorMicros(): number {
    return this.#backend === undefined ? 0 : processorMicros(this.#backend.pid);
  }
}

interface Result {
  readonly name: string;
  readonly few: Cost;
  readonly many: Cost;
  /** Cost with many memslots over that with few, round by round. */
  readonly ratio: number;
}

/** Processor time of this thread so far: in the first field of its statistics, in nanoseconds. */
const threadMicros = (): number =>
  Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1000;

/** Each rig in turn, round by round. */
function run(rigs: readonly Rig[], rounds: number, changes: number): Result[] {
  const costs = rigs.map(() => ({ few: [] as Cost[], many: [] as Cost[] }));
  for (let round = 0; round <= rounds; round += 1)
    rigs.forEach((rig, index) => {
      const count = round === 0 ? WARM_UP * changes : changes;
      const [few, many] = [rig.measure(FEW, count), rig.measure(MANY, count)];
      if (round === 0) return;
      costs[index]!.few.push(few);
      costs[index]!.many.push(many);
    });
  return rigs.map(({ name }, index) => {
    const { few, many } = costs[index]!;
    const ratios = many.map(({ total }, round) => total / few[round]!.total);
    return { name, few: medians(few), many: medians(many), ratio: median(ratios) };
  });
}

const KEYS = [
  'total',
  'own',
  'socket',
  'thread',
  'map',
  'unmap',
  'backend',
] as const satisfies readonly (keyof Cost)[];

const medians = (costs: readonly Cost[]): Cost => {
  const of = (key: (typeof KEYS)[number]): number => median(costs.map((cost) => cost[key]));
  return {
    total: of('total'),
    own: of('own'),
    socket: of('socket'),
    thread: of('thread'),
    map: of('map'),
    unmap: of('unmap'),
    backend: of('backend'),
  };
};

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

function print(results: readonly Result[]): void {
  const cell = (value: number | string): string =>
    (typeof value === 'number' ? value.toFixed(1) : value).padStart(10);
  const columns = ['total', 'own', 'socket', 'our CPU', 'map', 'unmap', 'its CPU'];
  console.log(`us a change       ${['mapped', ...columns, 'ratio'].map(cell).join('')}`);
  for (const { name, few, many, ratio } of results) {
    const row = (mapped: number, cost: Cost): string =>
      [String(mapped), ...KEYS.map((key) => cost[key])].map(cell).join('');
    console.log(`${name.padEnd(18)}${row(FEW, few)}`);
    console.log(`${name.padEnd(18)}${row(MANY, many)}${ratio.toFixed(2).padStart(10)}`);
  }
}

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, changes: { type: 'string', default: '400' } },
});
time('send');
time('receive');
const rigs: Rig[] = [Rig.withoutBackend()];
try {
  for (const name of ['ours', 'rust'] as const) {
    const rig = await Rig.start(name);
    if (rig === undefined) console.log(`${name}: not installed, not measured`);
    else rigs.push(rig);
  }
  const results = run(rigs, Number(values.rounds), Number(values.changes));
  print(results);
  const ours = results.find(({ name }) => name === 'ours')!;
  const rust = results.find(({ name }) => name === 'rust');
  if (rust !== undefined)
    console.log(
      `ours over rust: ${(ours.few.total / rust.few.total).toFixed(2)} with ${FEW} mapped, ${(ours.many.total / rust.many.total).toFixed(2)} with ${MANY}`,
    );
  const own = Math.max(ours.few.own, ours.many.own);
  console.log(
    `500 over 1: ${ours.ratio.toFixed(2)} (bar ${RATIO_BAR}); our own share ${own.toFixed(1)} us (bar ${OWN_BAR_US})`,
  );
  process.exitCode = ours.ratio > RATIO_BAR || own > OWN_BAR_US ? 1 : 0;
} finally {
  for (const rig of rigs) await rig.stop();
}
