/** Requests that tell whether a device works: one good request and how to judge what comes back. */
import {
  InHeader,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FUSE_ROOT_ID,
  FuseOpcode,
  OutHeader,
} from '../../protocol/fuse.ts';
import { AttrOut } from '../../protocol/fuse-attributes.ts';
import { GetattrIn, InitIn, InitOut } from '../../protocol/fuse-requests.ts';
import type { DeviceName } from './case.ts';

/** A good request. */
export interface Probe {
  readonly name: string;
  /** What the device reads. */
  readonly readable: Uint8Array;
  /** Bytes the device may write. */
  readonly writable: number;
  /**
   * @param reply what the writable bytes hold now
   * @param written the length in the used element
   * @returns what is wrong with the answer; undefined if it is good
   */
  readonly judge: (reply: Uint8Array, written: number) => string | undefined;
}

export interface Device {
  readonly name: DeviceName;
  /** Rings it needs at least. */
  readonly queues: number;
  /** The ring that takes requests. */
  readonly requestQueue: number;
  /** @param count how many were made on this connection before */
  readonly probe: (count: number) => Probe;
}

/** `struct virtio_blk_req`: u32 type, u32 reserved, u64 sector; then data; then u8 status. virtio 1.2 § 5.2.6. */
const BLK_HEADER = 16;
export const BLK_SECTOR = 512;
const BLK_UNTOUCHED = 0xee;

const FS: Device = {
  name: 'fs',
  queues: 2,
  requestQueue: 1,
  probe: (count) => {
    const unique = BigInt(2 * count + 2);
    // The file system's session begins with INIT, and has only one.
    return count === 0
      ? fuseProbe('FUSE_INIT', unique, FuseOpcode.INIT, INIT, InitOut.size)
      : fuseProbe('FUSE_GETATTR', unique, FuseOpcode.GETATTR, GETATTR, AttrOut.size);
  },
};

const BLK: Device = {
  name: 'blk',
  queues: 1,
  requestQueue: 0,
  probe: () => ({
    name: 'VIRTIO_BLK_T_IN of sector 0',
    readable: new Uint8Array(BLK_HEADER),
    writable: BLK_SECTOR + 1,
    judge: (reply, written) => {
      const status = reply[BLK_SECTOR];
      if (status !== 0) return `status ${status === BLK_UNTOUCHED ? 'not written' : status}, expected 0`;
      return written > BLK_SECTOR + 1 ? `used length ${written}, allowed up to ${BLK_SECTOR + 1}` : undefined;
    },
  }),
};

/** Its requests are not known: only messages are answered. */
const ANY: Device = {
  name: 'any',
  queues: 0,
  requestQueue: 0,
  probe: () => {
    throw new RangeError('requests of this device are not known');
  },
};

export const DEVICES: { readonly [name in DeviceName]: Device } = { fs: FS, blk: BLK, any: ANY };

/** What writable bytes hold before a device writes them. */
export const UNTOUCHED = BLK_UNTOUCHED;

const INIT = InitIn.encode({
  major: FUSE_KERNEL_VERSION,
  minor: FUSE_KERNEL_MINOR_VERSION,
  maxReadahead: 0x2_0000,
  flags: 0,
  flags2: 0,
});
const GETATTR = GetattrIn.encode({ getattrFlags: 0, fh: 0n });

function fuseProbe(
  name: string,
  unique: bigint,
  opcode: FuseOpcode,
  argument: Uint8Array,
  replySize: number,
): Probe {
  const header = InHeader.encode({
    len: InHeader.size + argument.length,
    opcode,
    unique,
    nodeid: opcode === FuseOpcode.INIT ? 0n : BigInt(FUSE_ROOT_ID),
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    pid: process.pid,
    totalExtlen: 0,
  });
  return {
    name,
    readable: Buffer.concat([header, argument]),
    writable: OutHeader.size + replySize,
    judge: (reply, written) => {
      const out = OutHeader.decode(reply);
      if (out.unique !== unique) return `answers request ${out.unique}, expected ${unique}`;
      if (out.error !== 0) return `error ${out.error}, expected 0`;
      return out.len === written ? undefined : `says ${out.len} bytes, the used element ${written}`;
    },
  };
}
