/**
 * `vhost-user demo`: the back-end at work, in a few seconds and without a guest.
 *
 * Starts it on a temporary directory, adds memory slots, writes a file from buffers in every slot and reads it back
 * into others, then removes the slots while reads go on. The file is compared with what the host sees.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import { LoopbackMachine } from '../machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../machine/virtio-fs-client.ts';
import { GiB, KiB, MiB } from '../units.ts';
import { Progress } from './progress.ts';
import { type BackendCommand, SpawnedBackend } from './spawned-backend.ts';

export interface DemoOptions {
  /** Memory slots to add, beside the one of the rings. */
  readonly slots: number;
  /** What to start; our own back-end unless told otherwise. */
  readonly backend?: BackendCommand;
}

const SLOT_SIZE = 64 * MiB;
const BASE_SIZE = 16 * MiB;
const CHUNK = 256 * KiB;
/** Reads that are on their way while a slot is removed. */
const READS_AT_ONCE = 4;
const O_RDWR = 2;
const NAME = 'demo.bin';

/** @returns exit status: 0 if all that was written was read back, by us and by the host */
export async function runDemo(options: DemoOptions): Promise<number> {
  const progress = new Progress(process.stdout);
  const began = performance.now();
  progress.line('starting the back-end on a temporary directory');
  const backend = await SpawnedBackend.start(options.backend);
  try {
    const isRight = await work(backend, options, progress);
    progress.line(`${isRight ? 'all is well' : 'FAILED'} after ${seconds(performance.now() - began)}`);
    return isRight ? 0 : 1;
  } catch (error) {
    progress.line(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
    if (backend.messages !== '') progress.line(`the back-end said: ${backend.messages}`);
    return 1;
  } finally {
    await backend.stop();
  }
}

/** @returns whether all checksums are equal */
async function work(backend: SpawnedBackend, options: DemoOptions, progress: Progress): Promise<boolean> {
  using machine = LoopbackMachine.start({
    socket: backend.connect(),
    baseSize: BASE_SIZE,
    slotSize: SLOT_SIZE,
    slots: options.slots,
    indirectEntries: 16,
  });
  const slots = Math.min(options.slots, machine.slotLimit - 1);
  progress.line(`connected: the back-end takes ${machine.slotLimit} memory slots, one is the rings'`);
  const client = new VirtioFsClient(machine);
  expectAnswer(client.init(), 'FUSE_INIT');
  const demo = new Demo(machine, client, slots, progress);
  await demo.plugAll();
  const written = await demo.write();
  const readBack = await demo.readBack();
  const onHost = sha256([readFileSync(join(backend.shared, NAME))]);
  const removed = await demo.unplugWhileReading();
  demo.end();
  machine.stop();

  const { operations, bytes } = demo;
  progress.line(`  slots        ${slots + 1} used of ${machine.slotLimit}, ${removed} removed under load`);
  progress.line(`  requests     ${operations}, ${(bytes / MiB).toFixed(1)} MiB of data`);
  progress.line(
    `  adding       ${micros(demo.plugTimes)} per slot, removing ${micros(demo.unplugTimes)} (median)`,
  );
  progress.line(`  written      sha256 ${written.slice(0, 16)}…`);
  progress.line(`  read back    ${verdict(readBack, written)}`);
  progress.line(`  on the host  ${verdict(onHost, written)}`);
  progress.line(`  while slots were removed: ${demo.wrongReads} wrong reads`);
  return readBack === written && onHost === written && demo.wrongReads === 0;
}

/** One file, and a chunk of it for each slot. */
class Demo {
  operations = 0;
  bytes = 0;
  wrongReads = 0;
  readonly plugTimes: number[] = [];
  readonly unplugTimes: number[] = [];
  readonly #machine: LoopbackMachine;
  readonly #client: VirtioFsClient;
  readonly #progress: Progress;
  readonly #buffers: readonly GuestBuffer[];
  readonly #nodeid: bigint;
  readonly #fh: bigint;
  readonly #chunkHashes: string[] = [];

  constructor(machine: LoopbackMachine, client: VirtioFsClient, slots: number, progress: Progress) {
    this.#machine = machine;
    this.#client = client;
    this.#progress = progress;
    this.#buffers = Array.from({ length: slots }, (_, slot) =>
      machine.ram.slotBuffer(slot, placeInSlot(slot), CHUNK),
    );
    const created = expectAnswer(client.create(ROOT, NAME, O_RDWR, 0o644), 'FUSE_CREATE');
    this.#nodeid = created.entry.nodeid;
    this.#fh = created.open.fh;
    this.operations += 1;
  }

  async plugAll(): Promise<void> {
    const count = this.#buffers.length;
    const size = `${((count * SLOT_SIZE) / GiB).toFixed(2)} GiB`;
    for (let slot = 0; slot < count; slot += 1) {
      this.plugTimes.push(timed(() => this.#machine.plug(slot)));
      await this.#turn(`adding memory: ${count} slots of 64 MiB, ${size}, sparse`, slot);
    }
  }

  /** Each chunk from a buffer in a slot of its own. @returns checksum of all */
  async write(): Promise<string> {
    for (const [slot, buffer] of this.#buffers.entries()) {
      fill(buffer.bytes, slot);
      this.#chunkHashes.push(sha256([buffer.bytes]));
      this.#count(this.#client.write(this.#nodeid, this.#fh, slot * CHUNK, [buffer]));
      await this.#turn('writing a file from buffers in every slot', slot);
    }
    return sha256(this.#buffers.map(({ bytes }) => bytes));
  }

  /** Each chunk into the buffer of another slot. @returns checksum of all */
  async readBack(): Promise<string> {
    for (const { bytes } of this.#buffers) bytes.fill(0);
    const hash = createHash('sha256');
    for (let chunk = 0; chunk < this.#buffers.length; chunk += 1) {
      const buffer = this.#buffers[(chunk + 1) % this.#buffers.length]!;
      this.#count(this.#client.read(this.#nodeid, this.#fh, chunk * CHUNK, [buffer]));
      hash.update(buffer.bytes);
      await this.#turn('reading it back into other slots', chunk);
    }
    return hash.digest('hex');
  }

  /** Removes the slots one by one; reads into those that stay are on their way meanwhile. @returns slots removed */
  async unplugWhileReading(): Promise<number> {
    const count = this.#buffers.length;
    for (let slot = 0; slot < count; slot += 1) {
      const staying = this.#buffers.slice(slot + 1, slot + 1 + READS_AT_ONCE);
      const reads = staying.map((buffer, i) => {
        buffer.bytes.fill(0);
        const chunk = (slot + i) % count;
        const pending = this.#client.startRead(this.#nodeid, this.#fh, chunk * CHUNK, [buffer]);
        return { pending, buffer, chunk };
      });
      this.unplugTimes.push(timed(() => this.#machine.unplug(slot)));
      for (const { pending, buffer, chunk } of reads) {
        this.#count(this.#client.finish(pending));
        if (sha256([buffer.bytes]) !== this.#chunkHashes[chunk]) this.wrongReads += 1;
      }
      await this.#turn('removing the slots while reads go on', slot);
    }
    return count;
  }

  end(): void {
    this.#client.release(this.#nodeid, this.#fh);
    this.#client.forget(this.#nodeid);
    this.#client.unlink(ROOT, NAME);
    this.#client.destroy();
    this.operations += 4;
  }

  #count(result: number): void {
    if (result !== CHUNK) throw new Error(`a request for ${CHUNK} bytes was answered with ${result}`);
    this.operations += 1;
    this.bytes += result;
  }

  /** Shows how far it is, and lets the process hear signals. */
  async #turn(what: string, index: number): Promise<void> {
    this.#progress.step(what, index + 1, this.#buffers.length);
    await nextTurn();
  }
}

/** Somewhere in the slot, elsewhere in each, page aligned or not. */
const placeInSlot = (slot: number): number => (slot * 7_654_321) % (SLOT_SIZE - CHUNK);

/** Octets that differ in each chunk: a xorshift generator. */
function fill(bytes: Uint8Array, seed: number): void {
  let state = (seed + 1) * 2_654_435_761;
  for (let i = 0; i < bytes.length; i += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
}

function sha256(parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

/** @returns milliseconds */
function timed(action: () => void): number {
  const began = performance.now();
  action();
  return performance.now() - began;
}

function micros(times: readonly number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  return `${(1000 * (sorted[sorted.length >> 1] ?? 0)).toFixed(0)} us`;
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const verdict = (actual: string, expected: string): string =>
  actual === expected ? 'equal' : `DIFFERENT: sha256 ${actual.slice(0, 16)}…`;
