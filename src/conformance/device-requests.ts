/** Requests of the devices we know beyond the probe of device.ts: unanswered ones, ones with effects, nonsense. */
import { EntryOut } from '../../protocol/fuse-attributes.ts';
import * as fuse from '../../protocol/fuse-requests.ts';
import { FUSE_ROOT_ID, FuseOpcode, InHeader, OutHeader } from '../../protocol/fuse.ts';
import { VIRTIO_BLK_SECTOR, VirtioBlkHeader, VirtioBlkRequestType } from '../../protocol/virtio-blk.ts';
import type { Device, Probe } from './device.ts';

/** The queues that take good requests. virtio 1.2 § 5.11.2: queue 0 of a file system is hiprio; § 5.2.2. */
export const requestQueues = (device: Device, queueCount: number): readonly number[] =>
  Array.from(
    { length: Math.max(0, queueCount - device.requestQueue) },
    (_, index) => device.requestQueue + index,
  );

/** A request that nothing is written for: FUSE_FORGET, on the ring `hiprio`, of a node nobody was given. */
export function unansweredProbe(): Probe {
  const body = fuse.ForgetIn.encode({ nlookup: 1n });
  const header = fuseHeader({
    opcode: FuseOpcode.FORGET,
    len: InHeader.size + body.length,
    nodeid: 0x7fff_0000n,
  });
  return {
    name: 'FUSE_FORGET',
    readable: Buffer.concat([header, body]),
    writable: 0,
    judge: (_, written) => (written === 0 ? undefined : `used length ${written}, expected 0`),
  };
}

/** A request that leaves a trace on a file system: it makes a directory. */
export function effectProbe(name: string): Probe {
  const body = Buffer.concat([fuse.MkdirIn.encode({ mode: 0o755, umask: 0o022 }), Buffer.from(`${name}\0`)]);
  const unique = nextUnique();
  const header = fuseHeader({ opcode: FuseOpcode.MKDIR, len: InHeader.size + body.length, unique });
  return {
    name: 'FUSE_MKDIR',
    readable: Buffer.concat([header, body]),
    writable: OutHeader.size + EntryOut.size,
    judge: (reply) => {
      const out = OutHeader.decode(reply);
      return out.unique === unique && out.error === 0 ? undefined : `error ${out.error}, expected 0`;
    },
  };
}

/** A request whose contents make no sense. */
export interface Nonsense extends Probe {
  /** Of the case about it. */
  readonly id: string;
}

/** Requests whose descriptors are sound and whose contents are not; the device may answer as it likes. */
export const nonsense = (device: Device): readonly Nonsense[] =>
  device.name === 'fs' ? fuseNonsense() : blkNonsense();

function fuseNonsense(): readonly Nonsense[] {
  const getattr = (header: Partial<HeaderFields>): Uint8Array =>
    Buffer.concat([
      fuseHeader({ opcode: FuseOpcode.GETATTR, len: 56, ...header }),
      fuse.GetattrIn.encode({ getattrFlags: 0, fh: 0n }),
    ]);
  const lookup = (len: number, name: string): Uint8Array =>
    Buffer.concat([fuseHeader({ opcode: FuseOpcode.LOOKUP, len }), Buffer.from(name)]);
  const read = fuse.ReadIn.encode({
    fh: 0xffff_ffffn,
    offset: 0n,
    size: 0xffff_ffff,
    readFlags: 0,
    lockOwner: 0n,
    flags: 0,
  });
  return [
    anyAnswer('opcode-unknown', 'an unknown opcode', getattr({ opcode: 0xdead }), 120),
    anyAnswer('opcode-zero', 'opcode 0', getattr({ opcode: 0 }), 120),
    anyAnswer('length-4-gib', 'a header that claims 4 GiB', getattr({ len: 0xffff_ffff }), 120),
    anyAnswer('length-zero', 'a header that claims nothing', getattr({ len: 0 }), 120),
    anyAnswer('length-short', 'a header that claims less than itself', getattr({ len: 39 }), 120),
    anyAnswer('node-unknown', 'a node that nobody was given', getattr({ nodeid: 0xdead_beefn }), 120),
    anyAnswer(
      'no-argument',
      'a request that ends behind its header',
      getattr({ len: 40 }).subarray(0, 40),
      120,
    ),
    anyAnswer('name-empty', 'an empty name', lookup(41, '\0'), 144),
    anyAnswer('name-endless', 'a name without its NUL', lookup(48, 'aaaaaaaa'), 144),
    anyAnswer('name-leaves', 'a name that leaves the directory', lookup(49, '../../..\0'), 144),
    anyAnswer(
      'read-4-gib',
      'a READ of 4 GiB into 120 bytes',
      Buffer.concat([fuseHeader({ opcode: FuseOpcode.READ, len: 80 }), read]),
      120,
    ),
    anyAnswer(
      'forget-many',
      'a BATCH_FORGET of 4 thousand million nodes',
      Buffer.concat([
        fuseHeader({ opcode: FuseOpcode.BATCH_FORGET, len: 48 }),
        fuse.BatchForgetIn.encode({ count: 0xffff_ffff }),
      ]),
      16,
    ),
  ];
}

function blkNonsense(): readonly Nonsense[] {
  const header = (type: number, sector = 0n): Uint8Array =>
    VirtioBlkHeader.encode({ type, ioprio: 0, sector });
  const { IN, OUT, FLUSH, GET_ID } = VirtioBlkRequestType;
  const room = VIRTIO_BLK_SECTOR + 1;
  return [
    anyAnswer('type-unknown', 'an unknown type', header(0xdead), room),
    anyAnswer('sector-beyond', 'a sector beyond the disk', header(IN, 2n ** 54n), room),
    anyAnswer('sector-wraps', 'a sector whose offset wraps', header(IN, 2n ** 64n - 1n), room),
    anyAnswer('read-odd', 'a read of no whole sector', header(IN), 100),
    anyAnswer('read-nothing', 'a read of nothing', header(IN), 1),
    anyAnswer('write-odd', 'a write of no whole sector', Buffer.concat([header(OUT), new Uint8Array(13)]), 1),
    anyAnswer('header-short', 'a header of 8 bytes', header(IN).subarray(0, 8), room),
    anyAnswer('flush-data', 'a flush with room for data', header(FLUSH), room),
    anyAnswer('id-short', 'room of 3 bytes for the serial number', header(GET_ID), 4),
  ];
}

interface HeaderFields {
  readonly opcode: number;
  readonly len: number;
  readonly nodeid: bigint;
  readonly unique: bigint;
}

let lastUnique = 1n << 40n;
const nextUnique = (): bigint => (lastUnique += 2n);

const fuseHeader = (fields: Partial<HeaderFields> & Pick<HeaderFields, 'opcode' | 'len'>): Uint8Array =>
  InHeader.encode({
    unique: nextUnique(),
    nodeid: BigInt(FUSE_ROOT_ID),
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    pid: process.pid,
    totalExtlen: 0,
    ...fields,
  });

/** Nothing is expected of the answer but that it fits. */
const anyAnswer = (id: string, name: string, readable: Uint8Array, writable: number): Nonsense => ({
  id,
  name,
  readable,
  writable,
  judge: (_, written) =>
    written > writable ? `used length ${written} of ${writable} writable bytes` : undefined,
});
