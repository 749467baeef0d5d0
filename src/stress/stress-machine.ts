/** The machine of a stress run: a sparse array of memslots, sockets for modules, virtio-mem devices, one back-end. */
import { ConfigError, MemoryDeviceError, ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { peerProcess } from '../host/stat.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import type { GuestVirtioMem } from '../machine/guest-virtio-mem.ts';
import type { MachineDevice } from '../machine/machine-device.ts';
import { Machine } from '../machine/machine.ts';
import type { MemslotArray } from '../machine/memslot-array.ts';
import { GiB, MiB } from '../units.ts';
import type { StressBackend } from './backend.ts';
import { findMapper } from './footprint.ts';
import type { StressFacts } from './model.ts';
import type { Place, StressShape } from './operation.ts';
import { Disk } from './disk.ts';
import { SharedFile } from './shared-file.ts';
import { NO_STORE, type StoreKind, type StressStore } from './store.ts';
import { Violation } from './violation.ts';

const RAM = 512 * MiB;

export interface StressMachineOptions {
  readonly backend: StressBackend;
  /** How many slots it has is what there is at most: no more are made than the back-end has room for. */
  readonly shape: StressShape;
  /** Regions to use at most, of those the back-end says it has. */
  readonly limit?: number;
  readonly timeoutMs: number;
  /** What the back-end is. Default `fs`. */
  readonly device?: StoreKind;
  /** Queues that carry requests. Default 1. */
  readonly requestQueues?: number;
  /** Whether buffers may begin in one slot and end in the next. Default false: not every back-end survives it. */
  readonly crossesSlots?: boolean;
}

export class StressMachine implements Disposable {
  readonly facts: StressFacts;
  readonly shape: StressShape;
  readonly slots: MemslotArray;
  readonly vmems: readonly GuestVirtioMem[];
  readonly #machine: Machine;
  readonly #options: StressMachineOptions;
  readonly #spare: MemslotArray;
  readonly #dimmAddresses: number[] = [];
  readonly #ram: GuestBuffer;
  readonly #advertised: number;
  readonly #device: MachineDevice;
  #store: StressStore | undefined;
  #peer = 0;

  /** Boots, connects and mounts. @throws {ProtocolError} @throws {Violation} */
  constructor(options: StressMachineOptions) {
    const { limit = Infinity } = options;
    const { dimms, dimmSize, vmems, vmemSize } = options.shape;
    this.#options = options;
    this.#machine = Machine.start({
      ram: RAM,
      maxmem: RAM + dimms * dimmSize + vmems * vmemSize + GiB,
      dimmSlots: dimms,
    });
    try {
      this.#device = this.#connect();
      this.#advertised = this.#device.frontend.limit;
      const slots = Math.min(options.shape.slots, this.#advertised, limit);
      const shape = { ...options.shape, slots };
      this.shape = shape;
      this.slots = this.#machine.addMemslots({ id: 'slots', count: slots, slotSize: shape.slotSize });
      this.#spare = this.#machine.addMemslots({ id: 'spare', count: 1, slotSize: shape.slotSize });
      this.vmems = this.#plugVirtioMem();
      this.#ram = { gpa: RAM / 2, bytes: this.#machine.buffer(RAM / 2, 4 * shape.chunkSize).bytes };
      this.facts = {
        limit: Math.min(this.#advertised, limit),
        isAdvertised: this.#advertised <= limit,
        baseRegions: this.#device.frontend.used,
        vmemSlotSizes: this.vmems.map(
          ({ device }) => device.dynamicMemslots?.layout.memslotSize ?? shape.vmemSize,
        ),
        hasDimms: shape.dimms > 0,
        crossesSlots: options.crossesSlots ?? false,
        hasStore: options.device !== 'any',
        canRestart: options.backend.restart !== undefined,
      };
      this.#store = this.#mount();
    } catch (error) {
      this.#machine.close();
      throw error;
    }
  }

  /** Regions the back-end says it has room for. */
  get advertised(): number {
    return this.#advertised;
  }
  /** Regions it has, as it acknowledged. */
  get used(): number {
    return this.#device.frontend.used;
  }
  get isGone(): boolean {
    return this.#device.frontend.failure !== undefined;
  }
  get store(): StressStore {
    if (this.#store === undefined) throw new TypeError('nothing is mounted');
    return this.#store;
  }

  /** The process that has our memory mapped; undefined if it cannot be seen. */
  findProcess(): number | undefined {
    return findMapper([this.#options.backend.pid ?? 0, this.#peer]);
  }

  buffer({ in: kind, index, at }: Place): GuestBuffer {
    const { chunkSize } = this.#options.shape;
    if (kind === 'slot') return this.slots.unmappedBuffer(index, at, chunkSize);
    if (kind === 'dimm') return this.#machine.buffer(this.#dimmAddresses[index]! + at, chunkSize);
    if (kind === 'vmem') return this.#machine.buffer(this.vmems[index]!.address + at, chunkSize);
    return { gpa: this.#ram.gpa + at, bytes: this.#ram.bytes.subarray(at, at + chunkSize) };
  }

  plug(dimm: number): void {
    const { address } = this.#machine.plug({
      type: 'dimm',
      id: `dimm${dimm}`,
      size: this.#options.shape.dimmSize,
    });
    this.#dimmAddresses[dimm] = address;
  }

  unplug(dimm: number): void {
    this.#machine.unplug(`dimm${dimm}`);
  }

  /** @throws {Violation} if the size is not reached */
  resize(vmem: number, bytes: number): void {
    const outcome = this.vmems[vmem]!.resize(bytes);
    if (outcome !== 'done')
      throw new Violation('refused', `virtio-mem ${vmem} did not get to ${bytes} bytes: ${outcome}`);
  }

  /**
   * Asks a back-end whose table is full for one region more.
   *
   * @returns whether it took it; it is given back then
   */
  tryBeyond(): boolean {
    const { table } = this.#device.frontend;
    const { limit } = table;
    table.limit = limit + 1; // otherwise our own end would not even ask
    try {
      this.#spare.map(0);
      this.#spare.unmap(0);
      return true;
    } catch (error) {
      if (error instanceof ProtocolError && error.code === 'REFUSED') return false;
      throw error;
    } finally {
      table.limit = limit;
    }
  }

  pause(): void {
    this.#machine.stop();
    this.#machine.run();
  }

  reboot(): void {
    this.store.close(false);
    this.#store = undefined;
    this.#machine.reboot();
    this.#store = this.#mount();
  }

  /** The back-end was started again: connects, gives it all memory and queues there are now, and mounts. */
  reconnect(): void {
    this.#store = undefined;
    this.#device.reconnect(this.#openSocket());
    this.#store = this.#mount();
  }

  /** Unmounts and stops the machine. */
  stop(): void {
    this.store.close(true);
    this.#machine.stop();
  }

  [Symbol.dispose](): void {
    this.#machine.close();
  }

  #connect(): MachineDevice {
    const { backend, timeoutMs, device = 'fs', requestQueues = 1 } = this.#options;
    const socket = this.#openSocket();
    try {
      return this.#machine.addDevice({
        name: 'fs0',
        socket,
        timeoutMs,
        queues: device === 'fs' ? requestQueues + 1 : requestQueues, // a file system has hiprio, too
        ...(backend.wait === undefined ? {} : { wait: backend.wait }),
      });
    } catch (error) {
      if (!(error instanceof MemoryDeviceError)) throw error;
      throw new Violation('refused', `connecting: ${error.message}`, { cause: error }); // no room even for RAM
    }
  }

  #openSocket(): OwnedFd {
    try {
      const socket = this.#options.backend.connect();
      this.#peer = peerProcess(socket.fd);
      return socket;
    } catch (error) {
      if (error instanceof ConfigError || !(error instanceof Error)) throw error;
      throw new Violation('died', error.message, { cause: error });
    }
  }

  #mount(): StressStore {
    const { device = 'fs', timeoutMs } = this.#options;
    if (device === 'any') return NO_STORE;
    const Store = device === 'fs' ? SharedFile : Disk;
    return new Store(this.#device, this.shape.chunkSize, timeoutMs);
  }

  /** As many as the back-end has room for. */
  #plugVirtioMem(): readonly GuestVirtioMem[] {
    const { vmems, vmemSize, vmemUnit } = this.#options.shape;
    const plugged: GuestVirtioMem[] = [];
    try {
      for (let index = 0; index < vmems; index += 1)
        plugged.push(
          this.#machine.plug({
            type: 'virtio-mem',
            id: `vmem${index}`,
            size: vmemSize,
            blockSize: vmemUnit,
            memoryBlockSize: vmemUnit,
            dynamicMemslots: true,
          }),
        );
    } catch (error) {
      if (!(error instanceof MemoryDeviceError)) throw error;
    }
    return plugged;
  }
}
