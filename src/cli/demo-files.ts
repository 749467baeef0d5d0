/**
 * Files written, read back and compared, from and into buffers in the memory the guest has just then.
 *
 * Requests go out in batches: all of a batch are on their way while the caller does something else to the machine.
 */
import { crc32 } from 'node:zlib';
import { randomBytes } from 'node:crypto';
import { errnoName } from '../../protocol/errno.ts';
import type { PendingCall } from '../machine/fuse-channel.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import { expectAnswer, ROOT, type VirtioFsClient } from '../machine/virtio-fs-client.ts';
import { KiB, MiB } from '../units.ts';

/** Bytes of a request's data. */
const CHUNK = 128 * KiB;
const CHUNKS = 16;
const MAX_FILES = 8;
/** Requests that are under way together. */
export const BATCH = 8;
const O_RDWR = 2;
/** What chunks are made of: another piece of it for each. */
const POOL = randomBytes(2 * MiB);

interface DemoFile {
  readonly name: string;
  readonly nodeid: bigint;
  readonly fh: bigint;
  /** Checksums of what was written, in order. */
  readonly checksums: number[];
}

interface Transfer {
  readonly pending: PendingCall;
  readonly buffer: GuestBuffer;
  /** Of a read: what it should bring. Of a write: undefined. */
  readonly expected: number | undefined;
}

export class DemoFiles {
  /** Requests answered. */
  operations = 0;
  /** Bytes written and read. */
  bytes = 0;
  /** Chunks read back and compared, and those that were wrong. */
  compared = 0;
  wrong = 0;
  /** Files there have been. */
  count = 0;
  readonly #client: VirtioFsClient;
  readonly #bufferAt: (slot: number, offset: number, size: number) => GuestBuffer;
  readonly #files: DemoFile[] = [];
  #turn = 0;

  /** @param bufferAt memory of a slot that is plugged; offsets up to 1 MiB and a half are asked for */
  constructor(client: VirtioFsClient, bufferAt: (slot: number, offset: number, size: number) => GuestBuffer) {
    this.#client = client;
    this.#bufferAt = bufferAt;
  }

  /**
   * Sends a batch with buffers in the first `slots` slots, calls `meanwhile`, then takes the answers.
   *
   * @throws {Error} a request was refused, such as for want of space
   */
  batch(slots: number, meanwhile: () => void): void {
    const transfers: Transfer[] = [];
    if (slots > 0) {
      const file = this.#newest();
      for (let index = 0; index < BATCH; index += 1) {
        // In steps that have no factor in common with any number of slots below 257.
        this.#turn += 257;
        const offset = index * (CHUNK + 4 * KiB) + (this.#turn % 4096);
        const buffer = this.#bufferAt(this.#turn % slots, offset, CHUNK);
        transfers.push(index % 2 === 0 ? this.#startWrite(file, buffer) : this.#startRead(buffer));
      }
    }
    meanwhile();
    for (const transfer of transfers) this.#finish(transfer);
  }

  /** Reads every file as the host sees it. @returns chunks that are not as they were written */
  compareOnHost(readFile: (name: string) => Uint8Array): number {
    let different = 0;
    for (const { name, checksums } of this.#files) {
      const content = readFile(name);
      checksums.forEach((checksum, i) => {
        if (crc32(content.subarray(i * CHUNK, (i + 1) * CHUNK)) !== checksum) different += 1;
      });
      if (content.length !== checksums.length * CHUNK) different += 1;
    }
    return different;
  }

  /** Files that are there now. */
  get present(): number {
    return this.#files.length;
  }

  /** Removes all files. */
  clear(): void {
    while (this.#files.length > 0) this.#remove(this.#files.shift()!);
  }

  /** The file that has room; a new one if none has, in place of the oldest. */
  #newest(): DemoFile {
    const last = this.#files.at(-1);
    if (last !== undefined && last.checksums.length + BATCH / 2 <= CHUNKS) return last;
    if (this.#files.length === MAX_FILES) this.#remove(this.#files.shift()!);
    const name = `file-${this.count}`;
    const { entry, open } = expectAnswer(this.#client.create(ROOT, name, O_RDWR, 0o644), 'FUSE_CREATE');
    const file = { name, nodeid: entry.nodeid, fh: open.fh, checksums: [] };
    this.#files.push(file);
    this.count += 1;
    this.operations += 1;
    return file;
  }

  #startWrite({ nodeid, fh, checksums }: DemoFile, buffer: GuestBuffer): Transfer {
    const { bytes } = buffer;
    const from = (this.#turn * 4099) % (POOL.length - CHUNK);
    bytes.set(POOL.subarray(from, from + CHUNK));
    const offset = checksums.length * CHUNK;
    checksums.push(crc32(bytes));
    return { pending: this.#client.startWrite(nodeid, fh, offset, [buffer]), buffer, expected: undefined };
  }

  /** Any chunk of any file: also one that is being written just now, since a queue's requests are served in order. */
  #startRead(buffer: GuestBuffer): Transfer {
    const { nodeid, fh, checksums } = this.#files[this.#turn % this.#files.length]!;
    const chunk = this.#turn % checksums.length;
    buffer.bytes.fill(0);
    const pending = this.#client.startRead(nodeid, fh, chunk * CHUNK, [buffer]);
    return { pending, buffer, expected: checksums[chunk]! };
  }

  #finish({ pending, buffer, expected }: Transfer): void {
    const isWrite = expected === undefined;
    const moved = isWrite ? this.#client.finishWrite(pending) : this.#client.finish(pending);
    const what = isWrite ? 'FUSE_WRITE' : 'FUSE_READ';
    if (moved < 0) throw new Error(`${what}: the back-end answered ${errnoName(-moved)}`);
    if (isWrite && moved < CHUNK) throw new Error(`${what}: the back-end wrote ${moved} of ${CHUNK} bytes`);
    this.operations += 1;
    this.bytes += moved;
    if (isWrite) return;
    this.compared += 1;
    if (moved !== CHUNK || crc32(buffer.bytes) !== expected) this.wrong += 1;
  }

  #remove({ name, nodeid, fh }: DemoFile): void {
    this.#client.release(nodeid, fh);
    this.#client.unlink(ROOT, name);
    this.#client.forget(nodeid);
    this.operations += 3;
  }
}
