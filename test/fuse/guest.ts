/**
 * A guest without virtqueue: 2 MiB of guest memory at a made-up physical address, in which requests are laid out as
 * chains of any shape, and a server on top of it.
 */
import { copyMemory, NativeMemory } from '../../src/host/native-memory.ts';
import type { FileSystem } from '../../src/fuse/file-system.ts';
import type { GuestAccess, HostMemory } from '../../src/fuse/scratch.ts';
import { FuseServer, type SharedMount } from '../../src/fuse/server.ts';
import { Chain } from '../../src/virtio/chain.ts';
import { InitIn } from '../../protocol/fuse-requests.ts';
import { FuseOpcode, InHeader, OutHeader } from '../../protocol/fuse.ts';

export const HOST: HostMemory = { allocate: (size) => NativeMemory.allocate(size), copy: copyMemory };

const BASE_GPA = 0x1_0000_0000;
/** What unused guest memory is filled with, to see writes outside the buffers. */
const CANARY = 0xa5;

const CANARIES = new Uint8Array(2 * 1024 * 1024).fill(CANARY);

export interface Header {
  readonly opcode: number;
  readonly nodeid?: bigint;
  readonly unique?: bigint;
  readonly uid?: number;
  readonly gid?: number;
  readonly totalExtlen?: number;
  /** What the header claims; the true length if not given. */
  readonly len?: number;
}

/** Where a chain's octets are cut into segments: sizes, the rest is one more segment. */
export interface Layout {
  readonly readable?: readonly number[];
  readonly writable?: readonly number[];
  /** Bytes left free between segments, so that they are neighbours (0) or not, aligned or not. */
  readonly gap?: number;
}

export interface Reply {
  readonly used: number;
  readonly header: OutHeader;
  readonly payload: Buffer;
}

export class Guest implements GuestAccess {
  readonly memory = NativeMemory.allocate(CANARIES.length);
  readonly chain = new Chain();
  readonly dirty: { readonly gpa: number; readonly size: number }[] = [];
  isLogging = false;
  lastAddress = 0;
  readonly lastWordsAddress = this.memory.address;
  /** Memory from this offset on is not there any more. */
  end = this.memory.size;
  #next = 0;

  translate(gpa: number, size: number): number {
    const offset = gpa - BASE_GPA;
    if (offset < 0 || offset >= this.end) return 0;
    this.lastAddress = this.memory.address + offset;
    return Math.min(size, this.end - offset);
  }

  wordsAround(): Uint32Array {
    return this.memory.u32;
  }

  markDirty(gpa: number, size: number): void {
    this.dirty.push({ gpa, size });
  }

  /** Lays out a chain with these octets to read and this much to write. */
  place(
    readable: Uint8Array,
    writable: number,
    { readable: cuts = [], writable: outCuts = [], gap = 64 }: Layout = {},
  ): void {
    this.memory.u8.fill(CANARY);
    this.#next = gap;
    this.chain.begin(7);
    let at = 0;
    for (const size of pieces(readable.length, cuts)) {
      this.memory.u8.set(readable.subarray(at, at + size), this.#next);
      this.#append(size, gap, false);
      at += size;
    }
    for (const size of pieces(writable, outCuts)) this.#append(size, gap, true);
  }

  /** Another chain beside the one placed, which stays as it is: both in one piece. */
  more(readable: Uint8Array, writable: number): Chain {
    const chain = new Chain(2);
    const at = this.memory.size / 2;
    chain.begin(8);
    this.memory.u8.set(readable, at);
    chain.append(this.memory.address + at, readable.length, BASE_GPA + at, false);
    const room = at + readable.length + 8;
    if (writable > 0) chain.append(this.memory.address + room, writable, BASE_GPA + room, true);
    return chain;
  }

  /** The writable octets, in order. */
  written(): Buffer {
    const { chain, memory } = this;
    const parts: Buffer[] = [];
    for (let i = chain.readableCount; i < chain.readableCount + chain.writableCount; i += 1) {
      const at = chain.address[i]! - memory.address;
      parts.push(Buffer.from(memory.u8.subarray(at, at + chain.length[i]!)));
    }
    return Buffer.concat(parts);
  }

  /** Takes the octets of all segments out of memory; true if only canaries are left. */
  isRestUntouched(): boolean {
    const { chain, memory } = this;
    for (let i = 0; i < chain.readableCount + chain.writableCount; i += 1) {
      const at = chain.address[i]! - memory.address;
      memory.u8.fill(CANARY, at, at + chain.length[i]!);
    }
    return Buffer.compare(memory.u8, CANARIES) === 0;
  }

  reply(used: number): Reply {
    const octets = this.written();
    return { used, header: OutHeader.decode(octets), payload: octets.subarray(OutHeader.size, used) };
  }

  #append(size: number, gap: number, isWritable: boolean): void {
    this.chain.append(this.memory.address + this.#next, size, BASE_GPA + this.#next, isWritable);
    this.#next += size + gap;
    if (this.#next > this.memory.size) throw new RangeError('the guest of this test is too small');
  }
}

function pieces(total: number, cuts: readonly number[]): number[] {
  const sizes: number[] = [];
  let left = total;
  for (const cut of cuts) {
    const size = Math.min(cut, left);
    if (size > 0) sizes.push(size);
    left -= size;
  }
  if (left > 0) sizes.push(left);
  return sizes;
}

/** Header and what follows it. */
export function message(
  { opcode, nodeid = 1n, unique = 0x1122_3344_5566_7788n, uid = 0, gid = 0, totalExtlen = 0, len }: Header,
  ...parts: readonly (Uint8Array | string)[]
): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const header = InHeader.encode({
    len: len ?? InHeader.size + body.length,
    opcode,
    unique,
    nodeid,
    uid,
    gid,
    pid: 42,
    totalExtlen,
  });
  return Buffer.concat([header, body]);
}

/** INIT of a guest that has every flag, or these. */
export const initMessage = (flags = 0xffff_ffff_7fff_ffffn, minor = 45): Buffer =>
  message(
    { opcode: FuseOpcode.INIT },
    InitIn.encode({
      major: 7,
      minor,
      maxReadahead: 128 * 1024,
      flags: Number(flags & 0xffff_ffffn),
      flags2: Number(flags >> 32n),
    }),
  );

const isWhole = (fileSystem: Partial<FileSystem>): fileSystem is FileSystem =>
  fileSystem.capabilities !== undefined;

/** A server for `fileSystem`, mounted unless told otherwise, and its guest. */
export class Mount {
  readonly guest = new Guest();
  readonly server: FuseServer;

  constructor(
    fileSystem: Partial<FileSystem> = {},
    { init = initMessage(), shared }: { readonly init?: Buffer | null; readonly shared?: SharedMount } = {},
  ) {
    this.server = new FuseServer({
      fileSystem: isWhole(fileSystem) ? fileSystem : { capabilities: {}, ...fileSystem },
      host: HOST,
      guest: this.guest,
      shared,
    });
    if (init !== null) this.send(init, 80);
  }

  /** Serves one request. @param room writable bytes, header included */
  send(octets: Uint8Array, room: number, layout?: Layout): Reply {
    this.guest.place(octets, room, layout);
    const used = this.server.handle(this.guest.chain);
    return room >= OutHeader.size && used >= 0
      ? this.guest.reply(used)
      : { used, header: { len: 0, error: 0, unique: 0n }, payload: Buffer.alloc(0) };
  }

  /** The error of a request, 0 if it succeeded; undefined if it was not answered. */
  errorOf(octets: Uint8Array, room = 4096, layout?: Layout): number | undefined {
    const { used, header } = this.send(octets, room, layout);
    return used === 0 ? undefined : header.error;
  }
}

/** The entries of an array of `struct iovec`: base and length. */
export function readIovecs(address: number, count: number): [number, number][] {
  const copy = NativeMemory.allocate(Math.max(16, count * 16));
  copyMemory(copy.address, address, count * 16);
  const entries = Array.from({ length: count }, (_, i): [number, number] => [
    Number(copy.view.getBigUint64(i * 16, true)),
    Number(copy.view.getBigUint64(i * 16 + 8, true)),
  ]);
  copy.unmap();
  return entries;
}
