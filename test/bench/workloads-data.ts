/** Workloads on one open file: reads, writes, attributes. */
import { AttrOut } from '../../protocol/fuse-attributes.ts';
import { GetattrIn, ReadIn, WriteIn, WriteOut } from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import type { Workload } from './generator.ts';
import { randomNumbers, type Rig } from './rig.ts';

/** How a data workload goes through its file. */
export interface Access {
  readonly size: number;
  readonly depth: number;
  readonly isRandom: boolean;
  /** Memory slots the buffers are spread over. */
  readonly slots: number;
  /** Bytes of the file that are used. */
  readonly span: number;
}

/** An open file. */
export interface OpenFile {
  readonly nodeid: number;
  readonly fh: number;
}

/** READ or WRITE: only offset and buffer differ from one request to the next. */
class DataWorkload implements Workload {
  readonly name: string;
  readonly depth: number;
  readonly #rig: Rig;
  readonly #file: OpenFile;
  readonly #isWrite: boolean;
  readonly #access: Access;
  readonly #random = randomNumbers();
  readonly #heads: Uint16Array;
  readonly #places: number;
  #turn = 0;
  #block = 0;

  constructor(rig: Rig, name: string, file: OpenFile, isWrite: boolean, access: Access) {
    this.#rig = rig;
    this.name = name;
    this.depth = access.depth;
    this.#file = file;
    this.#isWrite = isWrite;
    this.#access = access;
    this.#heads = new Uint16Array(access.depth);
    this.#places = Math.floor(rig.machine.ram.layout.slotSize / access.size);
  }

  prepare(lane: number): void {
    const { memory, queue, isMerged } = this.#rig;
    const { size } = this.#access;
    const data = { gpa: 0, size, isWritable: !this.#isWrite };
    // size lies at the same place in both
    const argument = this.#isWrite ? WriteIn : ReadIn;
    const opcode = this.#isWrite ? FuseOpcode.WRITE : FuseOpcode.READ;
    memory.header(lane, 0, opcode, this.#file.nodeid, argument.size + (this.#isWrite ? size : 0));
    memory.setU64(memory.argument(lane, 0, argument.offset.fh), this.#file.fh);
    memory.words[memory.argument(lane, 0, argument.offset.size)] = size;
    const request = memory.requestParts(lane, 0, argument.size, isMerged);
    const reply = memory.replyParts(lane, this.#isWrite ? WriteOut.size : 0, isMerged);
    this.#heads[lane] = queue.chain(
      lane,
      this.#isWrite ? [...request, data, ...reply] : [...request, ...reply, data],
    );
  }

  next(lane: number): number {
    const { memory, queue, isMerged } = this.#rig;
    const { size, isRandom, slots, span, depth } = this.#access;
    const blocks = span / size;
    this.#block = isRandom ? this.#random() % blocks : (this.#block + 1) % blocks;
    memory.setU64(memory.argument(lane, 0, ReadIn.offset.offset), this.#block * size);
    // Another slot each time, and few pages in each: the guest's page cache is not what is measured.
    this.#turn += 1;
    const place = (lane + depth * (Math.floor(this.#turn / slots) % 4)) % this.#places;
    const slot =
      slots === 1 ? Math.floor((lane * size) / this.#rig.machine.ram.layout.slotSize) : this.#turn % slots;
    // The data comes after header and arguments, or after the reply's header as well.
    const index = (isMerged ? 1 : 2) + (this.#isWrite ? 0 : 1);
    const head = this.#heads[lane]!;
    queue.move(head, index, this.#rig.machine.ram.slotGpa(slot) + place * size);
    return head;
  }

  done(): number {
    return 1;
  }
}

export const reads = (rig: Rig, name: string, file: OpenFile, access: Access): Workload =>
  new DataWorkload(rig, name, file, false, access);
export const writes = (rig: Rig, name: string, file: OpenFile, access: Access): Workload =>
  new DataWorkload(rig, name, file, true, access);

/** GETATTR of one inode: nothing differs from one request to the next. */
export class Getattr implements Workload {
  readonly name = 'getattr';
  readonly depth: number;
  readonly #rig: Rig;
  readonly #nodeid: number;
  readonly #heads: Uint16Array;

  constructor(rig: Rig, nodeid: number, depth: number) {
    this.#rig = rig;
    this.#nodeid = nodeid;
    this.depth = depth;
    this.#heads = new Uint16Array(depth);
  }

  prepare(lane: number): void {
    const { memory, queue, isMerged } = this.#rig;
    memory.header(lane, 0, FuseOpcode.GETATTR, this.#nodeid, GetattrIn.size);
    this.#heads[lane] = queue.chain(lane, [
      ...memory.requestParts(lane, 0, GetattrIn.size, isMerged),
      ...memory.replyParts(lane, AttrOut.size, isMerged),
    ]);
  }

  next(lane: number): number {
    return this.#heads[lane]!;
  }

  done(): number {
    return 1;
  }
}
