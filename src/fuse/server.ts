/**
 * Serves FUSE requests: a chain in, a reply out, by the table of `operations.ts`.
 *
 * Nothing a guest puts into a chain makes this throw. What has no room for an answer, or no header to answer to, is
 * given back with used length 0; anything else that is wrong is answered with an error.
 *
 * Order of stores: the reply in whatever order, and the caller publishes the used index after it; so a guest that sees the
 * used element sees the whole reply.
 */
import { Errno, MAX_ERRNO } from '../../protocol/errno.ts';
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import { ForgetIn, InterruptIn, SetxattrIn } from '../../protocol/fuse-requests.ts';
import { FuseOpcode, InHeader, OutHeader } from '../../protocol/fuse.ts';
import { type Log, SILENT_LOG } from '../log.ts';
import type { Chain } from '../virtio/chain.ts';
import { copyBody, copyHeader, readBody, readHeader } from './decode.ts';
import { type Deferred, DeferredRequests } from './deferred.ts';
import {
  DEFERRED,
  type FileSystem,
  IN_FLIGHT,
  type Negotiated,
  NO_REPLY,
  type Operation,
} from './file-system.ts';
import { forgetMany } from './forgets.ts';
import { GuestBytes } from './guest-bytes.ts';
import { InFlightRequests } from './in-flight.ts';
import { negotiate } from './init.ts';
import { MOUNT_STATE_SIZE, type MountGate, MountState } from './mount-state.ts';
import { type OperationRow, OPERATIONS } from './operations.ts';
import { FuseRequest } from './request.ts';
import type { GuestAccess, HostMemory } from './scratch.ts';

/** Answer of `handle`: the chain is kept and completed later. The same as a vhost device's. */
export const CHAIN_DEFERRED = -1;

/** Gives a deferred chain back: its queue, `Chain.head`, and the bytes written into it. */
export type Complete = (queueIndex: number, head: number, written: number) => void;

export interface FuseServerOptions {
  readonly fileSystem: FileSystem;
  readonly host: HostMemory;
  readonly guest: GuestAccess;
  readonly log?: Log;
  /** For a device that several servers serve, each on its thread. */
  readonly shared?: SharedMount | undefined;
  /** Told the opcode of each request before the file system is asked. */
  readonly pulse?: { task: number } | undefined;
}

/** What the servers of a device share besides the file system. */
export interface SharedMount {
  readonly state: MountState;
  readonly gate: MountGate;
}

const ALONE: MountGate = {
  exclusively: (change) => {
    change();
    return true;
  },
  waitForHolder: () => undefined,
};

/** Opcodes are below this; the highest is 53. */
const OPCODES = 64;
const HEADER = InHeader.size;

export class FuseServer {
  /** Requests given back unanswered, or answered with an error without asking the file system. */
  refused = 0;
  /** Requests the kernel works on, if the file system has such. */
  readonly inFlight: InFlightRequests | undefined;

  readonly #fileSystem: FileSystem;
  readonly #log: Log;
  readonly #bytes: GuestBytes;
  readonly #request: FuseRequest;
  readonly #deferred: DeferredRequests;
  readonly #rows: readonly (OperationRow | undefined)[];
  readonly #methods: readonly (Operation | undefined)[];
  /** Bytes of each operation's arguments as the mounted guest sends them. */
  readonly #wireSize = new Uint16Array(OPCODES);
  readonly #mount: MountState;
  readonly #gate: MountGate;
  readonly #pulse: { task: number };
  /** INTERRUPTs that have been looked at. */
  #interruptsSeen = 0;
  /** Generation of the mount that `#negotiated` is of. */
  #seen = 0;
  #negotiated: Negotiated | undefined;

  constructor({ fileSystem, host, guest, log = SILENT_LOG, shared, pulse }: FuseServerOptions) {
    this.#mount = shared?.state ?? new MountState(host.allocate(MOUNT_STATE_SIZE));
    this.#gate = shared?.gate ?? ALONE;
    this.#pulse = pulse ?? { task: 0 };
    this.#fileSystem = fileSystem;
    this.#log = log;
    this.#bytes = new GuestBytes(host, guest);
    this.#request = new FuseRequest(host);
    this.#deferred = new DeferredRequests(this.#bytes, guest);
    const source = fileSystem.inFlight;
    this.inFlight = source && new InFlightRequests(source, this.#bytes, this.#request.output);
    this.#rows = Array.from({ length: OPCODES }, (_, opcode) => rowOf(opcode));
    this.#methods = this.#rows.map((row) => row && fileSystem[row.method]?.bind(fileSystem));
  }

  /** What INIT agreed on; undefined while nothing is mounted. */
  get negotiated(): Negotiated | undefined {
    return this.#negotiated;
  }

  /** Requests that wait for a lock. */
  get deferredCount(): number {
    return this.#deferred.count;
  }

  /**
   * Serves one chain.
   *
   * @param queueIndex named again when the chain is completed later
   * @returns bytes written into the writable segments, from the first on; or CHAIN_DEFERRED
   */
  handle(chain: Chain, queueIndex = 0): number {
    const request = this.#request;
    if (this.#mount.generation !== this.#seen) this.#follow();
    if (chain.readableBytes < HEADER) return this.#ignore('short header');
    copyHeader(this.#bytes, chain, request);
    request.replyRoom = chain.writableBytes - OutHeader.size;
    request.isRetry = false;
    request.isPayloadInPlace = false;
    const { opcode, length } = request;
    const isWhole = length >= HEADER && length <= chain.readableBytes;

    if (isSilent(opcode)) return isWhole ? this.#serveSilent(chain) : this.#ignore('length');
    if (request.replyRoom < 0) return this.#ignore('no room for a reply');
    if (!isWhole) return this.#refuse(chain, Errno.EINVAL);
    if (opcode === FuseOpcode.INIT) return this.#init(chain);
    if (opcode === FuseOpcode.DESTROY)
      return this.#gate.exclusively(() => this.#unmount())
        ? this.#reply(chain, 0)
        : this.#refuse(chain, Errno.EAGAIN);
    if (this.#negotiated === undefined) return this.#refuse(chain, Errno.EIO);
    return this.#serve(chain, queueIndex);
  }

  /** Answers a chain that breaks the rules of the ring, if its header can be read. Only sound segments are in it. */
  reject(chain: Chain): number {
    if (chain.readableBytes < HEADER || chain.writableBytes < OutHeader.size)
      return this.#ignore('broken chain');
    copyHeader(this.#bytes, chain, this.#request);
    return isSilent(this.#request.opcode) ? this.#ignore('broken chain') : this.#refuse(chain, Errno.EFAULT);
  }

  /**
   * Tries deferred requests again.
   *
   * @returns true if some still wait
   */
  retryDeferred(complete: Complete): boolean {
    if (this.#mount.generation !== this.#seen) this.#follow();
    this.#interruptsSeen = this.#mount.interruptsAfter(this.#interruptsSeen, (low, high) =>
      this.#deferred.interrupt(low, high),
    );
    this.#deferred.settle((deferred) => {
      const result = deferred.isInterrupted ? this.#cancel(deferred, Errno.EINTR) : this.#retry(deferred);
      if (result === DEFERRED) return false;
      complete(deferred.queueIndex, deferred.head, this.#replyLater(deferred, result));
      return true;
    });
    return this.#deferred.count > 0;
  }

  /**
   * Answers all deferred requests of a queue that is being stopped. Not EINTR: Linux makes ERESTARTSYS of it, which
   * without a signal reaches the guest's process as error 512.
   */
  drain(queueIndex: number, complete: Complete): void {
    this.inFlight?.settle(complete);
    this.#deferred.settle((deferred) => {
      if (deferred.queueIndex !== queueIndex) return false;
      complete(queueIndex, deferred.head, this.#replyLater(deferred, this.#cancel(deferred, Errno.EAGAIN)));
      return true;
    });
  }

  /** As `FileSystem.upkeep`. */
  upkeep(now: number): number {
    return this.#fileSystem.upkeep?.(now) ?? -1;
  }

  /** The device was reset, or the front-end has gone: nothing is mounted any more. Deferred requests are forgotten. */
  reset(): void {
    this.#deferred.clear();
    while (!this.#gate.exclusively(() => this.#unmount())) this.#gate.waitForHolder();
  }

  #serve(chain: Chain, queueIndex: number): number {
    const request = this.#request;
    const { opcode } = request;
    const row = opcode < OPCODES ? this.#rows[opcode] : undefined;
    const method = opcode < OPCODES ? this.#methods[opcode] : undefined;
    if (row === undefined || method === undefined) return this.#reply(chain, -Errno.ENOSYS);
    if (request.replyRoom < row.replySize) return this.#refuse(chain, Errno.EINVAL);
    const end = copyBody(this.#bytes, request, row, this.#wireSize[opcode]!);
    if (end < 0) return this.#refuse(chain, -end);
    const decoded = readBody(request, row, end);
    if (decoded < 0) return this.#refuse(chain, -decoded);
    this.#pulse.task = opcode;
    const result = method(request);
    if (result !== DEFERRED) {
      if (result !== IN_FLIGHT) return this.#reply(chain, result);
      this.inFlight!.keep(queueIndex, chain, request);
      return CHAIN_DEFERRED;
    }
    if (this.#deferred.count === 0) this.#interruptsSeen = this.#mount.interrupts;
    if (this.#deferred.keep(queueIndex, request, end, row.replySize)) return CHAIN_DEFERRED;
    this.#fileSystem.cancel?.(request);
    return this.#refuse(chain, Errno.ENOLCK);
  }

  /** Writes the reply. @param result what a method returned */
  #reply(chain: Chain, result: number): number {
    if (result === NO_REPLY) return 0;
    const request = this.#request;
    const size = this.#fillHeader(request.uniqueLo, request.uniqueHi, result, request.replyRoom);
    const written = OutHeader.size + size;
    this.#bytes.writeChain(chain, 0, request.isPayloadInPlace ? OutHeader.size : written, request.output);
    return written;
  }

  /** Writes the reply of a request that waited. @returns bytes written; 0 if the guest took the buffer away */
  #replyLater(deferred: Deferred, result: number): number {
    if (result === NO_REPLY) return 0;
    const size = this.#fillHeader(deferred.uniqueLo, deferred.uniqueHi, result, deferred.replyRoom);
    const written = OutHeader.size + size;
    return this.#deferred.write(deferred, 0, written, this.#request.output) ? written : 0;
  }

  /**
   * Fills the reply header. A payload longer than the guest has room for becomes EIO: the guest would not take part of it.
   *
   * @returns bytes of payload to write
   */
  #fillHeader(uniqueLo: number, uniqueHi: number, result: number, room: number): number {
    if (result < -MAX_ERRNO) throw new RangeError(`a file system's method returned ${result}`);
    const error = result < 0 ? result : result > room ? -Errno.EIO : 0;
    const size = error < 0 ? 0 : result;
    const words = this.#request.output.u32;
    words[OutHeader.offset.len / 4] = OutHeader.size + size;
    words[OutHeader.offset.error / 4] = error; // stores modulo 2^32: two's complement
    words[OutHeader.offset.unique / 4] = uniqueLo;
    words[OutHeader.offset.unique / 4 + 1] = uniqueHi;
    return size;
  }

  #retry(deferred: Deferred): number {
    const request = this.#request;
    const recalled = this.#recall(deferred);
    return recalled < 0 ? recalled : this.#methods[request.opcode]!(request);
  }

  /** Tells the file system that the request will not be tried again. @returns −errno */
  #cancel(deferred: Deferred, errno: number): number {
    if (this.#recall(deferred) === 0) this.#fileSystem.cancel?.(this.#request);
    return -errno;
  }

  /** Fills the request with one that was deferred. @returns 0 or −errno */
  #recall(deferred: Deferred): number {
    const request = this.#request;
    request.input.u8.set(deferred.octets);
    readHeader(request);
    request.chain = undefined;
    request.replyRoom = deferred.replyRoom;
    request.isRetry = true;
    request.isPayloadInPlace = false;
    const row = this.#rows[request.opcode]!;
    return readBody(request, row, deferred.octets.length);
  }

  #init(chain: Chain): number {
    const request = this.#request;
    const size = Math.min(request.length - HEADER, 256);
    this.#bytes.readChain(chain, HEADER, size, request.input, HEADER);
    const octets = request.input.u8.slice(HEADER, HEADER + size);
    const answer = negotiate(octets, this.#fileSystem.capabilities);
    if (answer.kind === 'refused') return this.#refuse(chain, answer.errno);
    if (request.replyRoom < answer.reply.length) return this.#refuse(chain, Errno.EINVAL);
    // A guest that crashed or was reset mounts again without DESTROY; its old mount is gone all the same.
    const isDone = this.#gate.exclusively(() => {
      this.#unmount();
      if (answer.kind === 'mounted') this.#begin(answer.negotiated);
    });
    if (!isDone) return this.#refuse(chain, Errno.EAGAIN);
    request.reply.u8.set(answer.reply);
    return this.#reply(chain, answer.reply.length);
  }

  #begin(negotiated: Negotiated): void {
    this.#seen = this.#mount.change(negotiated);
    this.#join(negotiated);
    this.#fileSystem.init?.(negotiated);
    this.#log.info({ minor: negotiated.minor, flags: negotiated.flags }, 'fuse_init');
  }

  #join(negotiated: Negotiated): void {
    this.#negotiated = negotiated;
    for (const [opcode, row] of this.#rows.entries()) this.#wireSize[opcode] = row?.wireSize ?? 0;
    if ((negotiated.flags & FuseInitFlag.SETXATTR_EXT) !== 0n)
      this.#wireSize[FuseOpcode.SETXATTR] = SetxattrIn.size;
  }

  #unmount(): void {
    if (this.#mount.generation !== this.#seen) this.#follow();
    if (this.#negotiated === undefined) return;
    this.#negotiated = undefined;
    this.#seen = this.#mount.change(undefined);
    this.#deferred.interruptAll();
    this.#fileSystem.destroy?.();
    this.#log.info({}, 'fuse_destroy');
  }

  /** Another server of the device has mounted or unmounted. */
  #follow(): void {
    this.#seen = this.#mount.generation;
    this.#deferred.interruptAll();
    this.#negotiated = undefined;
    const { negotiated } = this.#mount;
    if (negotiated === undefined) return;
    this.#join(negotiated);
    this.#fileSystem.join?.(negotiated);
  }

  /** FORGET, BATCH_FORGET, INTERRUPT: nothing is answered, whether or not there is room. */
  #serveSilent(chain: Chain): number {
    const request = this.#request;
    const { opcode, length } = request;
    if (this.#negotiated === undefined) return 0;
    if (opcode === FuseOpcode.BATCH_FORGET)
      return forgetMany(this.#bytes, chain, request, this.#fileSystem) ? 0 : this.#ignore('length');
    // Both are one number of 64 bits.
    if (length < HEADER + Math.max(ForgetIn.size, InterruptIn.size)) return this.#ignore('length');
    // Copied with the header.
    if (opcode === FuseOpcode.FORGET) this.#fileSystem.forget?.(request.nodeid, request.u64(0));
    else this.#mount.interrupt(request.arg[0]!, request.arg[1]!);
    return 0;
  }

  /** Answers with an error of our own. */
  #refuse(chain: Chain, errno: number): number {
    this.refused += 1;
    const { opcode, replyRoom } = this.#request;
    this.#log.debug({ opcode, errno, replyRoom }, 'fuse_request_refused');
    return this.#reply(chain, -errno);
  }

  /** Gives the chain back without an answer. */
  #ignore(reason: string): number {
    this.refused += 1;
    this.#log.debug({ reason }, 'fuse_request_ignored');
    return 0;
  }
}

const rowOf = (opcode: number): OperationRow | undefined =>
  (OPERATIONS as Readonly<Record<number, OperationRow>>)[opcode];

const isSilent = (opcode: number): boolean =>
  opcode === FuseOpcode.FORGET || opcode === FuseOpcode.BATCH_FORGET || opcode === FuseOpcode.INTERRUPT;
