/** The base region of a machine as words, and requests in it: each lane has a page for what it asks and room for what it hears. */
import { InHeader, OutHeader } from '../../protocol/fuse.ts';
import type { GuestRam } from '../../src/machine/guest-ram.ts';
import type { Part } from './bench-queue.ts';

const PAGE = 4096;
/** Room for a reply: a READDIRPLUS of 32 KiB and its header. */
const REPLY = 9 * PAGE;
/** Requests a lane has, each in a part of its page. */
const STEP = 512;

const ARGUMENTS = InHeader.size;

export class BenchMemory {
  /** The base region; the index of a word is its guest physical address / 4. */
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
  readonly #ram: GuestRam;
  readonly #requests: number;
  readonly #replies: number;

  constructor(ram: GuestRam, lanes: number) {
    this.#ram = ram;
    const { buffer } = ram.allocate(PAGE, PAGE).bytes;
    this.words = new Uint32Array(buffer, 0, ram.layout.baseSize / 4);
    this.bytes = new Uint8Array(buffer, 0, ram.layout.baseSize);
    this.#requests = this.allocate(lanes * PAGE, PAGE);
    this.#replies = this.allocate(lanes * REPLY, PAGE);
  }

  /** @returns guest physical address */
  allocate(size: number, align: number): number {
    return this.#ram.allocate(size, align).gpa;
  }

  requestGpa(lane: number, step = 0): number {
    return this.#requests + lane * PAGE + step * STEP;
  }
  replyGpa(lane: number): number {
    return this.#replies + lane * REPLY;
  }

  /** Word of a request's argument at byte `offset`. */
  argument(lane: number, step: number, offset: number): number {
    return (this.requestGpa(lane, step) + ARGUMENTS + offset) / 4;
  }
  /** Word of a reply's field at byte `offset` after the header. */
  answer(lane: number, offset: number): number {
    return (this.replyGpa(lane) + OutHeader.size + offset) / 4;
  }

  /** Stores 64 bits at a word and the one after. */
  setU64(word: number, value: number): void {
    this.words[word] = value; // modulo 2^32
    this.words[word + 1] = value / 0x1_0000_0000;
  }
  u64(word: number): number {
    return this.words[word]! + this.words[word + 1]! * 0x1_0000_0000;
  }

  /** The error of a lane's reply: 0 or −errno. */
  errorOf(lane: number): number {
    return this.words[(this.replyGpa(lane) + OutHeader.offset.error) / 4]! | 0;
  }

  /** Writes a request's header. @param size bytes after it, WRITE's data included */
  header(lane: number, step: number, opcode: number, nodeid: number, size: number): void {
    const at = this.requestGpa(lane, step) / 4;
    const { words } = this;
    words.fill(0, at, at + STEP / 4);
    words[at + InHeader.offset.len / 4] = InHeader.size + size;
    words[at + InHeader.offset.opcode / 4] = opcode;
    words[at + InHeader.offset.unique / 4] = 2 * (lane + 1);
    words[at + InHeader.offset.uid / 4] = process.getuid?.() ?? 0;
    words[at + InHeader.offset.gid / 4] = process.getgid?.() ?? 0;
    this.setU64(at + InHeader.offset.nodeid / 4, nodeid);
  }

  /** Descriptors of a request: header and arguments as Linux sends them, apart, or in one. */
  requestParts(lane: number, step: number, size: number, isMerged: boolean): Part[] {
    return pieces(this.requestGpa(lane, step), InHeader.size, size, isMerged, false);
  }
  replyParts(lane: number, size: number, isMerged: boolean): Part[] {
    return pieces(this.replyGpa(lane), OutHeader.size, size, isMerged, true);
  }
}

function pieces(gpa: number, header: number, size: number, isMerged: boolean, isWritable: boolean): Part[] {
  if (isMerged || size === 0) return [{ gpa, size: header + size, isWritable }];
  return [
    { gpa, size: header, isWritable },
    { gpa: gpa + header, size, isWritable },
  ];
}
