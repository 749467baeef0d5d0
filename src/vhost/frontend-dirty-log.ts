/**
 * Where a back-end notes the pages it writes to: shared memory with a bit for each. vhost-user spec § Migration.
 *
 * The log grows with guest memory: a larger one is told before memory above the old one's end is shared, a smaller one after memory is gone.
 * What the back-end noted in one that is replaced is kept until it is collected.
 */
import { VHOST_LOG_PAGE } from '../../protocol/vhost-user.ts';
import { errnoName } from '../../protocol/errno.ts';
import { ProtocolError } from '../errors.ts';
import { mapShared, PAGE_SIZE, unmap, viewOf } from '../host/mapping.ts';
import { createMemfd } from '../host/memfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import type { VhostUserFrontend } from './frontend.ts';

/** Guest memory behind one 64-bit word of the log. */
const BYTES_PER_WORD = BigInt(64 * VHOST_LOG_PAGE);
const WORD_SIZE = 8n;
/** What it grows by beyond what is needed, so that it need not grow again soon. `VHOST_LOG_BUFFER` of QEMU. */
const MARGIN = 0x1000n;
const BITS = 32;

export class DirtyLog implements Disposable {
  #shared: SharedBits;
  /** Taken out of logs that were replaced: not collected yet. */
  #kept = new Int32Array(0);

  /** @param end of the memory to be logged: the first address above it @throws {ProtocolError} SYSTEM */
  constructor(end: bigint) {
    this.#shared = new SharedBits(sizeFor(end));
  }

  /** The shared memory; lent, until the log is told anew. */
  get fd(): number {
    return this.#shared.fd;
  }

  /** Bytes. */
  get size(): bigint {
    return this.#shared.size;
  }

  share(frontend: VhostUserFrontend): void {
    frontend.setLogBase({ mmapSize: this.size, mmapOffset: 0n }, this.fd);
  }

  /** Before it is told to a back-end that does not log yet: has just the room for memory up to `end`. */
  restart(end: bigint): void {
    if (sizeFor(end) !== this.size) this.#replace(sizeFor(end), () => undefined);
  }

  /** Before memory up to `end` is shared: has room for it, and tells if that takes another log. @throws what telling throws */
  growFor(end: bigint, tell: () => void): void {
    if (sizeFor(end) > this.size) this.#replace(sizeFor(end) + MARGIN, tell);
  }

  /** After memory above `end` is gone. @throws what telling throws */
  shrinkTo(end: bigint, tell: () => void): void {
    if (this.size > sizeFor(end) + MARGIN) this.#replace(sizeFor(end), tell);
  }

  /**
   * Takes the pages that were written to out of the log, each once.
   *
   * @param visit is told the guest physical address of a page
   */
  collect(visit: (guestAddress: bigint) => void): void {
    this.#keep(this.#shared);
    this.#kept.forEach((bits, word) => {
      if (bits === 0) return;
      for (let bit = 0; bit < BITS; bit += 1)
        if ((bits & (1 << bit)) !== 0) visit(BigInt(word * BITS + bit) * BigInt(VHOST_LOG_PAGE));
    });
    this.#kept.fill(0);
  }

  close(): void {
    this.#shared.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #replace(size: bigint, tell: () => void): void {
    const before = this.#shared;
    this.#shared = new SharedBits(size);
    try {
      tell();
    } catch (error) {
      this.#shared.close();
      this.#shared = before;
      throw error;
    }
    this.#keep(before); // the back-end has answered: it writes there no more
    before.close();
  }

  #keep({ words }: SharedBits): void {
    if (words.length > this.#kept.length) {
      const longer = new Int32Array(words.length);
      longer.set(this.#kept);
      this.#kept = longer;
    }
    for (let word = 0; word < words.length; word += 1)
      // atomic, as the back-end may set other bits of the word meanwhile
      if (words[word] !== 0) this.#kept[word]! |= Atomics.exchange(words, word, 0);
  }
}

/** One piece of shared memory, empty at first. */
class SharedBits {
  readonly size: bigint;
  readonly #fd: OwnedFd;
  readonly #address: number;
  readonly #mapped: number;
  #words: Int32Array<ArrayBufferLike>;

  /** @throws {ProtocolError} SYSTEM */
  constructor(size: bigint) {
    this.size = size;
    this.#mapped = Math.ceil(Number(size) / PAGE_SIZE) * PAGE_SIZE;
    const fd = createMemfd('vhost-log', Number(size));
    if (fd < 0) throw new ProtocolError('SYSTEM', `a log of ${size} bytes: ${errnoName(-fd)}`);
    this.#fd = new OwnedFd(fd);
    this.#address = mapShared(fd, 0, this.#mapped);
    if (this.#address < 0) {
      this.#fd.close();
      throw new ProtocolError('SYSTEM', `mmap of a log of ${size} bytes: ${errnoName(-this.#address)}`);
    }
    this.#words = new Int32Array(viewOf(this.#address, Number(size)));
  }

  get fd(): number {
    return this.#fd.fd;
  }

  /** Not to be kept: gone after `close`. */
  get words(): Int32Array<ArrayBufferLike> {
    return this.#words;
  }

  close(): void {
    if (this.#words.length === 0) return;
    this.#words = new Int32Array(0);
    unmap(this.#address, this.#mapped);
    this.#fd.close();
  }
}

/** QEMU's: words up to the one with the last byte. */
const sizeFor = (end: bigint): bigint => WORD_SIZE * (((end === 0n ? 1n : end) - 1n) / BYTES_PER_WORD + 1n);
