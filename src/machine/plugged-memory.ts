/** The memory devices of a machine, each with memory of its own. */
import { MemoryDeviceError } from '../errors.ts';
import { Cleanup } from '../host/owned-fd.ts';
import type { MemoryDevice } from '../memory-devices/memory-device.ts';
import { PcDimm, type PcDimmOptions } from '../memory-devices/pc-dimm.ts';
import type { VirtioMemOptions } from '../memory-devices/virtio-mem-options.ts';
import { VirtioMem } from '../memory-devices/virtio-mem.ts';
import { GuestVirtioMem, type VirtioMemGuestOptions } from './guest-virtio-mem.ts';
import type { HostBackend, MachineMemory } from './machine-memory.ts';

export interface DimmPlug extends Pick<PcDimmOptions, 'address' | 'slot' | 'node'> {
  readonly type: 'dimm';
  readonly id: string;
  /** Bytes. */
  readonly size: number;
}

export interface VirtioMemPlug
  extends
    Pick<
      VirtioMemOptions,
      | 'address'
      | 'blockSize'
      | 'dynamicMemslots'
      | 'isBusy'
      | 'node'
      | 'preallocate'
      | 'unpluggedInaccessible'
    >,
    VirtioMemGuestOptions {
  readonly type: 'virtio-mem';
  readonly id: string;
  /** Bytes it can have at most. */
  readonly size: number;
}

/** A memory module that is plugged. */
export interface GuestDimm {
  readonly id: string;
  /** Guest physical address. */
  readonly address: number;
  readonly size: number;
}

interface Plugged {
  readonly device: MemoryDevice;
  readonly memory: HostBackend;
  readonly guest: GuestDimm | GuestVirtioMem;
}

export class PluggedMemory {
  readonly #memory: MachineMemory;
  readonly #plugged = new Map<string, Plugged>();

  constructor(memory: MachineMemory) {
    this.#memory = memory;
  }

  /** @throws {MemoryDeviceError} what `prePlug` refuses. @throws {ProtocolError} what a back-end refuses */
  plugDimm(options: DimmPlug): GuestDimm {
    const { id, size } = options;
    return this.#plug(id, size, (memory) => {
      const device = new PcDimm({ ...options, backend: memory.backend, slots: this.#memory.pc.dimmSlots });
      this.#memory.pc.devices.add(device);
      return { device, guest: { id, size, address: Number(device.address) } };
    });
  }

  /** As `plugDimm`. */
  plugVirtioMem(options: VirtioMemPlug): GuestVirtioMem {
    const { id, size } = options;
    return this.#plug(id, size, (memory) => {
      const device = new VirtioMem({ ...options, backend: memory.backend });
      try {
        this.#memory.pc.devices.add(device);
      } catch (refused) {
        device.unrealize();
        throw refused;
      }
      return { device, guest: new GuestVirtioMem(id, device, this.#memory.low, options) };
    });
  }

  /**
   * Takes a device out and gives its memory back.
   *
   * @returns what `plug…` returned
   * @throws {MemoryDeviceError} NOT_PLUGGED, STILL_IN_USE. @throws {ProtocolError} what a back-end refuses
   */
  unplug(id: string): GuestDimm | GuestVirtioMem {
    const plugged = this.#plugged.get(id);
    if (plugged === undefined) throw new MemoryDeviceError('NOT_PLUGGED', `device ${id} is not plugged`);
    const { device, memory, guest } = plugged;
    this.#memory.pc.devices.unplug(device);
    if (device instanceof VirtioMem) device.unrealize();
    if (guest instanceof GuestVirtioMem) guest[Symbol.dispose]();
    this.#plugged.delete(id);
    memory[Symbol.dispose]();
    return guest;
  }

  #plug<Guest extends Plugged['guest']>(
    id: string,
    size: number,
    create: (memory: HostBackend) => { readonly device: MemoryDevice; readonly guest: Guest },
  ): Guest {
    using undo = new Cleanup();
    const memory = undo.use(this.#memory.createBackend(id, size));
    const { device, guest } = create(memory);
    undo.keep();
    this.#plugged.set(id, { device, memory, guest });
    return guest;
  }
}
