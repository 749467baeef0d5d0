/** A machine in front of back-ends that live in the same thread. */
import { readdirSync } from 'node:fs';
import { expect } from 'vitest';
import { ProtocolError } from '../../src/errors.ts';
import { Cleanup } from '../../src/host/owned-fd.ts';
import { Machine } from '../../src/machine/machine.ts';
import type { MachineDevice, MachineDeviceOptions } from '../../src/machine/machine-device.ts';
import { GiB, MiB } from '../../src/units.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';

export interface RigDevice {
  /** The one file there is. */
  readonly files: PaperFileSystem;
  readonly backend: InProcessBackend;
  readonly device: MachineDevice;
}

/** Disposed in one go: back-ends outlive the machine's connections, as they do in processes of their own. */
export class MachineRig implements Disposable {
  readonly machine: Machine;
  readonly #owned = new Cleanup();
  /** What gives a device's back-end its turn, once that is another one. */
  readonly #turns = new Map<MachineDevice, () => void>();

  constructor(options: Parameters<typeof Machine.start>[0] = RIG_MEMORY) {
    this.machine = this.#owned.use(Machine.start(options));
  }

  addDevice({
    maxMemSlots = 509,
    ...options
  }: Partial<MachineDeviceOptions> & { readonly maxMemSlots?: number } = {}) {
    const files = new PaperFileSystem();
    const backend = this.#owned.use(new InProcessBackend(files, { maxMemSlots }));
    const name = `fs${this.machine.devices.length}`;
    const connection: { device?: MachineDevice } = {};
    const wait = (): void => {
      const { device } = connection;
      ((device && this.#turns.get(device)) ?? backend.turn)();
    };
    const device = this.machine.addDevice({ name, socket: backend.socket, wait, ...options });
    connection.device = device;
    return { files, backend, device };
  }

  /** Another back-end for a device whose own is gone. */
  connectAgain({ device }: RigDevice): RigDevice {
    const files = new PaperFileSystem();
    const backend = this.#owned.use(new InProcessBackend(files));
    this.#turns.set(device, backend.turn);
    device.reconnect(backend.socket);
    return { files, backend, device };
  }

  /** What each back-end has mapped is what the machine's flat view shows. */
  expectTruth(...devices: readonly RigDevice[]): void {
    const ram = this.machine.memory.space.view.ranges.filter(({ region }) => region.isRam);
    const wanted = ram.map(({ start, end }) => [start, end - start]);
    for (const { backend, device } of devices) {
      expect(backend.memory.regions.map((region) => [region.guestPhysAddr, region.memorySize])).toEqual(
        wanted,
      );
      expect(device.frontend.table.held.length).toBe(wanted.length);
    }
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}

/** Little RAM, much room above it. */
export const RIG_MEMORY = { ram: 64 * MiB, maxmem: 64 * GiB, dimmSlots: 8 };

/** A call of the method fails as if the kernel did not have the memory: the one after `after` others. @returns has it not fail */
export function refuseOnce(target: RigDevice, method: 'addRegion' | 'removeRegion', after = 0): () => void {
  const { memory } = target.backend;
  const original: (...args: never[]) => void = memory[method].bind(memory);
  let left = after;
  const replaced = (...args: never[]): void => {
    if (left > 0) {
      left -= 1;
      original(...args);
      return;
    }
    disarm();
    close(args[1]);
    throw new ProtocolError('SYSTEM', 'no memory for once');
  };
  const disarm = (): void => {
    Reflect.deleteProperty(memory, method);
  };
  Reflect.set(memory, method, replaced);
  return disarm;
}

export const openFds = (): number => readdirSync('/proc/self/fd').length;

export const codeOf = (call: () => unknown): unknown => {
  try {
    call();
  } catch (error) {
    return (error as { readonly code?: unknown }).code;
  }
  return 'no error';
};

const close = (fd: Disposable | undefined): void => fd?.[Symbol.dispose]();
