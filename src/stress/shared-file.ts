/** The file that a stress run writes and reads through virtio-fs, a chunk per request, over all request queues in turn. */
import { randomUUID } from 'node:crypto';
import { errnoName, ProtocolError } from '../errors.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import { expectAnswer, type GuestDevice, ROOT, VirtioFsClient } from '../machine/virtio-fs-client.ts';
import { BLOT, difference, Pattern } from './pattern.ts';
import type { FinishRead, StressStore } from './store.ts';
import { Violation } from './violation.ts';

const O_RDWR = 2;
/** Nobody else's: a directory that somebody serves may have files. The same for all runs of this process. */
const NAME = `vhost-user-stress-${process.pid}-${randomUUID()}`;

export class SharedFile implements StressStore {
  /** One for each request queue; the first has the mount. */
  readonly #clients: readonly VirtioFsClient[];
  readonly #nodeid: bigint;
  readonly #fh: bigint;
  readonly #chunkSize: number;
  readonly #pattern: Pattern;
  #turn = 0;

  /** Mounts, and opens the file, which is made unless it is there. @throws {Violation} io, if it cannot be */
  constructor(device: GuestDevice, chunkSize: number, timeoutMs: number) {
    this.#chunkSize = chunkSize;
    this.#pattern = new Pattern(chunkSize);
    this.#clients = device.queues.slice(1).map((_, i) => new VirtioFsClient(device, i + 1, timeoutMs));
    try {
      expectAnswer(this.#first.init(), 'FUSE_INIT');
      this.#nodeid = this.#lookup();
      this.#fh = expectAnswer(this.#first.open(this.#nodeid, O_RDWR), 'FUSE_OPEN').fh;
    } catch (error) {
      if (error instanceof ProtocolError || !(error instanceof Error)) throw error;
      throw new Violation('io', error.message, { cause: error });
    }
  }

  write(chunk: number, version: number, buffer: GuestBuffer): void {
    buffer.bytes.set(this.#pattern.of(chunk, version));
    const written = this.#next().write(this.#nodeid, this.#fh, chunk * this.#chunkSize, [buffer]);
    if (written !== this.#chunkSize)
      throw new Violation('io', `a write of ${this.#chunkSize} bytes was answered with ${amount(written)}`);
  }

  startRead(chunk: number, buffer: GuestBuffer): FinishRead {
    buffer.bytes.fill(BLOT);
    const client = this.#next();
    const pending = client.startRead(this.#nodeid, this.#fh, chunk * this.#chunkSize, [buffer]);
    return (version) => {
      const size = client.finish(pending);
      if (version === 0 && size >= 0) return; // never written: how long the file is depends on other chunks
      if (size !== this.#chunkSize)
        throw new Violation('io', `a read of ${this.#chunkSize} bytes was answered with ${amount(size)}`);
      const wrong = difference(buffer.bytes, this.#pattern.of(chunk, version));
      if (wrong !== undefined) throw new Violation('lost', `chunk ${chunk}: ${wrong}`);
    };
  }

  close(isLast: boolean): void {
    this.#first.release(this.#nodeid, this.#fh);
    if (isLast) this.#first.unlink(ROOT, NAME);
    this.#first.forget(this.#nodeid);
    this.#first.destroy();
  }

  get #first(): VirtioFsClient {
    return this.#clients[0]!;
  }

  #next(): VirtioFsClient {
    this.#turn = (this.#turn + 1) % this.#clients.length;
    return this.#clients[this.#turn]!;
  }

  /** Always by LOOKUP, so that what the back-end holds of the file does not depend on who made it. */
  #lookup(): bigint {
    const client = this.#first;
    const found = client.lookup(ROOT, NAME);
    if (typeof found !== 'number') return found.nodeid;
    const { entry, open } = expectAnswer(client.create(ROOT, NAME, O_RDWR, 0o644), 'FUSE_CREATE');
    client.release(entry.nodeid, open.fh);
    client.forget(entry.nodeid);
    return expectAnswer(client.lookup(ROOT, NAME), 'FUSE_LOOKUP').nodeid;
  }
}

const amount = (result: number): string => (result < 0 ? errnoName(-result) : `${result} bytes`);
