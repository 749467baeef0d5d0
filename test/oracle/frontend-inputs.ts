/**
 * Guest memory of a replayed session, on two levels: from the sections the recording has of each commit, or from our own model, into which
 * memory devices are plugged as they were into QEMU.
 */
import { MemoryDeviceError } from '../../src/errors.ts';
import type { Cleanup } from '../../src/host/owned-fd.ts';
import type { MemorySection } from '../../src/memory/listener.ts';
import { Difference } from './frontend-peer.ts';
import { RecordedMachine } from './frontend-recorded-machine.ts';
import { RecordedMemory } from './frontend-recorded-memory.ts';
import type { RecordedCommit, RecordedEvent, RecordedSection, Recording } from './frontend-recording.ts';
import type { ReplayedDevice } from './frontend-replayed-device.ts';

/** Where the listeners of a replay hear of guest memory. */
export interface MemoryInputs {
  /** What QEMU did against the rules, and was done here, too. */
  readonly forced: readonly string[];
  /** Something happened to memory devices. */
  event(event: RecordedEvent, index: number): void;
  /** A vhost device has connected, and listens from now on. */
  connect(dev: number, device: ReplayedDevice): void;
  disconnect(dev: number, device: ReplayedDevice): void;
  /** @throws {Difference} the device sees something else than in QEMU */
  commit(event: RecordedCommit, index: number, device: ReplayedDevice): void;
}

/** Level 1: the sections of the recording. */
export class SectionInputs implements MemoryInputs {
  readonly forced: readonly string[] = [];
  readonly #memory: RecordedMemory;
  readonly #flat = new Map<number, Map<string, MemorySection>>();

  constructor(recording: Recording, owned: Cleanup) {
    this.#memory = new RecordedMemory(recording, owned);
  }

  event(event: RecordedEvent): void {
    if (event.ev === 'mdev_pre_plug' || event.ev === 'mdev_plug') this.#memory.place(event.addr);
    else if (event.ev === 'mdev_unplug') this.#memory.free(event.addr);
  }

  connect(dev: number): void {
    this.#flat.set(dev, new Map());
  }

  disconnect(): void {
    // its last commit takes the sections away
  }

  commit({ dev, flat }: RecordedCommit, _: number, { device: { listener } }: ReplayedDevice): void {
    if (flat !== undefined) {
      const before = this.#flat.get(dev)!;
      const next = new Map(flat.map((row) => [String(row), this.#memory.section(row)]));
      for (const [row, section] of before) if (!next.has(row)) listener.regionDel(section);
      for (const [row, section] of next) if (!before.has(row)) listener.regionAdd(section);
      this.#flat.set(dev, next);
    }
    listener.commit();
  }
}

/** Level 2: our own memory devices. */
export class DeviceInputs implements MemoryInputs {
  readonly #events: readonly RecordedEvent[];
  readonly #machine: RecordedMachine;
  readonly #connected = new Map<number, ReplayedDevice>();
  /** Unplugs and resets that were done at a commit recorded before them. */
  readonly #done = new Set<RecordedEvent>();

  constructor(recording: Recording, owned: Cleanup) {
    this.#events = recording.events;
    this.#machine = new RecordedMachine(recording, owned);
  }

  get forced(): readonly string[] {
    return this.#machine.forced;
  }

  event(event: RecordedEvent, index: number): void {
    if (this.#done.delete(event)) return;
    if (event.ev === 'mdev_pre_plug') this.#machine.plug(event.id, event.addr, index);
    else if (event.ev === 'mdev_unplug') this.#machine.unplug(event.addr);
    else if (event.ev === 'vmem_reset') this.#machine.reset();
    else if (event.ev === 'vmem_req') {
      const after = this.#events.slice(index + 1);
      const response = after.findIndex(({ ev }) => ev === 'vmem_resp');
      if (response < 0) return; // QEMU did not live to answer
      const { type } = after[response] as Extract<RecordedEvent, { readonly ev: 'vmem_resp' }>;
      const commit = after.slice(0, response).find((each) => each.ev === 'commit');
      this.#machine.request(event, type, showsIn(commit?.flat));
    }
  }

  connect(dev: number, device: ReplayedDevice): void {
    this.#connected.set(dev, device);
    const isUsed = this.#events.some((event) => event.ev === 'start' && event.dev === dev);
    try {
      this.#machine.connect(dev, device.device.limit, isUsed);
    } catch (error) {
      if (!(error instanceof MemoryDeviceError)) throw error;
      if (isUsed) throw new Difference(`device ${dev} is refused: ${error.message}`);
      // by QEMU, too: it never gets to work
    }
    this.#machine.memory.space.addListener(device.device.listener);
  }

  disconnect(dev: number, device: ReplayedDevice): void {
    this.#connected.delete(dev);
    this.#machine.memory.space.removeListener(device.device.listener);
    this.#machine.disconnect(dev);
  }

  commit({ dev, flat }: RecordedCommit, index: number): void {
    // the last commit of a device that has gone shows it nothing
    if (flat === undefined || !this.#connected.has(dev)) return;
    this.#follow(flat, index);
    const ours = this.#machine.sections.join(' ');
    const theirs = flat.map((row) => row.join()).join(' ');
    if (ours !== theirs) throw new Difference(`commit ${index}: sections are ${ours}, QEMU's ${theirs}`);
  }

  /** Does what the commit shows and is not done yet: base RAM, and an unplug or a reset, which are recorded after their commits. */
  #follow(flat: readonly RecordedSection[], index: number): void {
    const machine = this.#machine;
    const { topology } = machine.memory;
    topology.begin();
    try {
      machine.showBase(flat);
      if (!this.#areDevicesAsIn(flat)) this.#undoneCause(flat, index);
    } finally {
      topology.commit();
    }
  }

  #undoneCause(flat: readonly RecordedSection[], index: number): void {
    const cause = this.#events
      .slice(index + 1)
      .find((event) => event.ev !== 'commit' && event.ev !== 'msg' && !this.#done.has(event));
    if (cause?.ev === 'mdev_unplug') this.#machine.unplug(cause.addr);
    else if (cause?.ev === 'vmem_reset') this.#machine.reset(showsIn(flat));
    else {
      this.#machine.restore(flat);
      return;
    }
    this.#done.add(cause);
  }

  #areDevicesAsIn(flat: readonly RecordedSection[]): boolean {
    const theirs = flat.filter((row) => this.#machine.isOfDevice(row)).map((row) => row.join());
    const ours = this.#machine.sections.filter((row) => this.#machine.isOfDevice(rowOf(row)));
    return ours.join(' ') === theirs.join(' ');
  }
}

const rowOf = (text: string): RecordedSection => {
  const [name = '', ...numbers] = text.split(',');
  const [address = 0, size = 0, host = 0] = numbers.map(Number);
  return [name, address, size, host];
};

const showsIn =
  (flat: readonly RecordedSection[] | undefined) =>
  (name: string): boolean =>
    flat === undefined || flat.some(([shown]) => shown === name);
