/**
 * A virtio-fs client: the guest's side of a mount, one method per FUSE operation.
 *
 * Refusals are values, −errno, as the back-end sent them; `expectAnswer` turns them into errors where none is
 * expected. The client caches nothing and counts no references: who looks up, forgets.
 */
import { errnoName } from '../../protocol/errno.ts';
import {
  Dirent,
  Direntplus,
  EntryOut,
  AttrOut,
  OpenOut,
  recordAlign,
} from '../../protocol/fuse-attributes.ts';
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import * as fuse from '../../protocol/fuse-requests.ts';
import {
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FUSE_ROOT_ID,
  FuseOpcode,
} from '../../protocol/fuse.ts';
import { FuseChannel, type FuseAnswer, type FuseCall, type PendingCall } from './fuse-channel.ts';
import type { GuestAllocator } from './guest-allocator.ts';
import type { GuestQueue } from './guest-queue.ts';
import type { GuestBuffer } from './guest-ram.ts';

export const ROOT = BigInt(FUSE_ROOT_ID);

/** What was asked for, or −errno. */
export type Answer<T extends object> = T | number;

/** One entry of a directory. */
export interface DirectoryEntry {
  readonly name: string;
  /** Where the next READDIRPLUS goes on. */
  readonly off: bigint;
  /** With nodeid 0 the entry gives no reference: "." and "..". */
  readonly entry: EntryOut;
}

/** @throws {Error} if the answer is a refusal */
export function expectAnswer<T extends object>(answer: Answer<T>, what: string): T {
  if (typeof answer === 'number') throw new Error(`${what}: ${errnoName(-answer)}`);
  return answer;
}

const WANTED_FLAGS = [
  'ASYNC_READ',
  'BIG_WRITES',
  'DO_READDIRPLUS',
  'READDIRPLUS_AUTO',
  'PARALLEL_DIROPS',
  'MAX_PAGES',
  'ASYNC_DIO',
  'ATOMIC_O_TRUNC',
  'INIT_EXT',
] as const satisfies readonly (keyof typeof FuseInitFlag)[];

const DEPTH = 16;
const TIMEOUT_MS = 10_000;

/** What a driver finds of its device: the queues, and memory for its requests. `MachineDevice` and `LoopbackMachine` are such. */
export interface GuestDevice {
  readonly ram: GuestAllocator;
  readonly queues: readonly GuestQueue[];
}

export class VirtioFsClient {
  readonly #requests: FuseChannel;
  readonly #hiprio: FuseChannel;

  /**
   * @param requestQueue which of the device's queues carries the requests
   * @param timeoutMs how long an answer may take
   */
  constructor(device: GuestDevice, requestQueue = 1, timeoutMs = TIMEOUT_MS) {
    let unique = 0n;
    const options = {
      depth: DEPTH,
      timeoutMs,
      allocate: (size: number) => device.ram.allocate(size),
      nextUnique: () => (unique += 2n),
    };
    this.#hiprio = new FuseChannel(device.queues[0]!, options);
    this.#requests = new FuseChannel(device.queues[requestQueue]!, options);
  }

  /** FUSE_INIT. The mount begins. */
  init(): Answer<fuse.InitOut> {
    const flags = WANTED_FLAGS.reduce((mask, name) => mask | FuseInitFlag[name], 0n);
    const argument = fuse.InitIn.encode({
      major: FUSE_KERNEL_VERSION,
      minor: FUSE_KERNEL_MINOR_VERSION,
      maxReadahead: 1 << 20,
      flags: Number(flags & 0xffff_ffffn),
      flags2: Number(flags >> 32n),
    });
    return this.#ask(call(FuseOpcode.INIT, 0n, argument), fuse.InitOut);
  }

  /** FUSE_LOOKUP: takes a reference. */
  lookup(parent: bigint, name: string): Answer<EntryOut> {
    return this.#ask({ ...call(FuseOpcode.LOOKUP, parent), names: [name] }, EntryOut);
  }

  /** FUSE_FORGET: gives `count` references back. */
  forget(nodeid: bigint, count = 1n): void {
    const argument = fuse.ForgetIn.encode({ nlookup: count });
    this.#hiprio.call({ ...call(FuseOpcode.FORGET, nodeid, argument), replySize: undefined });
  }

  /** FUSE_GETATTR. */
  getattr(nodeid: bigint): Answer<AttrOut> {
    return this.#ask(
      call(FuseOpcode.GETATTR, nodeid, fuse.GetattrIn.encode({ getattrFlags: 0, fh: 0n })),
      AttrOut,
    );
  }

  /** FUSE_OPEN. @param flags O_… */
  open(nodeid: bigint, flags: number): Answer<OpenOut> {
    return this.#ask(call(FuseOpcode.OPEN, nodeid, fuse.OpenIn.encode({ flags, openFlags: 0 })), OpenOut);
  }

  /** FUSE_CREATE: takes a reference and opens. */
  create(
    parent: bigint,
    name: string,
    flags: number,
    mode: number,
  ): Answer<{ entry: EntryOut; open: OpenOut }> {
    const argument = fuse.CreateIn.encode({ flags, mode, umask: 0o022, openFlags: 0 });
    const request = { ...call(FuseOpcode.CREATE, parent, argument), names: [name] };
    const answer = this.#requests.call({ ...request, replySize: EntryOut.size + OpenOut.size });
    if (answer.error !== 0) return answer.error;
    return { entry: EntryOut.decode(answer.fixed), open: OpenOut.decode(answer.fixed, EntryOut.size) };
  }

  /** FUSE_READ. @returns bytes read into the buffers, or −errno */
  read(nodeid: bigint, fh: bigint, offset: number, buffers: readonly GuestBuffer[]): number {
    return this.finish(this.startRead(nodeid, fh, offset, buffers));
  }

  /** FUSE_READ, not waited for. */
  startRead(nodeid: bigint, fh: bigint, offset: number, buffers: readonly GuestBuffer[]): PendingCall {
    const argument = transfer(fh, offset, buffers);
    return this.#requests.start({
      ...call(FuseOpcode.READ, nodeid, fuse.ReadIn.encode({ ...argument, readFlags: 0 })),
      dataOut: buffers,
    });
  }

  /** FUSE_WRITE. @returns bytes written from the buffers, or −errno */
  write(nodeid: bigint, fh: bigint, offset: number, buffers: readonly GuestBuffer[]): number {
    return this.finishWrite(this.startWrite(nodeid, fh, offset, buffers));
  }

  /** FUSE_WRITE, not waited for. */
  startWrite(nodeid: bigint, fh: bigint, offset: number, buffers: readonly GuestBuffer[]): PendingCall {
    const argument = fuse.WriteIn.encode({ ...transfer(fh, offset, buffers), writeFlags: 0 });
    const request = { ...call(FuseOpcode.WRITE, nodeid, argument), dataIn: buffers };
    return this.#requests.start({ ...request, replySize: fuse.WriteOut.size });
  }

  /** Waits for a WRITE. @returns bytes written, or −errno */
  finishWrite(pending: PendingCall): number {
    const { error, fixed } = this.#requests.finish(pending);
    return error !== 0 ? error : fuse.WriteOut.decode(fixed).size;
  }

  /** Waits for a READ. @returns bytes read, or −errno */
  finish(pending: PendingCall): number {
    const answer = this.#requests.finish(pending);
    return answer.error !== 0 ? answer.error : answer.dataSize;
  }

  /** FUSE_RELEASE. @returns 0 or −errno */
  release(nodeid: bigint, fh: bigint): number {
    const argument = fuse.ReleaseIn.encode({ fh, flags: 0, releaseFlags: 0, lockOwner: 0n });
    return this.#do(call(FuseOpcode.RELEASE, nodeid, argument));
  }

  /** FUSE_MKDIR: takes a reference. */
  mkdir(parent: bigint, name: string, mode: number): Answer<EntryOut> {
    const argument = fuse.MkdirIn.encode({ mode, umask: 0o022 });
    return this.#ask({ ...call(FuseOpcode.MKDIR, parent, argument), names: [name] }, EntryOut);
  }

  /** FUSE_UNLINK. @returns 0 or −errno */
  unlink(parent: bigint, name: string): number {
    return this.#do({ ...call(FuseOpcode.UNLINK, parent), names: [name] });
  }

  /** FUSE_RMDIR. @returns 0 or −errno */
  rmdir(parent: bigint, name: string): number {
    return this.#do({ ...call(FuseOpcode.RMDIR, parent), names: [name] });
  }

  /** FUSE_OPENDIR. */
  opendir(nodeid: bigint): Answer<OpenOut> {
    return this.#ask(
      call(FuseOpcode.OPENDIR, nodeid, fuse.OpenIn.encode({ flags: 0, openFlags: 0 })),
      OpenOut,
    );
  }

  /** FUSE_RELEASEDIR. @returns 0 or −errno */
  releasedir(nodeid: bigint, fh: bigint): number {
    const argument = fuse.ReleaseIn.encode({ fh, flags: 0, releaseFlags: 0, lockOwner: 0n });
    return this.#do(call(FuseOpcode.RELEASEDIR, nodeid, argument));
  }

  /** FUSE_READDIRPLUS: takes a reference for each entry that has a nodeid. Empty at the end. */
  readdirplus(
    nodeid: bigint,
    fh: bigint,
    off: bigint,
    buffer: GuestBuffer,
  ): Answer<readonly DirectoryEntry[]> {
    const argument = { fh, offset: off, size: buffer.bytes.length, readFlags: 0, lockOwner: 0n, flags: 0 };
    const request = call(FuseOpcode.READDIRPLUS, nodeid, fuse.ReadIn.encode(argument));
    const { error, dataSize } = this.#requests.call({ ...request, dataOut: [buffer] });
    return error !== 0 ? error : decodeEntries(buffer.bytes.subarray(0, dataSize));
  }

  /** FUSE_STATFS. */
  statfs(nodeid: bigint): Answer<fuse.StatfsOut> {
    return this.#ask(call(FuseOpcode.STATFS, nodeid), fuse.StatfsOut);
  }

  /** FUSE_DESTROY. The mount ends. Some file systems do not answer it. @returns 0 or −errno */
  destroy(): number {
    return this.#do({ ...call(FuseOpcode.DESTROY, 0n), mayBeSilent: true });
  }

  #ask<T extends object>(
    request: FuseCall,
    reply: { size: number; decode: (octets: Uint8Array) => T },
  ): Answer<T> {
    const { error, fixed }: FuseAnswer = this.#requests.call({ ...request, replySize: reply.size });
    return error !== 0 ? error : reply.decode(fixed);
  }

  #do(request: FuseCall): number {
    return this.#requests.call(request).error;
  }
}

const call = (opcode: FuseOpcode, nodeid: bigint, argument: Uint8Array = new Uint8Array(0)): FuseCall => ({
  opcode,
  nodeid,
  arguments: argument,
  replySize: 0,
});

/** What ReadIn and WriteIn have in common. */
function transfer(fh: bigint, offset: number, buffers: readonly GuestBuffer[]) {
  const size = buffers.reduce((sum, { bytes }) => sum + bytes.length, 0);
  return { fh, offset: BigInt(offset), size, lockOwner: 0n, flags: 0 };
}

function decodeEntries(octets: Uint8Array): readonly DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at + Direntplus.size <= octets.length;) {
    const { entryOut, dirent } = Direntplus.decode(octets, at);
    const start = at + EntryOut.size + Dirent.size;
    const name = Buffer.from(octets.subarray(start, start + dirent.namelen)).toString();
    entries.push({ name, off: dirent.off, entry: entryOut });
    at += recordAlign(Direntplus.size + dirent.namelen);
  }
  return entries;
}
