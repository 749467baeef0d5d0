/** Workloads on names and handles: lookup, open and release, reading directories, the life of small files. */
import { Dirent, Direntplus, EntryOut, OpenOut, recordAlign } from '../../protocol/fuse-attributes.ts';
import {
  CreateIn,
  ForgetIn,
  OpenIn,
  ReadIn,
  ReleaseIn,
  WriteIn,
  WriteOut,
} from '../../protocol/fuse-requests.ts';
import { FUSE_ROOT_ID, FuseOpcode, OutHeader } from '../../protocol/fuse.ts';
import type { BenchQueue } from './bench-queue.ts';
import type { BenchMemory } from './bench-memory.ts';
import type { Workload } from './generator.ts';
import { NAMES, nameOf, randomNumbers, type Rig } from './rig.ts';

const O_RDWR = 2;
const FILE_MODE = 0o100644;
const WRITTEN = 4096;
/** Looks at a full ring until its device is kicked again: a fraction of a second. */
const KICK_AGAIN = 10_000_000;
/** Entries start on 8 bytes, but names are bytes. */
const encoder = new TextEncoder();

/** FORGETs, one for each reference as Linux sends them, on the hiprio queue. Nobody answers: sent as chains come free. */
export class Forgets {
  readonly #memory: BenchMemory;
  readonly #queue: BenchQueue;
  readonly #free: number[] = [];
  readonly #wait: () => void;

  /**
   * @param lanes how many `memory` has
   * @param wait called again and again while all chains are in flight
   */
  constructor(memory: BenchMemory, queue: BenchQueue, lanes: number, wait: () => void) {
    this.#wait = wait;
    this.#memory = memory;
    this.#queue = queue;
    for (let lane = 0; lane < lanes; lane += 1) {
      memory.header(lane, 0, FuseOpcode.FORGET, 0, ForgetIn.size);
      memory.setU64(memory.argument(lane, 0, ForgetIn.offset.nlookup), 1);
      this.#free.push(queue.chain(lane, memory.requestParts(lane, 0, ForgetIn.size, true)));
    }
    queue.refuseCalls();
  }

  send(nodeid: number): void {
    this.#collect();
    for (let looks = 1; this.#free.length === 0; looks += 1, this.#collect()) {
      this.#wait();
      // C virtiofsd 7.2 sleeps through a kick now and then: between asking for it and its last look at the ring is no barrier.
      if (looks % KICK_AGAIN === 0) this.#queue.kick();
    }
    const head = this.#free.pop()!;
    const lane = this.#queue.laneOf[head]!;
    // The nodeid is 16 bytes into the header: after length, opcode and unique.
    this.#memory.setU64(this.#memory.requestGpa(lane) / 4 + 4, nodeid);
    this.#queue.offer(head);
    this.#queue.publish();
  }

  #collect(): void {
    for (let count = this.#queue.arrived(); count > 0; count -= 1) this.#free.push(this.#queue.take());
  }
}

/** LOOKUP of 10,000 names at random, each reference given back. */
export class Lookup implements Workload {
  readonly name = 'lookup';
  readonly depth: number;
  readonly #rig: Rig;
  readonly #heads: Uint16Array;
  readonly #random = randomNumbers();
  /** Words of each name; all names are as long. */
  readonly #names: Uint32Array;
  readonly #wordsEach: number;
  readonly #size: number;

  constructor(rig: Rig, depth: number) {
    this.#rig = rig;
    this.depth = depth;
    this.#heads = new Uint16Array(depth);
    this.#size = nameOf(0).length + 1;
    this.#wordsEach = Math.ceil(this.#size / 4);
    this.#names = new Uint32Array(NAMES * this.#wordsEach);
    const octets = new Uint8Array(this.#names.buffer);
    for (let i = 0; i < NAMES; i += 1) octets.set(encoder.encode(nameOf(i)), i * this.#wordsEach * 4);
  }

  prepare(lane: number): void {
    const { memory, queue, isMerged } = this.#rig;
    memory.header(lane, 0, FuseOpcode.LOOKUP, FUSE_ROOT_ID, this.#size);
    this.#heads[lane] = queue.chain(lane, [
      ...memory.requestParts(lane, 0, this.#size, isMerged),
      ...memory.replyParts(lane, EntryOut.size, isMerged),
    ]);
  }

  next(lane: number): number {
    const { memory } = this.#rig;
    const from = (this.#random() % NAMES) * this.#wordsEach;
    const to = memory.argument(lane, 0, 0);
    for (let i = 0; i < this.#wordsEach; i += 1) memory.words[to + i] = this.#names[from + i]!;
    return this.#heads[lane]!;
  }

  done(lane: number): number {
    const { memory, forgets } = this.#rig;
    forgets.send(memory.u64(memory.answer(lane, EntryOut.offset.nodeid)));
    return 1;
  }
}

/** OPEN and RELEASE in turn; a pair is one operation. */
export class OpenRelease implements Workload {
  readonly name = 'open+release';
  readonly depth: number;
  readonly #rig: Rig;
  readonly #nodeid: number;
  readonly #heads: Uint16Array;
  readonly #step: Uint8Array;

  constructor(rig: Rig, nodeid: number, depth: number) {
    this.#rig = rig;
    this.#nodeid = nodeid;
    this.depth = depth;
    this.#heads = new Uint16Array(2 * depth);
    this.#step = new Uint8Array(depth);
  }

  prepare(lane: number): void {
    const { memory, queue } = this.#rig;
    this.#step[lane] = 0;
    memory.header(lane, 0, FuseOpcode.OPEN, this.#nodeid, OpenIn.size);
    memory.header(lane, 1, FuseOpcode.RELEASE, this.#nodeid, ReleaseIn.size);
    this.#heads[2 * lane] = queue.chain(lane, [
      ...memory.requestParts(lane, 0, OpenIn.size, true),
      ...memory.replyParts(lane, OpenOut.size, true),
    ]);
    this.#heads[2 * lane + 1] = queue.chain(lane, [
      ...memory.requestParts(lane, 1, ReleaseIn.size, true),
      ...memory.replyParts(lane, 0, true),
    ]);
  }

  next(lane: number): number {
    const { memory } = this.#rig;
    const step = this.#step[lane]!;
    if (step === 1)
      memory.setU64(
        memory.argument(lane, 1, ReleaseIn.offset.fh),
        memory.u64(memory.answer(lane, OpenOut.offset.fh)),
      );
    this.#step[lane] = 1 - step;
    return this.#heads[2 * lane + step]!;
  }

  done(lane: number): number {
    return 1 - this.#step[lane]!;
  }
}

/** READDIRPLUS of the whole directory again and again, each lane through a handle of its own; counts entries. */
export class ReadDirectory implements Workload {
  readonly name = 'readdirplus';
  readonly depth: number;
  readonly #rig: Rig;
  readonly #handles: readonly number[];
  readonly #size: number;
  readonly #heads: Uint16Array;

  /** @param size bytes of reply asked for */
  constructor(rig: Rig, handles: readonly number[], size: number) {
    this.#rig = rig;
    this.#handles = handles;
    this.depth = handles.length;
    this.#size = size;
    this.#heads = new Uint16Array(this.depth);
  }

  prepare(lane: number): void {
    const { memory, queue, isMerged } = this.#rig;
    memory.header(lane, 0, FuseOpcode.READDIRPLUS, FUSE_ROOT_ID, ReadIn.size);
    memory.setU64(memory.argument(lane, 0, ReadIn.offset.fh), this.#handles[lane]!);
    memory.words[memory.argument(lane, 0, ReadIn.offset.size)] = this.#size;
    this.#heads[lane] = queue.chain(lane, [
      ...memory.requestParts(lane, 0, ReadIn.size, isMerged),
      ...memory.replyParts(lane, this.#size, isMerged),
    ]);
  }

  next(lane: number): number {
    return this.#heads[lane]!;
  }

  /** Counts the entries, and goes on after the last of them, or from the start. References are kept, as Linux does. */
  done(lane: number): number {
    const { memory } = this.#rig;
    const end = memory.words[memory.replyGpa(lane) / 4]! - OutHeader.size;
    const next = memory.argument(lane, 0, ReadIn.offset.offset);
    if (end === 0) memory.setU64(next, 0);
    let entries = 0;
    for (let at = 0; at < end; entries += 1) {
      const dirent = memory.answer(lane, at + EntryOut.size);
      const nameLength = memory.words[dirent + Dirent.offset.namelen / 4]!;
      memory.words[next] = memory.words[dirent + Dirent.offset.off / 4]!;
      memory.words[next + 1] = memory.words[dirent + Dirent.offset.off / 4 + 1]!;
      at += recordAlign(Direntplus.size + nameLength);
    }
    return entries;
  }
}

/** CREATE, WRITE of 4 KiB, RELEASE, UNLINK, and a FORGET: one operation. Each lane of each has a name of its own. */
export class FileLives implements Workload {
  static #made = 0;
  readonly #names = `life-${FileLives.#made++}`;
  readonly name = 'create+write+release+unlink';
  readonly depth: number;
  readonly #rig: Rig;
  readonly #heads: Uint16Array;
  readonly #step: Uint8Array;
  readonly #nodeid: Float64Array;

  constructor(rig: Rig, depth: number) {
    this.#rig = rig;
    this.depth = depth;
    this.#heads = new Uint16Array(4 * depth);
    this.#step = new Uint8Array(depth).fill(0);
    this.#nodeid = new Float64Array(depth);
  }

  prepare(lane: number): void {
    const { memory, queue, machine } = this.#rig;
    const name = encoder.encode(`${this.#names}-${String(lane).padStart(3, '0')}\0`);
    const put = (step: number, offset: number): void =>
      memory.bytes.set(name, memory.argument(lane, step, offset) * 4);
    this.#step[lane] = 0;
    memory.header(lane, 0, FuseOpcode.CREATE, FUSE_ROOT_ID, CreateIn.size + name.length);
    memory.words[memory.argument(lane, 0, CreateIn.offset.flags)] = O_RDWR;
    memory.words[memory.argument(lane, 0, CreateIn.offset.mode)] = FILE_MODE;
    put(0, CreateIn.size);
    memory.header(lane, 1, FuseOpcode.WRITE, 0, WriteIn.size + WRITTEN);
    memory.words[memory.argument(lane, 1, WriteIn.offset.size)] = WRITTEN;
    memory.header(lane, 2, FuseOpcode.RELEASE, 0, ReleaseIn.size);
    memory.header(lane, 3, FuseOpcode.UNLINK, FUSE_ROOT_ID, name.length);
    put(3, 0);
    const data = { gpa: machine.ram.slotGpa(0) + lane * WRITTEN, size: WRITTEN, isWritable: false };
    const sizes = [CreateIn.size + name.length, WriteIn.size, ReleaseIn.size, name.length];
    const replies = [EntryOut.size + OpenOut.size, WriteOut.size, 0, 0];
    for (let step = 0; step < 4; step += 1)
      this.#heads[4 * lane + step] = queue.chain(lane, [
        ...memory.requestParts(lane, step, sizes[step]!, true),
        ...(step === 1 ? [data] : []),
        ...memory.replyParts(lane, replies[step]!, true),
      ]);
  }

  next(lane: number): number {
    const step = this.#step[lane]!;
    if (step === 1) this.#created(lane);
    this.#step[lane] = (step + 1) % 4;
    return this.#heads[4 * lane + step]!;
  }

  done(lane: number): number {
    if (this.#step[lane] !== 0) return 0;
    this.#rig.forgets.send(this.#nodeid[lane]!);
    return 1;
  }

  #created(lane: number): void {
    const { memory } = this.#rig;
    const nodeid = memory.u64(memory.answer(lane, EntryOut.offset.nodeid));
    const fh = memory.u64(memory.answer(lane, EntryOut.size + OpenOut.offset.fh));
    this.#nodeid[lane] = nodeid;
    memory.setU64(memory.requestGpa(lane, 1) / 4 + 4, nodeid);
    memory.setU64(memory.argument(lane, 1, WriteIn.offset.fh), fh);
    memory.setU64(memory.requestGpa(lane, 2) / 4 + 4, nodeid);
    memory.setU64(memory.argument(lane, 2, ReleaseIn.offset.fh), fh);
  }
}
