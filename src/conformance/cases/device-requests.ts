/** What devices answer to requests that are sound, and cannot be done. */
import { EntryOut } from '../../../protocol/fuse-attributes.ts';
import { FUSE_ROOT_ID, FuseOpcode, InHeader, OutHeader } from '../../../protocol/fuse.ts';
import {
  VIRTIO_BLK_SECTOR,
  VirtioBlkHeader,
  VirtioBlkRequestType,
  VirtioBlkStatus,
} from '../../../protocol/virtio-blk.ts';
import type { ConformanceCase } from '../case.ts';
import type { Probe } from '../device.ts';
import { Plane } from '../plane.ts';

const ENOENT = 2;
const ENOSYS = 38;
const FUSE = 'virtio 1.2 § 5.11.6; linux/fuse.h';
const BLK = 'virtio 1.2 § 5.2.6';

export const DEVICE_REQUEST_CASES: readonly ConformanceCase[] = [
  {
    id: 'device.fs.missing-name',
    title: 'FUSE_LOOKUP of a name that is not there is answered with ENOENT',
    level: 'should',
    spec: {
      section: FUSE,
      says: 'an error is the negative errno in the header of the answer, and nothing behind it',
    },
    expected: 'error −2, 16 bytes, or an entry with node 0',
    needs: { device: ['fs'] },
    run: (rig) => runFs(rig, 'FUSE_LOOKUP', FuseOpcode.LOOKUP, 'no-such-name', -ENOENT),
  },
  {
    id: 'device.fs.unknown-opcode',
    title: 'An opcode that is not known is answered with ENOSYS',
    level: 'should',
    spec: { section: FUSE, says: 'ENOSYS tells the client that the server does not have the operation' },
    expected: 'error −38, 16 bytes',
    needs: { device: ['fs'] },
    run: (rig) => runFs(rig, 'opcode 4000', 4000, 'x', -ENOSYS),
  },
  {
    id: 'device.blk.unknown-type',
    title: 'A request of a type that is not known is answered with UNSUPP',
    level: 'should',
    spec: {
      section: BLK,
      says: 'the status is VIRTIO_BLK_S_UNSUPP for a request the device does not support',
    },
    expected: 'status 2',
    needs: { device: ['blk'] },
    run: (rig) => runBlk(rig, 'type 0xdead', { type: 0xdead, sector: 0n, room: 0 }, VirtioBlkStatus.UNSUPP),
  },
  {
    id: 'device.blk.beyond-capacity',
    title: 'A read beyond the end of the disk is answered with IOERR',
    level: 'should',
    spec: { section: BLK, says: 'the status is VIRTIO_BLK_S_IOERR for an error of device or driver' },
    expected: 'status 1',
    needs: { device: ['blk'] },
    run: (rig) => {
      const read = { type: VirtioBlkRequestType.IN, sector: 2n ** 50n, room: VIRTIO_BLK_SECTOR };
      runBlk(rig, 'a read of sector 2^50', read, VirtioBlkStatus.IOERR);
    },
  },
];

function runFs(
  rig: Parameters<ConformanceCase['run']>[0],
  name: string,
  opcode: number,
  argument: string,
  error: number,
): void {
  const unique = 0x7777n;
  const body = Buffer.from(`${argument}\0`);
  const header = InHeader.encode({
    len: InHeader.size + body.length,
    opcode,
    unique,
    nodeid: BigInt(FUSE_ROOT_ID),
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    pid: process.pid,
    totalExtlen: 0,
  });
  const probe: Probe = {
    name,
    readable: Buffer.concat([header, body]),
    writable: OutHeader.size + EntryOut.size,
    judge: (reply, written) => {
      const out = OutHeader.decode(reply);
      if (out.unique !== unique) return `answers request ${out.unique}, expected ${unique}`;
      // A server that lets the client cache what is missing answers an entry without a node.
      if (error === -ENOENT && out.error === 0 && EntryOut.decode(reply, OutHeader.size).nodeid === 0n)
        return undefined;
      if (out.error !== error) return `error ${out.error}, expected ${error}`;
      return written === OutHeader.size ? undefined : `used length ${written}, expected ${OutHeader.size}`;
    },
  };
  const ring = new Plane(rig).startRing();
  ring.request();
  ring.request({}, probe);
}

function runBlk(
  rig: Parameters<ConformanceCase['run']>[0],
  name: string,
  { type, sector, room }: { readonly type: number; readonly sector: bigint; readonly room: number },
  status: number,
): void {
  const probe: Probe = {
    name,
    readable: VirtioBlkHeader.encode({ type, ioprio: 0, sector }),
    writable: room + 1,
    judge: (reply) => (reply[room] === status ? undefined : `status ${reply[room]}, expected ${status}`),
  };
  const ring = new Plane(rig).startRing();
  ring.request();
  ring.request({}, probe);
}
