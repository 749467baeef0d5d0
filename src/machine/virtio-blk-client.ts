/**
 * A virtio-blk driver: the guest's side of a disk, one method per request type.
 *
 * What the device refuses is a value, its VIRTIO_BLK_S_ status. Nothing is cached and nothing is retried.
 */
import {
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_SECTOR,
  VirtioBlkConfig,
  VirtioBlkHeader,
  VirtioBlkRequestType,
} from '../../protocol/virtio-blk.ts';
import { ProtocolError } from '../errors.ts';
import type { GuestBuffer } from './guest-ram.ts';
import type { GuestQueue } from './guest-queue.ts';
import { RequestChannel, type RequestChannelOptions, type SentRequest } from './request-channel.ts';

const { IN, OUT, FLUSH, GET_ID } = VirtioBlkRequestType;
const STATUS_SIZE = 1;

export interface VirtioBlkClientOptions extends Omit<RequestChannelOptions, 'depth'> {
  /** Requests that may be in flight. Default 16. */
  readonly depth?: number;
}

export class VirtioBlkClient {
  readonly #requests: RequestChannel;

  /** @param queue one of the device's request queues; it has no others */
  constructor(queue: GuestQueue, { depth = 16, ...options }: VirtioBlkClientOptions) {
    this.#requests = new RequestChannel(queue, { depth, ...options });
  }

  /**
   * Reads whole sectors.
   *
   * @param sector in units of 512 bytes, as all sectors here
   * @returns VirtioBlkStatus
   */
  read(sector: bigint, buffers: readonly GuestBuffer[]): number {
    return this.finish(this.startRead(sector, buffers));
  }

  /** `read`, not waited for. */
  startRead(sector: bigint, buffers: readonly GuestBuffer[]): SentRequest {
    assertSectors(buffers);
    return this.#start(IN, sector, { dataOut: buffers });
  }

  /** Writes whole sectors. @returns VirtioBlkStatus */
  write(sector: bigint, buffers: readonly GuestBuffer[]): number {
    return this.finish(this.startWrite(sector, buffers));
  }

  /** `write`, not waited for. */
  startWrite(sector: bigint, buffers: readonly GuestBuffer[]): SentRequest {
    assertSectors(buffers);
    return this.#start(OUT, sector, { dataIn: buffers });
  }

  /** Makes what was written durable; needs VIRTIO_BLK_F_FLUSH. @returns VirtioBlkStatus */
  flush(): number {
    return this.finish(this.#start(FLUSH, 0n, {}));
  }

  /** The serial number of the disk, or the status of a refusal. */
  getId(): string | number {
    const sent = this.#start(GET_ID, 0n, { fixedSize: VIRTIO_BLK_ID_BYTES });
    const status = this.finish(sent);
    if (status !== 0) return status;
    const end = sent.answer.indexOf(0);
    const length = end < 0 ? VIRTIO_BLK_ID_BYTES : Math.min(end, VIRTIO_BLK_ID_BYTES);
    return Buffer.from(sent.answer.subarray(0, length)).toString('latin1');
  }

  /**
   * Waits for a request.
   *
   * @returns VirtioBlkStatus
   * @throws {ProtocolError} TIMEOUT, CLOSED; BAD_VALUE if the device gave the request back without a status
   */
  finish(sent: SentRequest): number {
    this.#requests.finish(sent);
    if (sent.written < STATUS_SIZE)
      throw new ProtocolError('BAD_VALUE', 'a disk request came back without its status');
    return sent.answer.at(-1)!;
  }

  #start(
    type: number,
    sector: bigint,
    {
      fixedSize = 0,
      ...transfer
    }: {
      readonly dataIn?: readonly GuestBuffer[];
      readonly dataOut?: readonly GuestBuffer[];
      readonly fixedSize?: number;
    },
  ): SentRequest {
    const head = [VirtioBlkHeader.encode({ type, ioprio: 0, sector })];
    return this.#requests.start({ ...transfer, head, fixedSize, tailSize: STATUS_SIZE });
  }
}

/** A disk's configuration space, read through `getConfig`. Fields that a back-end leaves out are 0. */
export function readBlkConfig(getConfig: (offset: number, size: number) => Uint8Array): VirtioBlkConfig {
  const octets = new Uint8Array(VirtioBlkConfig.size);
  octets.set(getConfig(0, VirtioBlkConfig.size).subarray(0, VirtioBlkConfig.size));
  return VirtioBlkConfig.decode(octets);
}

function assertSectors(buffers: readonly GuestBuffer[]): void {
  const size = buffers.reduce((sum, { bytes }) => sum + bytes.length, 0);
  if (size === 0 || size % VIRTIO_BLK_SECTOR !== 0)
    throw new RangeError(`disk request for ${size} bytes, allowed whole sectors of ${VIRTIO_BLK_SECTOR}`);
}
