/** Memory of a case that is shared with the back-end by a descriptor of its own. */
import { errnoName } from '../../protocol/errno.ts';
import type { MemoryRegionDescription } from '../../protocol/vhost-user-payloads.ts';
import { mapShared, unmap, viewOf } from '../host/mapping.ts';
import { createMemfd } from '../host/memfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';

/** What a region is, where it is not as it should be. */
export interface RegionChange {
  readonly gpa?: number | bigint;
  readonly size?: number | bigint;
  readonly user?: bigint;
  readonly offset?: number | bigint;
}

export class SharedMemory implements Disposable {
  readonly size: number;
  /** All of it; must not be touched after the rig is disposed. */
  readonly bytes: Uint8Array;
  readonly #fd: OwnedFd;
  readonly #address: number;

  /** @param name its memfd's, seen in /proc of whoever has it */
  constructor(size: number, name: string) {
    const fd = createMemfd(name, size);
    if (fd < 0) throw new RangeError(`memfd of ${size} bytes: ${errnoName(-fd)}`);
    this.#fd = new OwnedFd(fd);
    this.size = size;
    this.#address = mapShared(fd, 0, size);
    if (this.#address < 0) throw new RangeError(`mmap of ${size} bytes: ${errnoName(-this.#address)}`);
    this.bytes = new Uint8Array(viewOf(this.#address, size));
  }

  /** Lent. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** All of it as a region at `gpa`, or what the change says. */
  region({ gpa = 0, size = this.size, user, offset = 0 }: RegionChange = {}): MemoryRegionDescription {
    return {
      guestPhysAddr: BigInt(gpa),
      memorySize: BigInt(size),
      userspaceAddr: user ?? BigInt(this.#address) + BigInt(offset),
      mmapOffset: BigInt(offset),
    };
  }

  [Symbol.dispose](): void {
    unmap(this.#address, this.size);
    this.#fd.close();
  }
}
