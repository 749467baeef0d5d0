/** The guest memory of a machine: QEMU's model of it, and the host's memory behind it, all of which the machine has mapped. */
import { ProtocolError } from '../errors.ts';
import { Cleanup } from '../host/owned-fd.ts';
import { PcMemory } from '../memory-devices/pc-memory.ts';
import { createRamBackend, type RamBackend } from '../memory-devices/ram-backend.ts';
import { GiB, hex } from '../units.ts';
import { LowRam } from './guest-allocator.ts';
import type { GuestBuffer } from './guest-ram.ts';
import { HostAddresses, HostRam } from './host-ram.ts';

/** RAM is in one piece up to here, whatever its size. */
const LOW_END = 2 * GiB;

export interface MachineMemoryOptions {
  /** RAM, in bytes: whole pages. */
  readonly ram: number;
  /** RAM and all memory devices together, in bytes. Default: no memory devices. */
  readonly maxmem?: number;
  /** Sockets for memory modules, 256 at most. Default 0. */
  readonly dimmSlots?: number;
  /** How many memslots the hypervisor has. Default: no limit. */
  readonly hypervisorLimit?: number;
}

/** A memory backend and the memory it is made of. */
export interface HostBackend extends Disposable {
  readonly backend: RamBackend;
  readonly host: HostRam;
}

export class MachineMemory implements Disposable {
  readonly pc: PcMemory;
  /** What drivers allocate from. */
  readonly low: LowRam;
  readonly #addresses: HostAddresses;
  readonly #owned = new Cleanup();
  readonly #backends = new Set<HostRam>();

  /** @throws {RangeError} if the host cannot have so much. @throws {MemoryDeviceError} BAD_PROPERTY */
  constructor({ ram, maxmem, dimmSlots, hypervisorLimit }: MachineMemoryOptions) {
    using undo = new Cleanup();
    undo.use(this.#owned);
    this.#addresses = this.#owned.use(new HostAddresses());
    const host = this.#owned.use(new HostRam(this.#addresses, 'pc.ram', ram));
    this.low = new LowRam(host, Math.min(ram, LOW_END));
    this.pc = new PcMemory({
      ram: [{ id: 'pc.ram', size: BigInt(ram), block: host.block, memory: host }],
      ...(maxmem === undefined ? {} : { maxmem: BigInt(maxmem) }),
      ...(dimmSlots === undefined ? {} : { dimmSlots }),
      ...(hypervisorLimit === undefined ? {} : { hypervisorLimit }),
    });
    undo.keep();
  }

  /** A memfd of its own; disposed once nothing of it is mapped, or with the machine. @throws {RangeError} if the host cannot have so much */
  createBackend(id: string, size: number): HostBackend {
    const host = new HostRam(this.#addresses, id, size);
    this.#backends.add(host);
    const backend = createRamBackend(this.pc.topology, {
      id,
      size: BigInt(size),
      block: host.block,
      memory: host,
    });
    const giveBack = (): void => {
      this.#backends.delete(host);
      host[Symbol.dispose]();
    };
    return { backend, host, [Symbol.dispose]: giveBack };
  }

  /**
   * Guest memory as the guest sees it, wherever it is mapped. Makes a view: keep it, but not beyond what is mapped there.
   *
   * @param size 1 byte to 4 GiB
   * @throws {ProtocolError} UNMAPPED if the range is not RAM, or not one piece of the host's memory
   */
  buffer(gpa: number, size: number): GuestBuffer {
    const { view } = this.pc.space;
    const end = BigInt(gpa + size);
    const first = view.rangeAt(BigInt(gpa));
    const block = first?.region.block;
    if (first === undefined || block?.bytes?.view === undefined) throw unmapped(gpa, size);
    const lead = first.offset - first.start;
    for (let range = first; range.end < end;) {
      const next = view.rangeAt(range.end);
      if (next === undefined || next.region.block !== block || next.offset - next.start !== lead)
        throw unmapped(gpa, size);
      range = next;
    }
    return { gpa, bytes: block.bytes.view(Number(BigInt(gpa) + lead), size) };
  }

  /** No buffer may be touched any more. Idempotent. */
  [Symbol.dispose](): void {
    for (const host of this.#backends) host[Symbol.dispose]();
    this.#backends.clear();
    this.#owned[Symbol.dispose]();
  }
}

const unmapped = (gpa: number, size: number): ProtocolError =>
  new ProtocolError('UNMAPPED', `${size} bytes at ${hex(gpa)} are not one piece of guest memory`);
