/**
 * A virtual machine without processors: guest memory as QEMU's model has it, vhost-user devices in front of their back-ends, and the guest's
 * drivers.
 *
 * Everything is synchronous: a method returns when all back-ends have answered. What a back-end refuses is the error of the operation that
 * caused it, and the memory model is then as it was before, for every device.
 */
import type { OwnedFd } from '../host/owned-fd.ts';
import { Cleanup } from '../host/owned-fd.ts';
import { alignUp } from '../memory-devices/address-search.ts';
import type { PcMemory } from '../memory-devices/pc-memory.ts';
import type { GuestBuffer } from './guest-ram.ts';
import type { GuestVirtioMem } from './guest-virtio-mem.ts';
import { MachineDevice, type MachineDeviceOptions } from './machine-device.ts';
import { MachineMemory, type MachineMemoryOptions } from './machine-memory.ts';
import { MemslotArray, type MemslotArrayOptions } from './memslot-array.ts';
import { type DimmPlug, type GuestDimm, PluggedMemory, type VirtioMemPlug } from './plugged-memory.ts';

const ONE_GIB = 1n << 30n;

/**
 * @example
 *     using machine = Machine.start({ ram: 256 * MiB, maxmem: 64 * GiB, dimmSlots: 4 });
 *     const fs0 = machine.addDevice({ name: 'fs0', socket: '/run/fs0.sock' });
 *     const vm0 = machine.plug({ type: 'virtio-mem', id: 'vm0', size: 32 * GiB, dynamicMemslots: true });
 *     vm0.resize(8 * GiB);                                     // 'done': eight memslots more, in every back-end
 *     const dimm0 = machine.plug({ type: 'dimm', id: 'dimm0', size: GiB });
 *
 *     const client = new VirtioFsClient(fs0);
 *     expectAnswer(client.init(), 'FUSE_INIT');
 *     const { entry, open } = expectAnswer(client.create(ROOT, 'file', O_RDWR, 0o644), 'FUSE_CREATE');
 *     client.write(entry.nodeid, open.fh, 0, [machine.buffer(dimm0.address, 4096), machine.buffer(vm0.address, 4096)]);
 *
 *     const slots = machine.addMemslots({ id: 'slots', count: 509, slotSize: 4096 });
 *     slots.map(7);                                            // one ADD_MEM_REG to each back-end
 *     slots.unmap(7);
 *     machine.unplug('dimm0');
 *     machine.reboot();                                        // new queues: make a new client
 *     machine.stop();
 */
export class Machine implements Disposable {
  readonly #memory: MachineMemory;
  readonly #plugged: PluggedMemory;
  readonly #owned: Cleanup;
  /** What a reset reaches, in order of creation. */
  readonly #parts: (MachineDevice | GuestVirtioMem)[] = [];
  readonly #arrays: MemslotArray[] = [];
  #isRunning = true;

  private constructor(options: MachineMemoryOptions, owned: Cleanup) {
    this.#owned = owned;
    this.#memory = owned.use(new MachineMemory(options));
    this.#plugged = new PluggedMemory(this.#memory);
    this.memory.setPhase('booted');
  }

  /** A machine that runs and has no devices yet. @throws {RangeError} if the host cannot have so much RAM */
  static start(options: MachineMemoryOptions): Machine {
    using undo = new Cleanup();
    const owned = new Cleanup();
    undo.use(owned);
    const machine = new Machine(options, owned);
    undo.keep();
    return machine;
  }

  /** The memory model: address space, window for memory devices, memslot budget. */
  get memory(): PcMemory {
    return this.#memory.pc;
  }

  /** The vhost-user devices, in order of creation. */
  get devices(): readonly MachineDevice[] {
    return this.#parts.filter((part) => part instanceof MachineDevice);
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /**
   * Guest memory as the guest sees it, at any address where RAM is mapped. Makes a view: keep it, but not beyond what is mapped there.
   *
   * @throws {ProtocolError} UNMAPPED if the range is not RAM, or not one piece of the host's memory
   */
  buffer(gpa: number, size: number): GuestBuffer {
    return this.#memory.buffer(gpa, size);
  }

  /**
   * Connects a vhost-user device and, while the machine runs, starts it. A socket that was passed is closed if it fails.
   *
   * @throws {ProtocolError} what the back-end refused or is not able to
   * @throws {MemoryDeviceError} BACKEND_LIMIT, BACKEND_RESTRICTS: it takes too few memslots
   */
  addDevice(options: MachineDeviceOptions): MachineDevice {
    using undo = new Cleanup();
    const device = undo.use(this.#connect(options));
    const { frontend } = device;
    const { space, budget } = this.memory;
    space.addListener(frontend.listener);
    undo.defer(() => space.removeListener(frontend.listener));
    budget.attach(frontend);
    undo.defer(() => budget.detach(frontend));
    if (this.#isRunning) device.start();
    undo.keep();
    this.#parts.push(device);
    return device;
  }

  /** Stops a device, takes its memory away and disconnects it. @throws {ProtocolError} what it refused; it is gone all the same */
  removeDevice(device: MachineDevice): void {
    const index = this.#parts.indexOf(device);
    if (index < 0) throw new RangeError(`${device.name} is no device of this machine`);
    this.#parts.splice(index, 1);
    const { frontend } = device;
    inTurn([
      () => device.stop(),
      () => this.memory.budget.detach(frontend),
      () => this.memory.space.removeListener(frontend.listener),
      () => device[Symbol.dispose](),
    ]);
  }

  /**
   * Plugs a memory device: a module, whose memory is there at once, or virtio-mem, which has none until it is resized.
   *
   * @throws {MemoryDeviceError} what `DeviceMemory.prePlug` refuses
   * @throws {ProtocolError} what a back-end refuses; nothing is plugged then
   */
  plug(options: DimmPlug): GuestDimm;
  plug(options: VirtioMemPlug): GuestVirtioMem;
  plug(options: DimmPlug | VirtioMemPlug): GuestDimm | GuestVirtioMem {
    if (options.type === 'dimm') return this.#plugged.plugDimm(options);
    const device = this.#plugged.plugVirtioMem(options);
    this.#parts.push(device);
    return device;
  }

  /**
   * Unplugs a memory device and gives its memory back to the host: no buffer in it may be touched any more.
   *
   * @throws {MemoryDeviceError} NOT_PLUGGED; STILL_IN_USE if virtio-mem has memory or shall have some
   * @throws {ProtocolError} what a back-end refuses; it is plugged as before then
   */
  unplug(id: string): void {
    const device = this.#plugged.unplug(id);
    const index = this.#parts.findIndex((part) => part === device);
    if (index >= 0) this.#parts.splice(index, 1);
  }

  /** Memory above all devices, in memslots to be mapped at will. */
  addMemslots(options: MemslotArrayOptions): MemslotArray {
    const { window } = this.memory.devices;
    const last = this.#arrays.at(-1);
    const end =
      last === undefined ? window.start + window.size : BigInt(last.address + last.count * last.slotSize);
    const array = new MemslotArray(this.#memory, Number(alignUp(end, ONE_GIB)), options);
    this.#arrays.push(array);
    return array;
  }

  /** The machine stops: devices in reverse order. @throws {ProtocolError} the first thing a back-end refused; all are stopped */
  stop(): void {
    this.#isRunning = false;
    inTurn(this.devices.toReversed().map((device) => () => device.stop()));
  }

  /** The machine runs on. @throws {ProtocolError} the first thing a back-end refused; the others are started */
  run(): void {
    this.#isRunning = true;
    inTurn(this.devices.map((device) => () => device.start()));
  }

  /**
   * The machine is reset, boots, and its drivers begin anew: devices and virtio-mem are reset in order of creation, so memory of a
   * virtio-mem device that came before a vhost device leaves that while it is started, and memory of one that came after at its next start.
   *
   * Queues are new ones: clients of the devices have to be made again. Virtio-mem is plugged to the size it was asked for.
   *
   * @throws {ProtocolError} the first thing a back-end refused; the machine has started as far as it goes
   */
  reboot(): void {
    const { memory } = this;
    this.#isRunning = true;
    inTurn([
      ...this.#parts.map((part) => () => part.reset()),
      () => memory.setPhase('paused'),
      () => memory.setPhase('booted'),
      () => this.#memory.low.reset(),
      ...this.devices.map((device) => () => device.start()),
      ...this.#parts.map((part) => () => {
        if (!(part instanceof MachineDevice)) part.run();
      }),
    ]);
  }

  /** Disconnects every device and gives all memory back; no buffer may be touched any more. Idempotent. */
  close(): void {
    for (const part of this.#parts.splice(0).toReversed())
      if (part instanceof MachineDevice) part[Symbol.dispose]();
    this.#owned[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #connect(options: MachineDeviceOptions): MachineDevice {
    const { name, socket } = options;
    if (this.devices.some((device) => device.name === name)) {
      closeGiven(socket);
      throw new RangeError(`there is a device ${name} already`);
    }
    return MachineDevice.connect(this.#memory.low, options);
  }
}

function closeGiven(socket: string | OwnedFd): void {
  if (typeof socket !== 'string') socket.close();
}

/** Takes all steps, whatever becomes of each. @throws the first failure */
function inTurn(steps: readonly (() => void)[]): void {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
