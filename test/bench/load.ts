/**
 * A load generator: keeps so many requests in flight on one queue, polling for answers.
 *
 * Nothing is allocated per request, so that what is measured is the back-end. Answers are checked for their error field
 * only; whether data is right is what tests are for.
 */
import { InHeader, OutHeader } from '../../protocol/fuse.ts';
import { signalEventfd } from '../../src/host/eventfd.ts';
import type { GuestQueue } from '../../src/machine/guest-queue.ts';
import type { LoopbackMachine } from '../../src/machine/loopback-machine.ts';

const PAGE = 4096;
const STALLED_MS = 10_000;

/** One of the requests in flight: its pages, and the buffers of the chain it is. */
export class Lane {
  readonly index: number;
  /** Words of the request: header, then arguments. */
  readonly request: Uint32Array;
  readonly requestBytes: Uint8Array;
  /** Words of the reply, from the header on. */
  readonly reply: Uint32Array;
  readonly gpas = new Float64Array(4);
  readonly lengths = new Float64Array(4);
  /** Buffers of the chain, and how many of them the device reads. */
  count = 0;
  readable = 0;
  /** What the workload remembers between two requests. */
  step = 0;
  readonly #requestGpa: number;
  readonly #replyGpa: number;

  constructor(machine: LoopbackMachine, index: number) {
    this.index = index;
    const request = machine.ram.allocate(PAGE, PAGE);
    const reply = machine.ram.allocate(PAGE, PAGE);
    this.requestBytes = request.bytes;
    this.request = wordsOf(request.bytes);
    this.reply = wordsOf(reply.bytes);
    this.#requestGpa = request.gpa;
    this.#replyGpa = reply.gpa;
  }

  /** Starts a request. Arguments are words from `InHeader.size / 4` on. @param size bytes of request after the header */
  prepare(opcode: number, nodeid: number, size: number): void {
    const words = this.request;
    words[InHeader.offset.len / 4] = InHeader.size + size;
    words[InHeader.offset.opcode / 4] = opcode;
    words[InHeader.offset.unique / 4] = 2 * this.index + 2;
    this.setU64(InHeader.offset.nodeid, nodeid);
    this.gpas[0] = this.#requestGpa;
    this.lengths[0] = InHeader.size + size;
    this.count = 1;
    this.readable = 1;
  }

  /** Makes room for the reply. @param size bytes after the header */
  expect(size: number): void {
    this.gpas[this.count] = this.#replyGpa;
    this.lengths[this.count] = OutHeader.size + size;
    this.count += 1;
  }

  /** Adds a data buffer the device writes. */
  receive(gpa: number, size: number): void {
    this.gpas[this.count] = gpa;
    this.lengths[this.count] = size;
    this.count += 1;
  }

  /** Stores a 64-bit field of the request, at byte `offset` of it. */
  setU64(offset: number, value: number): void {
    this.request[offset / 4] = value; // modulo 2^32, as typed arrays store
    this.request[offset / 4 + 1] = value / 0x1_0000_0000;
  }

  /** A 64-bit field of the reply, at byte `offset` after the header. Nodeids and handles of all peers are below 2^53. */
  replyU64(offset: number): number {
    const at = (OutHeader.size + offset) / 4;
    return this.reply[at]! + this.reply[at + 1]! * 0x1_0000_0000;
  }
}

export interface Workload {
  readonly name: string;
  /** Requests in flight. */
  readonly depth: number;
  /** Prepares the lane's next request. The reply of the last one, if any, is still there. */
  next(lane: Lane): void;
  /** @returns how many operations an answered request completes, usually 1 */
  completed(lane: Lane): number;
}

export interface Measured {
  readonly operations: number;
  readonly ms: number;
}

export class LoadGenerator {
  readonly #queue: GuestQueue;
  readonly #lanes: readonly Lane[];
  readonly #byHead: Int32Array;

  constructor(machine: LoopbackMachine, queue: GuestQueue, maxDepth: number) {
    this.#queue = queue;
    this.#lanes = Array.from({ length: maxDepth }, (_, i) => new Lane(machine, i));
    this.#byHead = new Int32Array(queue.driver.num).fill(-1);
  }

  /** Runs the workload for so long, and then until nothing is in flight. */
  run(workload: Workload, ms: number): Measured {
    const { driver } = this.#queue;
    const lanes = this.#lanes.slice(0, workload.depth);
    driver.disableCalls();
    for (const lane of lanes) {
      lane.step = 0;
      this.#add(workload, lane);
    }
    this.#submit();
    const began = performance.now();
    let operations = 0;
    let inFlight = lanes.length;
    let idle = 0;
    let now = began;
    while (inFlight > 0) {
      let added = 0;
      for (let head = driver.collect(); head >= 0; head = driver.collect()) {
        const lane = lanes[this.#byHead[head]!]!;
        idle = 0;
        if (lane.count > lane.readable && lane.reply[OutHeader.offset.error / 4] !== 0)
          throw new Error(`${workload.name}: errno ${-(lane.reply[OutHeader.offset.error / 4]! | 0)}`);
        operations += workload.completed(lane);
        inFlight -= 1;
        if (now - began >= ms) continue;
        this.#add(workload, lane);
        inFlight += 1;
        added += 1;
      }
      if (added > 0) this.#submit();
      idle += 1;
      if ((idle & 0xff) === 1) {
        const then = now;
        now = performance.now();
        if (idle > 0xfffff && now - then > STALLED_MS) throw new Error(`${workload.name}: no answer`);
      }
    }
    return { operations, ms: performance.now() - began };
  }

  #add(workload: Workload, lane: Lane): void {
    workload.next(lane);
    const head = this.#queue.driver.add(lane.gpas, lane.lengths, lane.count, lane.readable);
    if (head < 0) throw new Error(`${workload.name}: no free descriptors`);
    this.#byHead[head] = lane.index;
  }

  #submit(): void {
    this.#queue.driver.publish();
    if (this.#queue.driver.kickNeeded()) signalEventfd(this.#queue.kickFd);
  }
}

const wordsOf = (bytes: Uint8Array): Uint32Array =>
  new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
