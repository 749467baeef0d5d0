/** Shared memory in which a back-end notes the pages it writes to: a bit each. vhost-user spec § Migration. */
import { VHOST_LOG_PAGE } from '../../protocol/vhost-user.ts';
import { ProtocolError } from '../errors.ts';
import { createMemfd } from '../host/memfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import type { FoldedSection } from '../memory-devices/vhost-sections.ts';
import type { VhostUserFrontend } from './frontend.ts';

/** Guest memory behind one 64-bit word of the log. */
const BYTES_PER_WORD = BigInt(64 * VHOST_LOG_PAGE);
const WORD_SIZE = 8n;

export class DirtyLog implements Disposable {
  readonly #fd: OwnedFd;
  /** Bytes. */
  readonly size: bigint;

  /** @param fd owned from here on */
  constructor(fd: OwnedFd, size: bigint) {
    this.#fd = fd;
    this.size = size;
  }

  /** The memory itself; lent. */
  get fd(): number {
    return this.#fd.fd;
  }

  share(frontend: VhostUserFrontend): void {
    frontend.setLogBase({ mmapSize: this.size, mmapOffset: 0n }, this.#fd.fd);
  }

  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A log for all of these regions, empty. Memory that is added above them later is not logged.
 *
 * @throws {ProtocolError} SYSTEM
 */
export function createDirtyLog(regions: readonly FoldedSection[]): DirtyLog {
  const end = regions.reduce((most, { start, size }) => (start + size > most ? start + size : most), 1n);
  const size = WORD_SIZE * ((end - 1n) / BYTES_PER_WORD + 1n);
  const fd = createMemfd('vhost-log', Number(size));
  if (fd < 0) throw new ProtocolError('SYSTEM', `a log of ${size} bytes: errno ${-fd}`);
  return new DirtyLog(new OwnedFd(fd), size);
}
