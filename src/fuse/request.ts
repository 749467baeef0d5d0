/**
 * One FUSE request as a file system sees it: header fields, arguments, names and extensions copied out of guest memory
 * and checked, and the guest's data buffers as iovecs for preadv and pwritev.
 *
 * There is one object per server, filled again for each request: a file system keeps nothing of it. Everything here is
 * a number or an address; nothing is allocated per request. `fuse/decode.ts` fills it, a file system only reads it and
 * fills `reply`.
 */
import type { Chain } from '../virtio/chain.ts';
import { InHeader, OutHeader } from '../../protocol/fuse.ts';
import { Iovecs } from './iovecs.ts';
import type { HostMemory, Scratch } from './scratch.ts';

/** Largest read or write, and so the largest reply: 256 pages. */
export const MAX_TRANSFER = 1024 * 1024;
/** Bytes a request may have besides WRITE's data: SETXATTR with its longest name and value (XATTR_SIZE_MAX), and some. */
export const MAX_REQUEST_COPY = 80 * 1024;

const TWO_32 = 0x1_0000_0000;
const ARGUMENT_WORD = InHeader.size / 4;

export class FuseRequest {
  opcode = 0;
  /** 64 bits as a number: exact below 2^53, which no id we hand out exceeds, so an inexact one is simply unknown. */
  nodeid = 0;
  /** User the guest process acts as. FUSE_INVALID_UIDGID in requests that create nothing, once ALLOW_IDMAP is on. */
  uid = 0;
  gid = 0;
  /** Thread id in the guest. */
  pid = 0;
  /** The request's id, low and high 32 bits. */
  uniqueLo = 0;
  uniqueHi = 0;
  /** The same request was DEFERRED before, and is tried again. */
  isRetry = false;

  /**
   * The fixed arguments, in words of 32 bits: word 0 is the first. They have the layout of the operation's struct in
   * `operations.ts`; a field that an older form of the struct lacks is 0. What lies beyond is not the request's.
   */
  readonly arg: Uint32Array;
  /** Address of the arguments in scratch. */
  readonly argAddress: number;

  /** Addresses of the names, each NUL-terminated, checked and in scratch. */
  readonly nameAddress = new Float64Array(2);
  /** Bytes of each name, its NUL not counted. */
  readonly nameLength = new Int32Array(2);

  /** SETXATTR's value or IOCTL's input, in scratch. */
  valueAddress = 0;
  valueSize = 0;

  /** Supplementary groups that came along (CREATE_SUPP_GROUP): `groupCount` gids of 32 bits at `groupsAddress`. */
  groupsAddress = 0;
  groupCount = 0;
  /** The first security context (SECURITY_CTX): name of the xattr, NUL-terminated, and its value. Length 0: none. */
  secctxNameAddress = 0;
  secctxNameLength = 0;
  secctxAddress = 0;
  secctxSize = 0;

  /** Where a method builds its payload, from byte 0. Its content before is undefined: write every octet that counts. */
  readonly reply: Scratch;
  /** Bytes of payload the guest has room for: its writable buffers less the 16-byte header. */
  replyRoom = 0;
  /** The payload is already in the guest's buffers, not in `reply`. `prepareDataOut` says so. */
  isPayloadInPlace = false;

  /** Which of the requests in flight this is, for a method that returns IN_FLIGHT. */
  ticket = 0;

  /** @internal The chain served; undefined while a deferred request is retried, which has no data buffers. */
  chain: Chain | undefined = undefined;
  /** @internal Octets of the request that `copyHeader` has copied, header included. */
  copied = 0;
  /** @internal Bytes of the request by its header, checked against the chain. */
  length = 0;
  /** @internal Where the data after the arguments starts, in bytes of the chain's readable part. */
  dataStart = 0;
  /** @internal The copied request: header, arguments, names. */
  readonly input: Scratch;
  /** @internal The whole reply: its header, then the octets of `reply`. */
  readonly output: Scratch;
  readonly #iovecs: Iovecs;

  constructor(host: Pick<HostMemory, 'allocate'>) {
    this.input = host.allocate(MAX_REQUEST_COPY);
    this.output = host.allocate(OutHeader.size + MAX_TRANSFER);
    this.reply = behindHeader(this.output);
    this.arg = this.input.u32.subarray(ARGUMENT_WORD);
    this.argAddress = this.input.address + InHeader.size;
    this.#iovecs = new Iovecs(host);
  }

  /** The 32-bit argument at byte `offset`, a multiple of 4: `request.u32(ReadIn.offset.size)`. */
  u32(offset: number): number {
    return this.arg[offset >>> 2]!;
  }

  /** The signed 32-bit argument at byte `offset`. */
  i32(offset: number): number {
    return this.arg[offset >>> 2]! | 0;
  }

  /**
   * The unsigned 64-bit argument at byte `offset`, as a number. From 2^53 on it is rounded, but not to less than 2^53:
   * a check against Number.MAX_SAFE_INTEGER is right, but identities of all 64 bits (lock owners) need both words.
   */
  u64(offset: number): number {
    return this.arg[offset >>> 2]! + this.arg[(offset >>> 2) + 1]! * TWO_32;
  }

  /** Whether the method may return IN_FLIGHT: the reply's header is in one piece, so it can be written later. */
  get mayFly(): boolean {
    const { chain } = this;
    return chain !== undefined && chain.length[chain.readableCount]! >= OutHeader.size;
  }

  /** A name as text, for logs only: it allocates. Octets that are not UTF-8 are replaced. */
  nameText(index: number): string {
    const start = this.nameAddress[index]! - this.input.address;
    return Buffer.from(this.input.u8.subarray(start, start + this.nameLength[index]!)).toString();
  }

  /** Address of the iovecs that `prepareDataIn` or `prepareDataOut` made. */
  get iovecAddress(): number {
    return this.#iovecs.address;
  }

  /** Address of the data, when there is one iovec: pread takes less time than preadv. */
  get dataAddress(): number {
    return this.#iovecs.base;
  }

  /** How many there are: at most 1024, as preadv takes. */
  get iovecCount(): number {
    return this.#iovecs.count;
  }

  /** Copies the iovecs to word `at` of other memory, for who needs them longer. */
  copyIovecs(words: Uint32Array, at: number): void {
    this.#iovecs.copyTo(words, at);
  }

  /**
   * Makes iovecs of the guest's reply buffers behind the header: what preadv may fill. The payload then lies there, so
   * `reply` is not copied, and the method returns how many bytes it put there, counted from byte 0.
   *
   * @param size bytes wanted
   * @param from first byte of the payload the iovecs start at: for what did not fit the iovecs of the call before
   * @returns bytes covered; less than `size` if the room ends or 1024 iovecs are used up. 0 if nothing is left
   */
  prepareDataOut(size: number, from = 0): number {
    this.isPayloadInPlace = true;
    if (this.chain === undefined) return 0;
    return this.#iovecs.writable(this.chain, OutHeader.size + from, Math.min(size, this.replyRoom - from));
  }

  /**
   * Makes iovecs of WRITE's octets: what pwritev may write. They lie in guest memory, which may change at any time.
   *
   * @param size bytes wanted
   * @param from first of them, as for `prepareDataOut`
   * @returns bytes covered; less than `size` if the request is shorter or 1024 iovecs are used up
   */
  prepareDataIn(size: number, from = 0): number {
    if (this.chain === undefined) return 0;
    const start = this.dataStart + from;
    return this.#iovecs.readable(this.chain, start, Math.min(size, this.length - start));
  }
}

/** The part of a reply's scratch that is payload, in the widths the whole has. */
function behindHeader({ address, size, u8, u16, u32, i32, view }: Scratch): Scratch {
  const header = OutHeader.size;
  return {
    address: address + header,
    size: size - header,
    u8: u8.subarray(header),
    u16: u16.subarray(header / 2),
    u32: u32.subarray(header / 4),
    i32: i32.subarray(header / 4),
    view: new DataView(view.buffer, view.byteOffset + header),
  };
}
