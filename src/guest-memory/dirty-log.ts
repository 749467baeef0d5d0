/**
 * The log of dirty pages of live migration: one bit per 4 KiB page of guest physical address space, least significant
 * first, shared with the front-end, which reads and clears it while we set bits. vhost-user spec § Migration.
 */
import { errnoName, ProtocolError } from '../errors.ts';
import { fdPageSize, mappableSize } from '../host/stat.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { GiB, hex } from '../units.ts';
import { arena } from './arena.ts';

/** VHOST_LOG_PAGE: whatever the page size of host and guest is. */
const LOG_PAGE = 4096;
const PAGES_PER_BYTE = 8;
/** What one view can show: 128 TiB of guest physical address space. */
const MAX_LOG = 4 * GiB;

export class DirtyLog implements Disposable {
  /** Where its bits lie, and how many bytes of them there are. */
  readonly range: { readonly address: number; readonly size: number };
  readonly #bytes: Uint8Array;
  readonly #address: number;
  readonly #mappedSize: number;
  #isMapped = true;

  private constructor(bitsAddress: number, size: number, address: number, mappedSize: number) {
    this.range = { address: bitsAddress, size };
    const view = arena.view(bitsAddress, size);
    this.#bytes = new Uint8Array(view.buffer, view.byteOffset, size);
    this.#address = address;
    this.#mappedSize = mappedSize;
  }

  /**
   * Maps the log.
   *
   * @param fd owned from here on: closed, whatever happens
   * @param offset where in the file the log starts, in bytes
   * @param size bytes
   * @throws {ProtocolError} BAD_VALUE: size 0 or above 4 GiB, or reaching beyond the end of the file. SYSTEM
   */
  static map(fd: OwnedFd, offset: bigint, size: bigint): DirtyLog {
    using file = fd;
    if (size === 0n || size > BigInt(MAX_LOG))
      throw new ProtocolError('BAD_VALUE', `log of ${hex(size)} bytes, allowed 1 to ${hex(MAX_LOG)}`);
    const fileSize = mappableSize(file.fd);
    const pageSize = fdPageSize(file.fd);
    if (fileSize < 0 || pageSize < 0)
      throw new ProtocolError(
        'SYSTEM',
        `statx of the log's descriptor: ${errnoName(-Math.min(fileSize, pageSize))}`,
      );
    if (offset + size > BigInt(Math.min(fileSize, Number.MAX_SAFE_INTEGER)))
      throw new ProtocolError(
        'BAD_VALUE',
        `log ${hex(offset)}+${hex(size)}, descriptor ends at ${hex(fileSize)}`,
      );
    const skipped = Number(offset) % pageSize;
    const length = Number(size);
    const mappedSize = Math.ceil((skipped + length) / pageSize) * pageSize;
    const address = arena.map({ fd: file.fd, offset: Number(offset) - skipped, size: mappedSize, pageSize });
    if (address < 0) throw new ProtocolError('SYSTEM', `mmap of the log: ${errnoName(-address)}`);
    return new DirtyLog(address + skipped, length, address, mappedSize);
  }

  /** Another thread's log: its `range`. That thread unmaps it. */
  static at(address: number, size: number): DirtyLog {
    return new DirtyLog(address, size, address, 0);
  }

  /**
   * Marks the pages of a range that has been written. Pages beyond the log are not marked: the front-end has said that
   * it does not migrate them.
   *
   * A bit is set even if it is set already: only an atomic read-modify-write after the data is ordered against the
   * front-end, which clears the bit first and copies the page then.
   *
   * @param gpa guest physical address
   */
  mark(gpa: number, size: number): void {
    if (size <= 0 || !this.#isMapped) return;
    const bytes = this.#bytes;
    const firstPage = Math.floor(gpa / LOG_PAGE);
    const lastPage = Math.floor((gpa + size - 1) / LOG_PAGE);
    const firstByte = Math.floor(firstPage / PAGES_PER_BYTE);
    const lastByte = Math.floor(lastPage / PAGES_PER_BYTE);
    const end = Math.min(lastByte + 1, bytes.length);
    for (let i = firstByte; i < end; i++) {
      let mask = 0xff;
      if (i === firstByte) mask &= 0xff << (firstPage % PAGES_PER_BYTE);
      if (i === lastByte) mask &= 0xff >> (PAGES_PER_BYTE - 1 - (lastPage % PAGES_PER_BYTE));
      Atomics.or(bytes, i, mask);
    }
  }

  /** Idempotent. */
  unmap(): void {
    if (!this.#isMapped) return;
    this.#isMapped = false;
    if (this.#mappedSize > 0) arena.unmap(this.#address, this.#mappedSize);
  }

  [Symbol.dispose](): void {
    this.unmap();
  }
}
