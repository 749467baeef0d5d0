/**
 * A thread of a share that is busy with what others are busy with: it looks up, opens, moves and removes the same few
 * names, and uses what other threads have published of theirs. It checks that whatever answers is the file that was
 * asked for, and at the end has let go of all it had.
 */
import { workerData } from 'node:worker_threads';
import { Errno, errnoName } from '../../protocol/errno.ts';
import { AttrOut, Direntplus, EntryOut, recordAlign } from '../../protocol/fuse-attributes.ts';
import { FUSE_GETATTR_FH } from '../../protocol/fuse-flags.ts';
import {
  CreateIn,
  GetattrIn,
  LinkIn,
  LkIn,
  MkdirIn,
  OpenIn,
  ReadIn,
  ReleaseIn,
  Rename2In,
} from '../../protocol/fuse-requests.ts';
import { FuseOpcode, InHeader } from '../../protocol/fuse.ts';
import { FuseRequest } from '../../src/fuse/request.ts';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { PassthroughFs, type PassthroughHandover } from '../../src/passthrough/passthrough-fs.ts';

export interface BusyGuestSetup {
  readonly share: PassthroughHandover;
  readonly seed: number;
  readonly steps: number;
  /** What threads show one another: pieces of nodeid, handle, inode number. */
  readonly shown: SharedArrayBuffer;
  /** Counts threads that are ready. */
  readonly ready: SharedArrayBuffer;
  readonly threads: number;
}

/** Other threads are as busy, so any of these may be the answer. */
const ALLOWED = new Set<number>([
  Errno.ENOENT,
  Errno.EEXIST,
  Errno.ESTALE,
  Errno.ENFILE,
  Errno.EISDIR,
  Errno.ENOTDIR,
  Errno.EBADF,
  Errno.ENOTEMPTY,
  Errno.EINVAL,
  Errno.EAGAIN, // a lock
  Errno.EPERM, // a link to a directory
  Errno.ENOMEM, // seen once in a million, when a directory was opened by handle while others moved it
]);
const NAMES = 12;
const SHOWN = 16;
const ROOT = 1;
const TWO_32 = 2 ** 32;

interface Open {
  readonly nodeid: number;
  readonly fh: number;
  readonly ino: number;
  readonly isDirectory: boolean;
}

class BusyGuest {
  readonly #fs: PassthroughFs;
  readonly #request = new FuseRequest({ allocate: (size) => NativeMemory.allocate(size) });
  readonly #shown: Float64Array;
  /** Lookups this thread has to give back. */
  readonly #lookups = new Map<number, number>();
  /** A nodeid is the same inode for ever. */
  readonly #inodes = new Map<number, number>();
  readonly #directories = new Set<number>([ROOT]);
  readonly #open: Open[] = [];
  #state: number;

  constructor({ share, seed, shown }: BusyGuestSetup) {
    this.#fs = PassthroughFs.attach(share);
    this.#shown = new Float64Array(shown);
    this.#state = seed;
    this.#request.replyRoom = 4096;
  }

  run(steps: number): void {
    const moves = [
      (): void => this.#lookup(),
      (): void => this.#lookup(),
      (): void => this.#forget(),
      (): void => this.#create(),
      (): void => this.#openOne(),
      (): void => this.#release(),
      (): void => this.#getattr(),
      (): void => this.#useShown(),
      (): void => this.#useShown(),
      (): void => this.#unlink(),
      (): void => this.#rename(),
      (): void => this.#link(),
      (): void => this.#mkdir(),
      (): void => this.#rmdir(),
      (): void => this.#list(),
      (): void => this.#lock(),
      (): void => void this.#fs.upkeep(performance.timeOrigin + performance.now()),
    ];
    for (let i = 0; i < steps; i += 1) moves[this.#random(moves.length)]!();
    while (this.#open.length > 0) this.#release();
    for (const [nodeid, count] of this.#lookups) this.#fs.forget(nodeid, count);
    this.#fs.dispose();
  }

  #random(below: number): number {
    this.#state = (Math.imul(this.#state, 1103515245) + 12345) >>> 0;
    return (this.#state >>> 8) % below;
  }

  #pick<T>(all: readonly T[]): T | undefined {
    return all[this.#random(Math.max(all.length, 1))];
  }

  #begin(nodeid: number, argumentSize: number, names: readonly string[] = []): FuseRequest {
    const request = this.#request;
    request.nodeid = nodeid;
    request.uid = 0;
    request.gid = 0;
    request.groupCount = 0;
    request.arg.fill(0, 0, argumentSize / 4);
    let at = InHeader.size + argumentSize;
    for (const [i, name] of names.entries()) {
      request.nameAddress[i] = request.input.address + at;
      request.nameLength[i] = name.length;
      request.input.u8.set(Buffer.from(`${name}\0`), at);
      at += name.length + 1;
    }
    return request;
  }

  #set64(offset: number, value: number): void {
    this.#request.arg[offset / 4] = value;
    this.#request.arg[offset / 4 + 1] = value / TWO_32;
  }

  #checked(result: number, what: string): boolean {
    if (result < 0 && !ALLOWED.has(-result)) throw new Error(`${what}: ${errnoName(-result)}`);
    return result >= 0;
  }

  #reply64(offset: number): number {
    const { u32 } = this.#request.reply;
    return u32[offset / 4]! + u32[offset / 4 + 1]! * TWO_32;
  }

  /** An EntryOut at `at` of the reply is a lookup, and of the inode that this nodeid always was. */
  #countEntry(at: number): number {
    const nodeid = this.#reply64(at + EntryOut.offset.nodeid);
    if (nodeid === 0) return 0;
    const ino = this.#reply64(at + EntryOut.offset.attr);
    const known = this.#inodes.get(nodeid);
    if (known !== undefined && known !== ino) throw new Error(`nodeid ${nodeid} was ${known}, is ${ino}`);
    this.#inodes.set(nodeid, ino);
    this.#lookups.set(nodeid, (this.#lookups.get(nodeid) ?? 0) + 1);
    // The mode is the 16th word of attributes.
    const mode = this.#request.reply.u32[(at + EntryOut.offset.attr) / 4 + 15]!;
    if ((mode & 0o170000) === 0o040000) this.#directories.add(nodeid);
    return nodeid;
  }

  #name(): string {
    return `name-${this.#random(NAMES)}`;
  }

  #directory(): number {
    return this.#pick([...this.#directories])!;
  }

  #nodeid(): number {
    return this.#pick([...this.#lookups.keys()]) ?? ROOT;
  }

  #lookup(): void {
    const request = this.#begin(this.#directory(), 0, [this.#name()]);
    if (this.#checked(this.#fs.lookup(request), 'lookup')) this.#countEntry(0);
  }

  #forget(): void {
    const nodeid = this.#pick([...this.#lookups.keys()]);
    if (nodeid === undefined || this.#open.some((open) => open.nodeid === nodeid)) return;
    const held = this.#lookups.get(nodeid)!;
    const count = 1 + this.#random(held);
    this.#fs.forget(nodeid, count);
    if (count < held) this.#lookups.set(nodeid, held - count);
    else {
      this.#lookups.delete(nodeid);
      this.#directories.delete(nodeid);
    }
  }

  #create(): void {
    if (this.#open.length > 3) return;
    const request = this.#begin(this.#directory(), CreateIn.size, [this.#name()]);
    request.arg[CreateIn.offset.flags / 4] = 2;
    request.arg[CreateIn.offset.mode / 4] = 0o100644;
    if (!this.#checked(this.#fs.create(request), 'create')) return;
    const fh = this.#reply64(EntryOut.size);
    const nodeid = this.#countEntry(0);
    this.#opened(nodeid, fh, false);
  }

  #openOne(): void {
    if (this.#open.length > 3) return;
    const nodeid = this.#nodeid();
    const isDirectory = this.#directories.has(nodeid);
    const request = this.#begin(nodeid, OpenIn.size);
    const result = isDirectory ? this.#fs.opendir(request) : this.#fs.open(request);
    if (this.#checked(result, 'open') && nodeid !== ROOT) this.#opened(nodeid, this.#reply64(0), isDirectory);
    else if (result >= 0) this.#releaseHandle({ nodeid, fh: this.#reply64(0), ino: 0, isDirectory });
  }

  #opened(nodeid: number, fh: number, isDirectory: boolean): void {
    const open = { nodeid, fh, ino: this.#inodes.get(nodeid)!, isDirectory };
    this.#open.push(open);
    const at = this.#random(SHOWN) * 4;
    // Not at once for all three: who reads them together looks whether they belong together.
    this.#shown[at] = 0;
    this.#shown[at + 1] = fh;
    this.#shown[at + 2] = open.ino;
    this.#shown[at + 3] = nodeid + fh + open.ino;
    this.#shown[at] = nodeid;
  }

  #release(): void {
    if (this.#open.length === 0) return;
    const [open] = this.#open.splice(this.#random(this.#open.length), 1);
    this.#releaseHandle(open!);
  }

  #releaseHandle({ nodeid, fh, isDirectory }: Open): void {
    const request = this.#begin(nodeid, ReleaseIn.size);
    this.#set64(ReleaseIn.offset.fh, fh);
    const result = isDirectory ? this.#fs.releasedir(request) : this.#fs.release(request);
    if (result !== 0) throw new Error(`release: ${result}`);
  }

  #getattr(): void {
    const nodeid = this.#nodeid();
    const result = this.#fs.getattr(this.#begin(nodeid, GetattrIn.size));
    if (this.#checked(result, 'getattr') && nodeid !== ROOT) this.#expectInode(this.#inodes.get(nodeid)!);
  }

  #expectInode(ino: number): void {
    const seen = this.#reply64(AttrOut.offset.attr);
    if (seen !== ino) throw new Error(`attributes of inode ${seen}, asked for ${ino}`);
  }

  /** What another thread has open, and may be closing. */
  #useShown(): void {
    const at = this.#random(SHOWN) * 4;
    const [nodeid, fh, ino, sum] = this.#shown.slice(at, at + 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    if (nodeid === 0 || nodeid + fh + ino !== sum) return;
    const request = this.#begin(nodeid, GetattrIn.size);
    request.arg[GetattrIn.offset.getattrFlags / 4] = this.#random(2) * FUSE_GETATTR_FH;
    this.#set64(GetattrIn.offset.fh, fh);
    if (this.#checked(this.#fs.getattr(request), 'getattr of another')) this.#expectInode(ino);
  }

  #unlink(): void {
    this.#checked(this.#fs.unlink(this.#begin(this.#directory(), 0, [this.#name()])), 'unlink');
  }

  #rmdir(): void {
    const directory = `directory-${this.#random(3)}`;
    this.#checked(this.#fs.rmdir(this.#begin(this.#directory(), 0, [directory])), 'rmdir');
  }

  #mkdir(): void {
    const request = this.#begin(this.#directory(), MkdirIn.size, [`directory-${this.#random(3)}`]);
    request.arg[MkdirIn.offset.mode / 4] = 0o755;
    if (this.#checked(this.#fs.mkdir(request), 'mkdir')) this.#countEntry(0);
  }

  #rename(): void {
    const request = this.#begin(this.#directory(), Rename2In.size, [this.#name(), this.#name()]);
    this.#set64(Rename2In.offset.newdir, this.#directory());
    request.arg[Rename2In.offset.flags / 4] = this.#pick([0, 0, 1, 2])!;
    this.#checked(this.#fs.rename(request), 'rename');
  }

  #link(): void {
    const request = this.#begin(this.#directory(), LinkIn.size, [this.#name()]);
    this.#set64(LinkIn.offset.oldnodeid, this.#nodeid());
    if (this.#checked(this.#fs.link(request), 'link')) this.#countEntry(0);
  }

  /** Given back with the file. */
  #lock(): void {
    const open = this.#pick(this.#open.filter(({ isDirectory }) => !isDirectory));
    if (open === undefined) return;
    const request = this.#begin(open.nodeid, LkIn.size);
    request.opcode = this.#pick([FuseOpcode.SETLK, FuseOpcode.GETLK])!;
    this.#set64(LkIn.offset.fh, open.fh);
    this.#set64(LkIn.offset.owner, 1 + this.#random(4));
    const start = this.#random(8);
    this.#set64(LkIn.offset.lk, start);
    this.#set64(LkIn.offset.lk + 8, start + this.#random(8));
    request.arg[LkIn.offset.lk / 4 + 4] = this.#random(request.opcode === FuseOpcode.SETLK ? 3 : 2);
    request.arg[LkIn.offset.lk / 4 + 5] = 1;
    const isSet = request.opcode === FuseOpcode.SETLK;
    this.#checked(isSet ? this.#fs.setlk(request) : this.#fs.getlk(request), 'lock');
  }

  #list(): void {
    const open = this.#pick(this.#open.filter(({ isDirectory }) => isDirectory));
    if (open === undefined) return;
    const request = this.#begin(open.nodeid, ReadIn.size);
    this.#set64(ReadIn.offset.fh, open.fh);
    request.arg[ReadIn.offset.size / 4] = 4096;
    const size = this.#fs.readdirplus(request);
    this.#checked(size, 'readdirplus');
    for (let at = 0; at < size;) {
      this.#countEntry(at);
      const length = request.reply.u32[(at + EntryOut.size + 16) / 4]!;
      at += recordAlign(Direntplus.size + length);
    }
  }
}

const { data } = workerData as { data: BusyGuestSetup };
const guest = new BusyGuest(data);
// All of them at once, or the first is done before the second starts.
const ready = new Int32Array(data.ready);
Atomics.add(ready, 0, 1);
while (Atomics.load(ready, 0) < data.threads);
guest.run(data.steps);
