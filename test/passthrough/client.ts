/** A guest of one share: sends FUSE requests through `FuseServer` and decodes what comes back. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import { AttrOut, EntryOut, OpenOut } from '../../protocol/fuse-attributes.ts';
import * as wire from '../../protocol/fuse-requests.ts';
import { FuseOpcode, InHeader, OutHeader } from '../../protocol/fuse.ts';
import type { GuestAccess } from '../../src/fuse/scratch.ts';
import { FuseServer } from '../../src/fuse/server.ts';
import { copyMemory, NativeMemory } from '../../src/host/native-memory.ts';
import type { PassthroughOptions } from '../../src/passthrough/options.ts';
import { PassthroughFs, type PassthroughHandover } from '../../src/passthrough/passthrough-fs.ts';
import { Chain } from '../../src/virtio/chain.ts';

export const isRoot = process.geteuid?.() === 0;
if (!isRoot) console.log('test/passthrough: not root; tests of ownership and file handles are skipped');

const HALF = 2 * 1024 * 1024;
const PAGE = 4096;
const DEFERRED_CHAIN = -1;

/** The header's other fields. */
interface Caller {
  readonly uid?: number;
  readonly gid?: number;
  /** Supplementary group sent along (CREATE_SUPP_GROUP). */
  readonly group?: number;
}

export interface Entry {
  readonly nodeid: bigint;
  readonly attr: AttrOut['attr'];
}

export interface Listed {
  readonly name: string;
  readonly off: bigint;
  readonly type: number;
  readonly nodeid: bigint;
}

export const DEFAULTS: PassthroughOptions = {
  sharedDir: '',
  cache: 'auto',
  writeback: false,
  allowDirectIo: false,
  readdirplus: true,
  xattr: true,
  posixAcl: false,
  killprivV2: true,
  announceSubmounts: true,
  inodeFileHandles: 'prefer',
  locks: 'host',
};

const u32 = (...values: number[]): Buffer => Buffer.from(new Uint32Array(values).buffer);
const u64 = (...values: bigint[]): Buffer =>
  Buffer.from(new BigUint64Array(values.map((v) => BigInt.asUintN(64, v))).buffer);
const cstring = (text: string | Buffer): Buffer => Buffer.concat([Buffer.from(text), Buffer.of(0)]);

export class Client implements Disposable {
  /** The directory that is shared; beside it in `outside` is what must not be reached. */
  readonly dir: string;
  readonly fs: PassthroughFs;
  readonly server: FuseServer;
  readonly #top: string;
  readonly #memory = NativeMemory.allocate(2 * HALF);
  #unique = 0n;

  /** @param use as `PassthroughFs` takes it */
  constructor(
    options: Partial<PassthroughOptions> = {},
    parent = tmpdir(),
    use: 'alone' | 'shared' | PassthroughHandover = 'alone',
  ) {
    this.#top = mkdtempSync(join(parent, 'share-'));
    this.dir = options.sharedDir ?? this.#top;
    this.fs = new PassthroughFs({ ...DEFAULTS, ...options, sharedDir: this.dir }, use);
    const memory = this.#memory;
    const guest: GuestAccess = {
      lastAddress: 0,
      lastWordsAddress: memory.address,
      isLogging: false,
      translate(gpa: number, size: number) {
        (this as { lastAddress: number }).lastAddress = gpa;
        return size;
      },
      wordsAround: () => memory.u32,
      markDirty: () => undefined,
    };
    const host = { allocate: (size: number) => NativeMemory.allocate(size), copy: copyMemory };
    this.server = new FuseServer({ fileSystem: this.fs, host, guest });
    this.mount();
  }

  /** The id of the request sent last. */
  get lastUnique(): bigint {
    return this.#unique;
  }

  mount(): void {
    const flags = 0xffff_ffff_7fff_ffffn & ~FuseInitFlag.INIT_RESERVED;
    const init = wire.InitIn.encode({
      major: 7,
      minor: 45,
      maxReadahead: 65536,
      flags: Number(flags & 0xffff_ffffn),
      flags2: Number(flags >> 32n),
    });
    this.send(FuseOpcode.INIT, 0n, [init]);
  }

  [Symbol.dispose](): void {
    this.fs.dispose();
    rmSync(this.#top, { recursive: true, force: true });
    this.#memory.unmap();
  }

  /** @returns payload, or −errno; undefined when the request waits */
  try(
    opcode: number,
    nodeid: bigint,
    parts: readonly Uint8Array[],
    { uid = 0, gid = 0, group }: Caller = {},
    room = 256 * 1024,
  ): Buffer | number | undefined {
    const extensions = group === undefined ? Buffer.alloc(0) : u32(16, 32, 1, group);
    const body = Buffer.concat([...parts, extensions]);
    this.#unique += 1n;
    const header = InHeader.encode({
      len: InHeader.size + body.length,
      opcode,
      unique: this.#unique,
      nodeid,
      uid,
      gid,
      pid: 4711,
      totalExtlen: extensions.length / 8,
    });
    const memory = this.#memory;
    memory.u8.set(header, PAGE);
    memory.u8.set(body, PAGE + InHeader.size);
    const chain = new Chain();
    chain.begin(Number(this.#unique));
    chain.append(memory.address + PAGE, header.length + body.length, 0, false);
    // The reply's data starts on a page of its own, as a guest's does.
    const reply = HALF + PAGE - OutHeader.size;
    chain.append(memory.address + reply, OutHeader.size + room, memory.address + reply, true);
    let used = this.server.handle(chain);
    // What the kernel works on is waited for; a lock that somebody else holds is not.
    this.server.inFlight?.settle((_queue, _head, written) => (used = written));
    if (used === DEFERRED_CHAIN) return undefined;
    if (used === 0) return Buffer.alloc(0);
    return this.#reply(reply, used);
  }

  #reply(at: number, used: number): Buffer | number {
    const octets = this.#memory.u8.subarray(at, at + used);
    const { error } = OutHeader.decode(octets);
    return error < 0 ? error : Buffer.from(octets.subarray(OutHeader.size));
  }

  /** Tries deferred requests again. @returns how each that was completed ended */
  retry(): number[] {
    const results: number[] = [];
    this.server.retryDeferred((_queue, _head, written) => {
      const result = this.#reply(HALF + PAGE - OutHeader.size, written);
      results.push(typeof result === 'number' ? result : 0);
    });
    return results;
  }

  /** A request that must succeed. */
  send(opcode: number, nodeid: bigint, parts: readonly Uint8Array[], caller?: Caller, room?: number): Buffer {
    const result = this.try(opcode, nodeid, parts, caller, room);
    if (!Buffer.isBuffer(result)) throw new Error(`opcode ${opcode} on ${nodeid}: ${result}`);
    return result;
  }

  /** A request of which only 0 or −errno matters. */
  code(
    opcode: number,
    nodeid: bigint,
    parts: readonly Uint8Array[] = [],
    caller?: Caller,
  ): number | undefined {
    const result = this.try(opcode, nodeid, parts, caller);
    return Buffer.isBuffer(result) ? 0 : result;
  }

  lookup(name: string | Buffer, parent = 1n): Entry {
    return toEntry(this.send(FuseOpcode.LOOKUP, parent, [cstring(name)]));
  }

  lookupCode(name: string | Buffer, parent = 1n): number | undefined {
    return this.code(FuseOpcode.LOOKUP, parent, [cstring(name)]);
  }

  forget(nodeid: bigint, count = 1n): void {
    this.send(FuseOpcode.FORGET, nodeid, [u64(count)]);
  }

  getattr(nodeid: bigint): AttrOut['attr'] {
    return AttrOut.decode(this.send(FuseOpcode.GETATTR, nodeid, [u64(0n, 0n)])).attr;
  }

  getattrCode(nodeid: bigint): number | undefined {
    return this.code(FuseOpcode.GETATTR, nodeid, [u64(0n, 0n)]);
  }

  setattr(nodeid: bigint, fields: Partial<wire.SetattrIn>): AttrOut['attr'] {
    return AttrOut.decode(this.send(FuseOpcode.SETATTR, nodeid, [setattrIn(fields)])).attr;
  }

  mkdir(name: string, mode: number, caller: Caller = {}, umask = 0, parent = 1n): Entry {
    return toEntry(this.send(FuseOpcode.MKDIR, parent, [u32(mode, umask), cstring(name)], caller));
  }

  mknod(name: string, mode: number, rdev = 0, caller: Caller = {}, parent = 1n): Entry {
    return toEntry(this.send(FuseOpcode.MKNOD, parent, [u32(mode, rdev, 0, 0), cstring(name)], caller));
  }

  symlink(name: string, target: string, caller: Caller = {}, parent = 1n): Entry {
    return toEntry(this.send(FuseOpcode.SYMLINK, parent, [cstring(name), cstring(target)], caller));
  }

  readlink(nodeid: bigint): string {
    return this.send(FuseOpcode.READLINK, nodeid, []).toString();
  }

  link(nodeid: bigint, name: string, parent = 1n): Entry {
    return toEntry(this.send(FuseOpcode.LINK, parent, [u64(nodeid), cstring(name)]));
  }

  unlink(name: string, parent = 1n): number | undefined {
    return this.code(FuseOpcode.UNLINK, parent, [cstring(name)]);
  }

  rmdir(name: string, parent = 1n): number | undefined {
    return this.code(FuseOpcode.RMDIR, parent, [cstring(name)]);
  }

  rename(from: string, to: string, flags = 0, parent = 1n, toParent = parent): number | undefined {
    return this.code(FuseOpcode.RENAME2, parent, [u64(toParent), u32(flags, 0), cstring(from), cstring(to)]);
  }

  create(
    name: string,
    { flags = 2, mode = 0o644, umask = 0, openFlags = 0, parent = 1n, ...caller }: CreateOptions = {},
  ): Entry & { readonly fh: bigint } {
    const body = [u32(flags, mode, umask, openFlags), cstring(name)];
    return toCreated(this.send(FuseOpcode.CREATE, parent, body, caller));
  }

  tmpfile(mode: number, flags = 2, parent = 1n): Entry & { readonly fh: bigint } {
    return toCreated(this.send(FuseOpcode.TMPFILE, parent, [u32(flags, mode, 0, 0), cstring('/')]));
  }

  open(nodeid: bigint, flags = 2, openFlags = 0): OpenOut {
    return OpenOut.decode(this.send(FuseOpcode.OPEN, nodeid, [u32(flags, openFlags)]));
  }

  openCode(nodeid: bigint, flags = 2): number | undefined {
    return this.code(FuseOpcode.OPEN, nodeid, [u32(flags, 0)]);
  }

  opendir(nodeid = 1n): bigint {
    return OpenOut.decode(this.send(FuseOpcode.OPENDIR, nodeid, [u32(0, 0)])).fh;
  }

  release(nodeid: bigint, fh: bigint, lockOwner = 0n): number | undefined {
    return this.code(FuseOpcode.RELEASE, nodeid, [
      wire.ReleaseIn.encode({ fh, flags: 0, releaseFlags: lockOwner === 0n ? 0 : 1, lockOwner }),
    ]);
  }

  releasedir(nodeid: bigint, fh: bigint): number | undefined {
    return this.code(FuseOpcode.RELEASEDIR, nodeid, [
      wire.ReleaseIn.encode({ fh, flags: 0, releaseFlags: 0, lockOwner: 0n }),
    ]);
  }

  flush(nodeid: bigint, fh: bigint, lockOwner: bigint): number | undefined {
    return this.code(FuseOpcode.FLUSH, nodeid, [wire.FlushIn.encode({ fh, lockOwner })]);
  }

  read(nodeid: bigint, fh: bigint, offset: bigint, size: number): Buffer {
    const body = wire.ReadIn.encode({ fh, offset, size, readFlags: 0, lockOwner: 0n, flags: 0 });
    return this.send(FuseOpcode.READ, nodeid, [body], {}, size);
  }

  write(
    nodeid: bigint,
    fh: bigint,
    offset: bigint,
    data: Uint8Array | string,
    more: WriteOptions = {},
  ): number {
    const octets = Buffer.from(data);
    const { writeFlags = 0, flags = 0 } = more;
    const head = { fh, offset, size: octets.length, writeFlags, lockOwner: 0n, flags };
    return this.send(FuseOpcode.WRITE, nodeid, [wire.WriteIn.encode(head), octets]).readUInt32LE(0);
  }

  /** One READDIR or READDIRPLUS. */
  list(nodeid: bigint, fh: bigint, offset: bigint, size = 4096, isPlus = true): Listed[] {
    const opcode = isPlus ? FuseOpcode.READDIRPLUS : FuseOpcode.READDIR;
    const body = wire.ReadIn.encode({ fh, offset, size, readFlags: 0, lockOwner: 0n, flags: 0 });
    return toListed(this.send(opcode, nodeid, [body], {}, size), isPlus);
  }

  /** A whole directory; `between` runs after each reply. */
  listAll(nodeid = 1n, size = 4096, isPlus = true, between = (): void => undefined): Listed[] {
    const fh = this.opendir(nodeid);
    const all: Listed[] = [];
    for (let offset = 0n; ;) {
      const part = this.list(nodeid, fh, offset, size, isPlus);
      if (part.length === 0) break;
      all.push(...part);
      offset = part.at(-1)!.off;
      between();
    }
    this.releasedir(nodeid, fh);
    return all;
  }

  setxattr(
    nodeid: bigint,
    name: string,
    value: Uint8Array | string,
    flags = 0,
    setxattrFlags = 0,
  ): number | undefined {
    const octets = Buffer.from(value);
    const head = this.#hasSetxattrExt
      ? wire.SetxattrIn.encode({ size: octets.length, flags, setxattrFlags })
      : u32(octets.length, flags);
    return this.code(FuseOpcode.SETXATTR, nodeid, [head, cstring(name), octets]);
  }

  get #hasSetxattrExt(): boolean {
    return ((this.server.negotiated?.flags ?? 0n) & FuseInitFlag.SETXATTR_EXT) !== 0n;
  }

  getxattr(nodeid: bigint, name: string, size = 256): Buffer | number | undefined {
    return this.try(FuseOpcode.GETXATTR, nodeid, [u32(size, 0), cstring(name)]);
  }

  listxattr(nodeid: bigint, size = 4096): Buffer | number | undefined {
    return this.try(FuseOpcode.LISTXATTR, nodeid, [u32(size, 0)]);
  }

  removexattr(nodeid: bigint, name: string): number | undefined {
    return this.code(FuseOpcode.REMOVEXATTR, nodeid, [cstring(name)]);
  }

  lock(opcode: number, nodeid: bigint, lock: LockRequest): Buffer | number | undefined {
    const { fh, owner, start = 0n, end = 2n ** 63n - 1n, type, pid = 1, lkFlags = 0 } = lock;
    return this.try(opcode, nodeid, [
      wire.LkIn.encode({ fh, owner, lk: { start, end, type, pid }, lkFlags }),
    ]);
  }
}

export interface CreateOptions extends Caller {
  readonly flags?: number;
  readonly mode?: number;
  readonly umask?: number;
  readonly openFlags?: number;
  readonly parent?: bigint;
}
export interface WriteOptions {
  readonly writeFlags?: number;
  readonly flags?: number;
}
export interface LockRequest {
  readonly fh: bigint;
  readonly owner: bigint;
  readonly start?: bigint;
  readonly end?: bigint;
  readonly type: number;
  readonly pid?: number;
  readonly lkFlags?: number;
}

export const setattrIn = (fields: Partial<wire.SetattrIn>): Buffer =>
  wire.SetattrIn.encode({
    valid: 0,
    fh: 0n,
    size: 0n,
    lockOwner: 0n,
    atime: 0n,
    mtime: 0n,
    ctime: 0n,
    atimensec: 0,
    mtimensec: 0,
    ctimensec: 0,
    mode: 0,
    uid: 0,
    gid: 0,
    ...fields,
  });

function toEntry(payload: Buffer): Entry {
  const { nodeid, attr } = EntryOut.decode(payload);
  return { nodeid, attr };
}

function toCreated(payload: Buffer): Entry & { readonly fh: bigint } {
  return { ...toEntry(payload), fh: OpenOut.decode(payload, EntryOut.size).fh };
}

function toListed(payload: Buffer, isPlus: boolean): Listed[] {
  const listed: Listed[] = [];
  let at = 0;
  while (at < payload.length) {
    const nodeid = isPlus ? payload.readBigUInt64LE(at) : 0n;
    const head = isPlus ? at + EntryOut.size : at;
    const length = payload.readUInt32LE(head + 16);
    listed.push({
      nodeid,
      off: payload.readBigUInt64LE(head + 8),
      type: payload.readUInt32LE(head + 20),
      name: payload.toString('latin1', head + 24, head + 24 + length),
    });
    at = head + 24 + Math.ceil(length / 8) * 8;
  }
  return listed;
}

/** Descriptors this process has open. */
export const openFds = (): number => readdirSync('/proc/self/fd').length;
