/**
 * The host's memory behind a piece of guest memory: one sparse memfd that the machine has mapped and back-ends can map, too.
 *
 * Pages exist once somebody writes to them (QEMU: `memory-backend-memfd,share=on,reserve=off`). What is discarded is gone for everybody who
 * has it mapped, and reads as zeros.
 */
import { errnoName } from '../../protocol/errno.ts';
import { allocateRange } from '../host/files-io.ts';
import { mapFixedAnonymous, mapFixedShared, PAGE_SIZE, reserve, unmap, viewOf } from '../host/mapping.ts';
import { createMemfd } from '../host/memfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import type { BackingMemory } from '../memory-devices/ram-backend.ts';
import type { RamBlock, RamBytes } from '../memory/ram-block.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/**
 * Address space of the machine's process. What is given back is kept for memory of the same size: a view that somebody still has then
 * shows zeros or other guest memory, and reading it is not the end of the process.
 */
export class HostAddresses implements Disposable {
  readonly #free = new Map<number, number[]>();
  readonly #all: { readonly address: number; readonly size: number }[] = [];

  /** @returns an address. @throws {RangeError} if there is no address space */
  take(size: number): number {
    const kept = this.#free.get(size)?.pop();
    if (kept !== undefined) return kept;
    const address = reserve(size, 0);
    if (address < 0) throw new RangeError(`${size} bytes of address space: ${errnoName(-address)}`);
    this.#all.push({ address, size });
    return address;
  }

  giveBack(address: number, size: number): void {
    mapFixedAnonymous(address, size);
    const free = this.#free.get(size);
    if (free === undefined) this.#free.set(size, [address]);
    else free.push(address);
  }

  /** No view of any of it may be touched any more. */
  [Symbol.dispose](): void {
    for (const { address, size } of this.#all.splice(0)) unmap(address, size);
    this.#free.clear();
  }
}

export class HostRam implements RamBytes, BackingMemory, Disposable {
  readonly size: number;
  /** Where it is mapped in this process. */
  readonly address: number;
  readonly #fd: OwnedFd;
  readonly #addresses: HostAddresses;

  /**
   * @param name shown in /proc/PID/maps
   * @param size bytes; whole pages
   * @throws {RangeError} if it is not, or there is no descriptor or address space for it
   */
  constructor(addresses: HostAddresses, name: string, size: number) {
    if (!(size > 0) || size % PAGE_SIZE !== 0)
      throw new RangeError(`${name}: ${size} bytes, allowed are whole pages of ${PAGE_SIZE}`);
    const fd = createMemfd(name, size);
    if (fd < 0) throw new RangeError(`${name}: memfd of ${size} bytes: ${errnoName(-fd)}`);
    using file = new OwnedFd(fd);
    this.size = size;
    this.#addresses = addresses;
    this.address = addresses.take(size);
    const mapped = mapFixedShared(this.address, fd, 0, size);
    if (mapped < 0) {
      addresses.giveBack(this.address, size);
      throw new RangeError(`${name}: mmap of ${size} bytes: ${errnoName(-mapped)}`);
    }
    this.#fd = new OwnedFd(file.release());
  }

  /** The memfd, lent. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** As the memory model names it. */
  get block(): Partial<Omit<RamBlock, 'id' | 'size' | 'pageSize'>> {
    return { fd: this.fd, hostAddress: BigInt(this.address), isShared: true, bytes: this };
  }

  /** The bytes themselves. @param size 1 byte to 4 GiB */
  view(offset: number, size: number): Uint8Array {
    if (offset < 0 || offset + size > this.size)
      throw new RangeError(`${size} bytes at ${offset} of ${this.size}`);
    return new Uint8Array(viewOf(this.address + offset, size));
  }

  read(offset: number, into: Uint8Array): void {
    if (into.length > 0) into.set(this.view(offset, into.length));
  }

  write(offset: number, from: Uint8Array): void {
    if (from.length > 0) this.view(offset, from.length).set(from);
  }

  /** Gives the pages of this range back, in every process. @returns 0 or −errno */
  discard(offset: number, size: number): number {
    return allocateRange(this.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
  }

  /** Makes the pages of this range. @returns 0 or −errno (ENOSPC, ENOMEM) */
  preallocate(offset: number, size: number): number {
    return allocateRange(this.fd, 0, offset, size);
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    if (this.#fd.isClosed) return;
    this.#fd.close();
    this.#addresses.giveBack(this.address, this.size);
  }
}
