/**
 * The file that a stress run writes and reads through virtio-fs, a chunk per request. The octets of a chunk follow from
 * its number and version, so whatever comes back can be checked without a copy.
 */
import type { GuestDevice } from '../machine/virtio-fs-client.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../machine/virtio-fs-client.ts';
import type { PendingCall } from '../machine/fuse-channel.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import { errnoName } from '../errors.ts';
import { Violation } from './violation.ts';

const O_RDWR = 2;
const NAME = 'stress.bin';

export class SharedFile {
  readonly #client: VirtioFsClient;
  readonly #nodeid: bigint;
  readonly #fh: bigint;
  readonly #chunkSize: number;
  readonly #expected: Uint32Array;
  readonly #expectedBytes: Uint8Array;

  /** Mounts, and opens the file, which is made unless it is there. @throws {Violation} io, if it cannot be */
  constructor(device: GuestDevice, chunkSize: number, timeoutMs: number) {
    this.#chunkSize = chunkSize;
    this.#expected = new Uint32Array(chunkSize / 4);
    this.#expectedBytes = new Uint8Array(this.#expected.buffer);
    this.#client = new VirtioFsClient(device, 1, timeoutMs);
    try {
      expectAnswer(this.#client.init(), 'FUSE_INIT');
      this.#nodeid = this.#lookup();
      this.#fh = expectAnswer(this.#client.open(this.#nodeid, O_RDWR), 'FUSE_OPEN').fh;
    } catch (error) {
      if (error instanceof Error && error.name === 'Error')
        throw new Violation('io', error.message, { cause: error });
      throw error;
    }
  }

  /** @throws {Violation} io */
  write(chunk: number, version: number, buffer: GuestBuffer): void {
    this.#expect(chunk, version);
    buffer.bytes.set(this.#expectedBytes);
    const written = this.#client.write(this.#nodeid, this.#fh, chunk * this.#chunkSize, [buffer]);
    if (written !== this.#chunkSize)
      throw new Violation('io', `a write of ${this.#chunkSize} bytes was answered with ${amount(written)}`);
  }

  /** Begins to read a chunk; the buffer is blotted out first. */
  startRead(chunk: number, buffer: GuestBuffer): PendingCall {
    buffer.bytes.fill(0xa5);
    return this.#client.startRead(this.#nodeid, this.#fh, chunk * this.#chunkSize, [buffer]);
  }

  /** @param version what was written last; 0: nothing, and nothing is compared. @throws {Violation} io, lost */
  finishRead(pending: PendingCall, chunk: number, version: number, buffer: GuestBuffer): void {
    const size = this.#client.finish(pending);
    if (version === 0 && size >= 0) return; // never written: how long the file is depends on other chunks
    if (size !== this.#chunkSize)
      throw new Violation('io', `a read of ${this.#chunkSize} bytes was answered with ${amount(size)}`);
    this.#expect(chunk, version);
    if (Buffer.compare(buffer.bytes, this.#expectedBytes) !== 0)
      throw new Violation('lost', `chunk ${chunk}: ${difference(buffer.bytes, this.#expectedBytes)}`);
  }

  /** Closes the file and unmounts. */
  close(): void {
    this.#client.release(this.#nodeid, this.#fh);
    this.#client.forget(this.#nodeid);
    this.#client.destroy();
  }

  /** Always by LOOKUP, so that what the back-end holds of the file does not depend on who made it. */
  #lookup(): bigint {
    const found = this.#client.lookup(ROOT, NAME);
    if (typeof found !== 'number') return found.nodeid;
    const { entry, open } = expectAnswer(this.#client.create(ROOT, NAME, O_RDWR, 0o644), 'FUSE_CREATE');
    this.#client.release(entry.nodeid, open.fh);
    this.#client.forget(entry.nodeid);
    return expectAnswer(this.#client.lookup(ROOT, NAME), 'FUSE_LOOKUP').nodeid;
  }

  /** Octets no other chunk or version has. */
  #expect(chunk: number, version: number): void {
    let state = (Math.imul(chunk + 1, 0x9e37_79b1) ^ Math.imul(version + 1, 0x85eb_ca6b)) | 1;
    for (let i = 0; i < this.#expected.length; i += 1) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#expected[i] = state;
    }
  }
}

const amount = (result: number): string => (result < 0 ? errnoName(-result) : `${result} bytes`);

function difference(actual: Uint8Array, expected: Uint8Array): string {
  const wrong = actual.reduce((count, octet, at) => count + (octet === expected[at] ? 0 : 1), 0);
  const untouched = actual.every((octet) => octet === 0xa5);
  return untouched
    ? 'the buffer was not written to, though the request succeeded'
    : `${wrong} of ${actual.length} octets are not what was written last`;
}
