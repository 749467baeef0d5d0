/** A file system of one file in memory, for tests of what carries requests. */
import { AttrOut, EntryOut, OpenOut } from '../../protocol/fuse-attributes.ts';
import { ReadIn, WriteIn, WriteOut } from '../../protocol/fuse-requests.ts';
import { Errno } from '../../protocol/errno.ts';
import type { FileSystem } from '../../src/fuse/file-system.ts';
import type { FuseRequest } from '../../src/fuse/request.ts';
import { viewOf } from '../../src/host/mapping.ts';

const FILE = 2;
/** The file goes by each of these: the second is what a stress run calls its own. */
const NAME = /^(file|vhost-user-stress-.*)$/;
const DIRECTORY_MODE = 0o040755;
const FILE_MODE = 0o100644;

export class PaperFileSystem implements FileSystem {
  readonly capabilities = {};
  readonly bytes = new Uint8Array(1 << 20);
  size = 0;
  forgotten = 0;

  lookup(request: FuseRequest): number {
    if (!NAME.test(request.nameText(0))) return -Errno.ENOENT;
    return reply(request, EntryOut.encode({ ...this.#entry, attr: this.#attr(FILE) }));
  }

  getattr(request: FuseRequest): number {
    const attr = this.#attr(request.nodeid);
    return reply(request, AttrOut.encode({ attrValid: 0n, attrValidNsec: 0, attr }));
  }

  open(request: FuseRequest): number {
    return reply(request, OpenOut.encode({ fh: 7n, openFlags: 0, backingId: 0 }));
  }

  read(request: FuseRequest): number {
    const offset = request.u64(ReadIn.offset.offset);
    const size = Math.max(0, Math.min(request.u32(ReadIn.offset.size), this.size - offset));
    const room = request.prepareDataOut(size);
    let at = offset;
    for (const buffer of buffersOf(request)) {
      buffer.set(this.bytes.subarray(at, at + buffer.length));
      at += buffer.length;
    }
    return room;
  }

  write(request: FuseRequest): number {
    const offset = request.u64(WriteIn.offset.offset);
    const size = request.prepareDataIn(request.u32(WriteIn.offset.size));
    let at = offset;
    for (const buffer of buffersOf(request)) {
      this.bytes.set(buffer, at);
      at += buffer.length;
    }
    this.size = Math.max(this.size, offset + size);
    return reply(request, WriteOut.encode({ size }));
  }

  release(): number {
    return 0;
  }

  forget(): void {
    this.forgotten += 1;
  }

  readonly #entry = {
    nodeid: BigInt(FILE),
    generation: 0n,
    entryValid: 0n,
    attrValid: 0n,
    entryValidNsec: 0,
    attrValidNsec: 0,
  };

  #attr(nodeid: number) {
    const time = { atime: 0n, mtime: 0n, ctime: 0n, atimensec: 0, mtimensec: 0, ctimensec: 0 };
    const mode = nodeid === FILE ? FILE_MODE : DIRECTORY_MODE;
    const owner = { uid: 0, gid: 0, nlink: 1, rdev: 0, blksize: 4096, flags: 0 };
    return { ino: BigInt(nodeid), size: BigInt(this.size), blocks: 0n, ...time, mode, ...owner };
  }
}

function reply(request: FuseRequest, octets: Uint8Array): number {
  request.reply.u8.set(octets);
  return octets.length;
}

/** The guest's buffers that were prepared last. */
function buffersOf(request: FuseRequest): readonly Uint8Array[] {
  if (request.iovecCount === 0) return [];
  const iovecs = new DataView(viewOf(request.iovecAddress, 16 * request.iovecCount));
  const word = (i: number): number => Number(iovecs.getBigUint64(8 * i, true));
  return Array.from(
    { length: request.iovecCount },
    (_, i) => new Uint8Array(viewOf(word(2 * i), word(2 * i + 1))),
  );
}
