/** A disk in memory, for tests of its driver and of stress runs. */
import {
  VIRTIO_BLK_SECTOR,
  VirtioBlkConfig,
  VirtioBlkFeature,
  VirtioBlkHeader,
  VirtioBlkRequestType,
  VirtioBlkStatus,
} from '../../protocol/virtio-blk.ts';
import { maskOf } from '../../protocol/bits.ts';
import { viewOf } from '../../src/host/mapping.ts';
import type { VhostDevice } from '../../src/vhost/device.ts';
import type { Chain } from '../../src/virtio/chain.ts';

const { IN, OUT, FLUSH, GET_ID } = VirtioBlkRequestType;
const { OK, IOERR, UNSUPP } = VirtioBlkStatus;

export class PaperDisk implements VhostDevice {
  readonly features = maskOf(VirtioBlkFeature.FLUSH, VirtioBlkFeature.BLK_SIZE);
  readonly queueCount = 1;
  readonly maxQueueSize = 1024;
  readonly bytes: Uint8Array;
  flushes = 0;
  /** Gives requests back without their status. */
  isMute = false;

  constructor(sectors: number) {
    this.bytes = new Uint8Array(sectors * VIRTIO_BLK_SECTOR);
  }

  readConfig(): Uint8Array {
    const empty = VirtioBlkConfig.decode(new Uint8Array(VirtioBlkConfig.size));
    const capacity = BigInt(this.bytes.length / VIRTIO_BLK_SECTOR);
    return VirtioBlkConfig.encode({ ...empty, capacity, blkSize: 512, segMax: 126 });
  }

  handle(_queueIndex: number, chain: Chain): number {
    if (this.isMute) return 0;
    const segments = Array.from(
      { length: chain.readableCount + chain.writableCount },
      (_, i) => new Uint8Array(viewOf(chain.address[i]!, chain.length[i]!)),
    );
    const [head, ...dataIn] = segments.slice(0, chain.readableCount);
    const dataOut = segments.slice(chain.readableCount, -1);
    const { type, sector } = VirtioBlkHeader.decode(head!);
    segments.at(-1)![0] = this.#serve(type, Number(sector) * VIRTIO_BLK_SECTOR, { dataIn, dataOut });
    return chain.writableBytes;
  }

  reset(): void {
    // what was written stays
  }

  #serve(
    type: number,
    at: number,
    { dataIn, dataOut }: { readonly dataIn: readonly Uint8Array[]; readonly dataOut: readonly Uint8Array[] },
  ): number {
    const data = type === OUT ? dataIn : dataOut;
    const size = data.reduce((sum, { length }) => sum + length, 0);
    if (type === FLUSH) {
      this.flushes += 1;
      return OK;
    }
    if (type === GET_ID) {
      dataOut[0]!.set(Buffer.from('paper\0'));
      return OK;
    }
    if (type !== IN && type !== OUT) return UNSUPP;
    if (at + size > this.bytes.length) return IOERR;
    let done = at;
    for (const piece of data) {
      if (type === OUT) this.bytes.set(piece, done);
      else piece.set(this.bytes.subarray(done, done + piece.length));
      done += piece.length;
    }
    return OK;
  }
}
