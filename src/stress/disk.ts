/** The disk that a stress run writes and reads through virtio-blk: chunks from its first sector on. */
import { VIRTIO_BLK_SECTOR, VirtioBlkStatus } from '../../protocol/virtio-blk.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import { VirtioBlkClient } from '../machine/virtio-blk-client.ts';
import type { GuestDevice } from '../machine/virtio-fs-client.ts';
import { BLOT, difference, Pattern } from './pattern.ts';
import type { FinishRead, StressStore } from './store.ts';
import { Violation } from './violation.ts';

export class Disk implements StressStore {
  readonly #clients: readonly VirtioBlkClient[];
  readonly #chunkSize: number;
  readonly #pattern: Pattern;
  #turn = 0;

  /** @param chunkSize whole sectors */
  constructor({ queues, ram }: GuestDevice, chunkSize: number, timeoutMs: number) {
    const allocate = (size: number): GuestBuffer => ram.allocate(size);
    this.#chunkSize = chunkSize;
    this.#pattern = new Pattern(chunkSize);
    this.#clients = queues.map((queue) => new VirtioBlkClient(queue, { allocate, timeoutMs }));
  }

  write(chunk: number, version: number, buffer: GuestBuffer): void {
    buffer.bytes.set(this.#pattern.of(chunk, version));
    const status = this.#next().write(this.#sectorOf(chunk), [buffer]);
    if (status !== VirtioBlkStatus.OK)
      throw new Violation('io', `a write at chunk ${chunk} was answered with status ${status}`);
  }

  startRead(chunk: number, buffer: GuestBuffer): FinishRead {
    buffer.bytes.fill(BLOT);
    const client = this.#next();
    const sent = client.startRead(this.#sectorOf(chunk), [buffer]);
    return (version) => {
      const status = client.finish(sent);
      if (status !== VirtioBlkStatus.OK)
        throw new Violation('io', `a read of chunk ${chunk} was answered with status ${status}`);
      if (version === 0) return; // whatever the disk has held before
      const wrong = difference(buffer.bytes, this.#pattern.of(chunk, version));
      if (wrong !== undefined) throw new Violation('lost', `chunk ${chunk}: ${wrong}`);
    };
  }

  close(): void {
    // a disk is not told when its driver goes
  }

  #next(): VirtioBlkClient {
    this.#turn = (this.#turn + 1) % this.#clients.length;
    return this.#clients[this.#turn]!;
  }

  #sectorOf(chunk: number): bigint {
    return BigInt((chunk * this.#chunkSize) / VIRTIO_BLK_SECTOR);
  }
}
