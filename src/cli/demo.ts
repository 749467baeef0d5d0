/**
 * `vhost-user demo`: the whole toolkit at work, in a few seconds and without a guest.
 *
 * Starts the back-end on a temporary directory, boots a machine without processors in front of it, and lets virtio-mem grow and shrink, slot
 * by slot, while files are written, read back and compared with their buffers in just that memory.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { Machine } from '../machine/machine.ts';
import { expectAnswer, VirtioFsClient } from '../machine/virtio-fs-client.ts';
import { GiB, MiB } from '../units.ts';
import { BATCH, DemoFiles } from './demo-files.ts';
import { DemoMemory } from './demo-memory.ts';
import { count, fastest, median, micros, pictureOf, seconds, sizeOf } from './demo-picture.ts';
import { LiveArea, type Terminal } from './live-area.ts';
import { Interruption } from './interruption.ts';
import { type BackendCommand, SpawnedBackend } from './spawned-backend.ts';

export interface DemoOptions {
  /** Memory slots that come and go, beside the one of RAM: GiB of virtio-mem. */
  readonly slots: number;
  /** How long memory comes and goes. */
  readonly seconds: number;
  /** What to start; our own back-end unless told otherwise. */
  readonly backend?: BackendCommand;
}

/** QEMU gives memory devices that cut themselves into slots no more than these together. */
export const MAX_DEMO_SLOTS = 256;
const RAM = 64 * MiB;
/** At least so long between two changes, so that one sees them. */
const STEP_MS = 10;
const REDRAW_MS = 60;

/** @returns exit status: 0 if every byte came back and every slot was given up; 128 + n after signal n */
export async function runDemo(options: DemoOptions, out: Terminal = process.stdout): Promise<number> {
  using interruption = new Interruption();
  const began = performance.now();
  const say = (line: string): void => {
    out.write(`${line}\n`);
  };
  let backend: SpawnedBackend | undefined;
  let isRight = false;
  try {
    backend = await SpawnedBackend.start(options.backend);
    if (!interruption.isWanted) isRight = await work(backend, options, { out, say, interruption });
  } catch (error) {
    await delay(20); // a signal for both processes may have reached the back-end first
    if (!interruption.isWanted) {
      say(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
      if (backend !== undefined && backend.messages !== '') say(`the back-end said: ${backend.messages}`);
    }
  }
  const status = await backend?.stop();
  if (interruption.isWanted) return interruption.exitStatus;
  if (isRight && status !== 0) {
    say(`FAILED: the back-end ended with status ${status ?? 'of a signal'}`);
    isRight = false;
  }
  say(`${isRight ? 'all is well' : 'something was wrong'}, after ${seconds(performance.now() - began)} s`);
  return isRight ? 0 : 1;
}

interface Surroundings {
  readonly out: Terminal;
  readonly say: (line: string) => void;
  readonly interruption: Interruption;
}

/** @returns whether everything was right */
async function work(backend: SpawnedBackend, options: DemoOptions, around: Surroundings): Promise<boolean> {
  const { say, interruption } = around;
  const size = options.slots * GiB;
  using machine = Machine.start({ ram: RAM, maxmem: RAM + size });
  const device = machine.addDevice({ name: 'fs0', socket: backend.connect(), indirectEntries: 8 });
  const vm0 = machine.plug({
    type: 'virtio-mem',
    id: 'vm0',
    size,
    dynamicMemslots: true,
    memoryBlockSize: GiB,
  });
  say(
    `back-end: process ${backend.pid}, on a temporary directory; takes ${device.frontend.limit} memory slots`,
  );
  say(`guest:    ${sizeOf(RAM)} of RAM, virtio-mem from 0 to ${sizeOf(size)}, sparse`);
  const memory = new DemoMemory(vm0, device, vm0.device.memslots());
  const client = new VirtioFsClient(device);
  expectAnswer(client.init(), 'FUSE_INIT');
  const files = new DemoFiles(client, (slot, offset, bytes) =>
    machine.buffer(vm0.address + slot * memory.slotSize + offset, bytes),
  );

  const show = new Show(around, {
    machine,
    memory,
    files,
    address: vm0.address,
    totalMs: 1000 * options.seconds,
  });
  const elapsed = await makeWaves(memory, files, show, interruption);
  if (interruption.isWanted) return false;

  const onHost = files.compareOnHost((name) => readFileSync(join(backend.shared, name)));
  const present = files.present;
  files.clear();
  client.destroy();
  machine.unplug('vm0');
  const left = mappingsOf(backend.pid);
  machine.stop();
  const isRight = files.wrong === 0 && onHost === 0 && left === 0 && memory.mapped === memory.unmapped;
  const { plugTimes, unplugTimes } = memory;
  const { limit } = device.frontend;
  const perSecond = count((1000 * files.operations) / elapsed);
  say('');
  say(
    `  slots      ${memory.mapped} mapped, ${memory.unmapped} unmapped, at most ${memory.most + 1} of ${limit}; ${left} left behind`,
  );
  say(
    `  plugging   ${micros(fastest(plugTimes))} fastest, ${micros(median(plugTimes))} median, with ${BATCH} requests under way`,
  );
  say(`  unplugging ${micros(fastest(unplugTimes))} fastest, ${micros(median(unplugTimes))} median`);
  say(
    `  requests   ${count(files.operations)}, ${perSecond} per second; ${count(files.bytes / MiB)} MiB in ${count(files.count)} files`,
  );
  say(
    `  checksums  ${count(files.compared)} chunks read back, ${files.wrong} errors; ${present} files on the host, ${onHost} errors`,
  );
  say('');
  return isRight;
}

/** Memory comes and goes while files are written and read, until the time is up; in the end it is all gone. @returns milliseconds */
async function makeWaves(
  memory: DemoMemory,
  files: DemoFiles,
  show: Show,
  interruption: Interruption,
): Promise<number> {
  const began = performance.now();
  let changed = 0;
  let isEnding = false;
  show.wave();
  for (;;) {
    const now = performance.now();
    if (!isEnding && now - began >= show.totalMs) {
      isEnding = true;
      memory.ebb();
      show.wave();
    }
    if (memory.isThere) {
      if (isEnding) break;
      memory.turn();
      show.wave();
    }
    const isTime = now - changed >= STEP_MS;
    if (isTime) changed = now;
    files.batch(isTime ? memory.usable : memory.plugged, () => {
      if (isTime) memory.step();
    });
    show.frame(now - began);
    await nextTurn();
    if (interruption.isWanted) break;
  }
  const elapsed = performance.now() - began;
  show.end(elapsed);
  return elapsed;
}

/** Keeps the picture up to date on a terminal; elsewhere writes a line for each wave. */
class Show {
  readonly totalMs: number;
  readonly #around: Surroundings;
  readonly #demo: DemoParts;
  readonly #area: LiveArea | undefined;
  #drawnAt = -REDRAW_MS;
  #rate = { at: 0, operations: 0, perSecond: 0 };

  constructor(around: Surroundings, demo: DemoParts) {
    this.totalMs = demo.totalMs;
    this.#around = around;
    this.#demo = demo;
    const isTerminal = around.out.isTTY === true && process.env['TERM'] !== 'dumb';
    this.#area = isTerminal ? new LiveArea(around.out) : undefined;
    around.interruption.onExit(() => this.#area?.[Symbol.dispose]());
  }

  wave(): void {
    if (this.#area !== undefined) return;
    const { memory, files } = this.#demo;
    const [from, to] = [memory.plugged, memory.target].map((slots) => sizeOf(slots * memory.slotSize));
    this.#around.say(
      `virtio-mem ${from} -> ${to}: ${count(files.operations)} requests, ${count(files.bytes / MiB)} MiB so far, ${files.wrong} checksum errors`,
    );
  }

  frame(elapsedMs: number): void {
    if (elapsedMs - this.#rate.at >= 500) {
      const { operations } = this.#demo.files;
      const perSecond = (1000 * (operations - this.#rate.operations)) / (elapsedMs - this.#rate.at);
      this.#rate = { at: elapsedMs, operations, perSecond };
    }
    if (this.#area === undefined || elapsedMs - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = elapsedMs;
    this.#draw(elapsedMs);
  }

  end(elapsedMs: number): void {
    if (this.#area === undefined) return;
    this.#draw(elapsedMs);
    this.#area[Symbol.dispose]();
  }

  #draw(elapsedMs: number): void {
    const { machine, memory, files, address, totalMs } = this.#demo;
    const { used, limit } = machine.devices[0]!.frontend;
    const operationsPerSecond = this.#rate.perSecond;
    const state = { memory, files, address, limit, used, elapsedMs, totalMs, operationsPerSecond };
    this.#area?.draw(pictureOf(state, this.#area.columns));
  }
}

interface DemoParts {
  readonly machine: Machine;
  readonly memory: DemoMemory;
  readonly files: DemoFiles;
  readonly address: number;
  readonly totalMs: number;
}

/** How many pieces of virtio-mem's memory a process has mapped; 0 if it does not say. */
function mappingsOf(pid: number): number {
  try {
    return readFileSync(`/proc/${pid}/maps`, 'utf8').split('/memfd:vm0').length - 1;
  } catch {
    return 0;
  }
}
