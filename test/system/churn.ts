/**
 * Reads and writes of random sizes and layouts on all request queues at once, while memory slots come and go. Each octet
 * that comes back is known beforehand, and so is each octet around it.
 */
import { OutHeader, InHeader, FuseOpcode } from '../../protocol/fuse.ts';
import { ReadIn, WriteIn, WriteOut } from '../../protocol/fuse-requests.ts';
import { drainEventfd } from '../../src/host/eventfd.ts';
import { waitReadable } from '../../src/host/poll.ts';
import type { GuestQueue } from '../../src/machine/guest-queue.ts';
import type { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { Pattern } from '../../src/stress/pattern.ts';
import { Random } from '../../src/stress/random.ts';
import { MiB } from '../../src/units.ts';
import { Layout, MAX_GAPS } from './churn-layout.ts';
import { CANARY, ChurnSlots } from './churn-slots.ts';

export const FILE_SIZE = 8 * MiB;

const MAX_SIZE = 1 * MiB;
const DEPTH = 12;
const HEAD = InHeader.size + ReadIn.size;
/** Requests for each change of memory that is tried. */
const REQUESTS_PER_CHANGE = 12;
const STALLED_MS = 20_000;
const EDGES = [1, 2, 511, 512, 4095, 4096, 4097, 8192, 65_536, 131_072, MAX_SIZE];

/** A request in flight, or room for one. */
class Lane {
  readonly queue: number;
  readonly layout = new Layout();
  /** What the window must hold in the end. */
  readonly expected = new Uint8Array(MAX_SIZE + HEAD + OutHeader.size + WriteOut.size + MAX_GAPS);
  isBusy = false;
  unique = 0n;
  isWrite = false;
  offset = 0;
  size = 0;
  window = 0;
  /** Where in the octets to be written those of this request begin. */
  source = 0;

  constructor(queue: number) {
    this.queue = queue;
  }
}

export interface ChurnFile {
  readonly nodeid: bigint;
  readonly fh: bigint;
}

export interface ChurnFigures {
  readonly requests: number;
  readonly reads: number;
  readonly writes: number;
  readonly megabytes: number;
  readonly slotChanges: number;
  readonly seconds: number;
}

export class Churn {
  /** What the file must hold. */
  readonly model: Uint8Array;
  readonly #queues: readonly GuestQueue[];
  readonly #file: ChurnFile;
  readonly #random: Random;
  readonly #slots: ChurnSlots;
  readonly #lanes: readonly Lane[];
  readonly #laneOf: Lane[][];
  readonly #octets: Uint8Array;
  readonly #found = { done: 0, reads: 0, bytes: 0 };
  #unique = 1_000_000n;
  #isDirty: boolean[];

  /**
   * @param model what the file holds at first; changed with it
   * @param options.firstQueue the request queues from here on are used
   */
  constructor(
    machine: LoopbackMachine,
    file: ChurnFile,
    model: Uint8Array,
    options: { readonly seed: number; readonly leastSlots: number; readonly firstQueue?: number },
  ) {
    this.model = model;
    this.#queues = machine.queues.slice(options.firstQueue ?? 1);
    this.#file = file;
    this.#random = new Random(options.seed);
    this.#slots = new ChurnSlots(machine, this.#random, options.leastSlots);
    this.#lanes = this.#queues.flatMap((_, queue) => Array.from({ length: DEPTH }, () => new Lane(queue)));
    this.#laneOf = this.#queues.map(() => []);
    this.#isDirty = this.#queues.map(() => false);
    this.#octets = Uint8Array.from(new Pattern(2 * MAX_SIZE).of(1, options.seed));
  }

  /** Sends requests that are not waited for here. */
  begin(): void {
    this.#startSome();
  }

  /** @throws {Error} at the first octet that is not as it must be */
  run(requests: number): ChurnFigures {
    const began = performance.now();
    const before = { ...this.#found };
    const changesBefore = this.#slots.changes;
    const end = before.done + requests;
    let changed = before.done;
    while (this.#found.done < end || this.#lanes.some(({ isBusy }) => isBusy)) {
      if (this.#found.done < end) this.#startSome();
      for (; changed < this.#found.done; changed += REQUESTS_PER_CHANGE) this.#slots.change();
      if (!this.#takeAll()) this.#sleep();
    }
    const done = this.#found.done - before.done;
    const reads = this.#found.reads - before.reads;
    return {
      requests: done,
      reads,
      writes: done - reads,
      megabytes: Math.round((this.#found.bytes - before.bytes) / MiB),
      slotChanges: this.#slots.changes - changesBefore,
      seconds: (performance.now() - began) / 1000,
    };
  }

  /** Removes all slots. @throws {Error} if one was written to while it was away */
  finish(): void {
    this.#slots.removeAll();
  }

  #startSome(): void {
    for (const lane of this.#lanes) {
      if (lane.isBusy || !this.#start(lane)) continue;
      this.#isDirty[lane.queue] = true;
      if (this.#random.below(4) === 0) this.#submit();
    }
    this.#submit();
  }

  #submit(): void {
    this.#queues.forEach((queue, i) => {
      if (this.#isDirty[i]) queue.submit();
      this.#isDirty[i] = false;
    });
  }

  /** @returns false if there is no room for what was drawn */
  #start(lane: Lane): boolean {
    const random = this.#random;
    const isWrite = random.below(2) === 0;
    const size = this.#drawSize();
    const offset = random.below(FILE_SIZE - (isWrite ? size : 0) + 1);
    if (this.#lanes.some((other) => other.isBusy && isConflict(other, isWrite, offset, size))) return false;
    const { layout, expected } = lane;
    const head = [InHeader.size, HEAD - InHeader.size];
    layout.make(
      random,
      isWrite ? [...head, size] : head,
      isWrite ? [OutHeader.size, WriteOut.size] : [OutHeader.size, size],
    );
    const window = this.#slots.findWindow(layout.windowSize);
    if (window < 0 || this.#lanes.some((other) => other.isBusy && touches(other, window, layout.windowSize)))
      return false;
    lane.unique = this.#unique += 2n;
    Object.assign(lane, { isWrite, size, offset, window, source: random.below(this.#octets.length - size) });
    expected.fill(CANARY, 0, layout.windowSize);
    layout.scatter(expected, false, 0, this.#head(lane));
    if (isWrite) layout.scatter(expected, false, HEAD, this.#written(lane));
    this.#slots.bytes.set(expected.subarray(0, layout.windowSize), window);
    const gpas = layout.starts.subarray(0, layout.count).map((at) => this.#slots.gpa + window + at);
    const at = this.#queues[lane.queue]!.driver.add(gpas, layout.sizes, layout.count, layout.readable);
    if (at < 0) return false;
    this.#laneOf[lane.queue]![at] = lane;
    lane.isBusy = true;
    this.#slots.use(window, layout.windowSize, 1);
    return true;
  }

  #drawSize(): number {
    const random = this.#random;
    const kind = random.below(100);
    if (kind < 10) return random.pick(EDGES.slice(0, random.below(4) === 0 ? EDGES.length : -1));
    if (kind < 90) return 1 + random.below(4096);
    return 1 + random.below(kind < 99 ? 65_536 : MAX_SIZE);
  }

  #head({ isWrite, size, offset, unique }: Lane): Uint8Array {
    const { nodeid, fh } = this.#file;
    const header = InHeader.encode({
      len: HEAD + (isWrite ? size : 0),
      opcode: isWrite ? FuseOpcode.WRITE : FuseOpcode.READ,
      unique,
      nodeid,
      uid: 0,
      gid: 0,
      pid: 1,
      totalExtlen: 0,
    });
    const argument = { fh, offset: BigInt(offset), size, lockOwner: 0n, flags: 0 };
    const encoded = isWrite
      ? WriteIn.encode({ ...argument, writeFlags: 0 })
      : ReadIn.encode({ ...argument, readFlags: 0 });
    return Buffer.concat([header, encoded]);
  }

  #written({ source, size }: Lane): Uint8Array {
    return this.#octets.subarray(source, source + size);
  }

  /** @returns false if nothing was answered */
  #takeAll(): boolean {
    let count = 0;
    this.#queues.forEach(({ driver }, queue) => {
      for (let at = driver.collect(); at >= 0; at = driver.collect()) {
        this.#check(this.#laneOf[queue]![at]!, driver.lastWritten);
        count += 1;
      }
    });
    return count > 0;
  }

  #check(lane: Lane, written: number): void {
    const { layout, expected, window, isWrite, offset, size, unique } = lane;
    lane.isBusy = false;
    this.#slots.use(window, layout.windowSize, -1);
    const data = isWrite
      ? WriteOut.encode({ size })
      : this.model.subarray(offset, Math.min(offset + size, FILE_SIZE));
    const len = OutHeader.size + data.length;
    layout.scatter(expected, true, 0, OutHeader.encode({ len, error: 0, unique }));
    layout.scatter(expected, true, OutHeader.size, data);
    if (isWrite) this.model.set(this.#written(lane), offset);
    this.#found.done += 1;
    this.#found.reads += isWrite ? 0 : 1;
    this.#found.bytes += size;
    const actual = this.#slots.bytes.subarray(window, window + layout.windowSize);
    const wanted = expected.subarray(0, layout.windowSize);
    if (written === len && Buffer.compare(actual, wanted) === 0) return;
    const wrong = actual.findIndex((octet, i) => octet !== wanted[i]);
    throw new Error(
      [
        `request ${this.#found.done}: ${isWrite ? 'WRITE' : 'READ'} of ${size} at ${offset}, ${layout.style}`,
        `${layout.readable} + ${layout.count - layout.readable} pieces`,
        `${written} bytes written, expected ${len}; first wrong octet ${wrong} of the window of ${layout.windowSize}`,
      ].join(', '),
    );
  }

  /** Waits for a call of any queue, unless it looks again at once. */
  #sleep(): void {
    if (!this.#lanes.some(({ isBusy }) => isBusy) || this.#random.below(4) === 0) return;
    let isQuiet = true;
    for (const { driver } of this.#queues) isQuiet = !driver.enableCalls() && isQuiet;
    const [first, second] = this.#queues;
    if (isQuiet && waitReadable(first!.callFd, STALLED_MS, second?.callFd) === 0)
      throw new Error(`no answer for ${STALLED_MS} ms, after ${this.#found.done} requests`);
    for (const queue of this.#queues) {
      drainEventfd(queue.callFd);
      queue.driver.disableCalls();
    }
  }
}

/** Whether one of two requests would change what the other one finds. */
const isConflict = (other: Lane, isWrite: boolean, offset: number, size: number): boolean =>
  (isWrite || other.isWrite) && offset < other.offset + other.size && other.offset < offset + size;

/** Whether a window overlaps that of a request in flight. */
const touches = ({ window, layout }: Lane, at: number, size: number): boolean =>
  at < window + layout.windowSize && window < at + size;
