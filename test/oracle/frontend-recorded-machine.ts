/**
 * The machine of a recorded session, with memory devices of our own: plugs, requests of the guest and resets go into them, and sections of
 * guest memory come out. How base RAM is split, and where QEMU has memory mapped, is taken from the recording.
 */
import type { Cleanup } from '../../src/host/owned-fd.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { DimmSlots } from '../../src/memory-devices/dimm-slots.ts';
import type { MemoryDevice } from '../../src/memory-devices/memory-device.ts';
import { Nvdimm, PcDimm } from '../../src/memory-devices/pc-dimm.ts';
import { PcMemory } from '../../src/memory-devices/pc-memory.ts';
import type { RamBackend } from '../../src/memory-devices/ram-backend.ts';
import { VirtioMem } from '../../src/memory-devices/virtio-mem.ts';
import { VirtioMemResponseType, VirtioMemState } from '../../protocol/virtio-mem.ts';
import { MiB } from '../../src/units.ts';
import { Difference } from './frontend-peer.ts';
import { RecordedBudget } from './frontend-recorded-budget.ts';
import { RecordedMemory, sizeOf } from './frontend-recorded-memory.ts';
import {
  optionsAfter,
  type RecordedObject,
  type RecordedSection,
  type RecordedVmemRequest,
  type Recording,
} from './frontend-recording.ts';

/** Above what `PcMemory` shows, and above what hides it. */
const BASE_PRIORITY = 20;

export class RecordedMachine {
  readonly memory: PcMemory;
  readonly #recording: Recording;
  readonly #blocks: RecordedMemory;
  readonly #budget: RecordedBudget;
  /** By address: not every device has a name. */
  readonly #plugged = new Map<number, MemoryDevice>();
  readonly #plugs = new Map<string, number>();
  /** Parts of base RAM, as the recording last had them. */
  #base = '';
  readonly #shown: MemoryRegion[] = [];
  readonly #wereReset = new Set<VirtioMem>();
  /** Its memory came by migration: which blocks the guest has is not in the recording. */
  readonly #isIncoming: boolean;
  #isBusy = false;

  constructor(recording: Recording, owned: Cleanup) {
    this.#recording = recording;
    const { qemu } = recording;
    const { type, size = type ?? '128M', maxmem = size, slots = '0' } = optionsAfter(qemu, '-m')[0] ?? {};
    this.memory = new PcMemory({
      ram: [BigInt(ramSizeOf(size))],
      maxmem: BigInt(ramSizeOf(maxmem)),
      dimmSlots: Number(slots),
      machine: optionsAfter(qemu, '-M', '-machine')[0]?.['type']?.includes('q35') === true ? 'q35' : 'pc',
    });
    const { topology, system, devices } = this.memory;
    this.#budget = new RecordedBudget(this.memory);
    this.#blocks = new RecordedMemory(recording, owned, topology);
    this.#isIncoming = qemu.includes('-incoming');
    const cover = topology.createRegion({ name: 'cover', kind: 'io', size: devices.window.start });
    system.addSubregion(0n, cover, BASE_PRIORITY - 1);
  }

  /** What QEMU let in against the rules. */
  get forced(): readonly string[] {
    return this.#budget.forced;
  }

  /** A vhost device with room for so many regions. @throws {MemoryDeviceError} */
  connect(dev: number, limit: number, isUsed: boolean): void {
    this.#budget.connect(dev, limit, isUsed);
  }

  disconnect(dev: number): void {
    this.#budget.disconnect(dev);
  }

  /** @param index of the event @throws {Difference} it is plugged somewhere else */
  plug(id: string | null, address: number, index: number): void {
    const device = this.#make(id ?? '', address, index);
    this.#budget.admit(`${id ?? 'a device'} at 0x${address.toString(16)}`, () =>
      this.memory.devices.prePlug(device),
    );
    if (Number(device.address) !== address)
      throw new Difference(`${id ?? 'a device'} is plugged at ${device.address}, in QEMU at ${address}`);
    this.memory.devices.plug(device);
    this.#plugged.set(address, device);
  }

  unplug(address: number): void {
    const device = this.#plugged.get(address);
    if (device === undefined) return;
    if (device instanceof VirtioMem) device.setRequestedSize(0);
    this.memory.devices.unplug(device);
    this.#plugged.delete(address);
  }

  /** @param answered by QEMU @throws {Difference} we answer something else */
  request(request: RecordedVmemRequest, answered: number, isShown: (name: string) => boolean): void {
    this.#isBusy = answered === VirtioMemResponseType.BUSY;
    const answer = this.#answerTo(request, answered, isShown);
    if (answer !== undefined && answer !== answered)
      throw new Difference(`${request.op} at ${request.addr} is answered ${answer}, in QEMU ${answered}`);
  }

  /**
   * A reset is recorded without its device. It is one whose memory went with the commit before; or else one that had nothing to lose, or
   * whom nobody saw.
   *
   * @param isShown whether a section of that memory was there after the commit; undefined if none was recorded
   */
  reset(isShown?: (name: string) => boolean): void {
    const devices = this.#virtioMems;
    if (devices.every((device) => this.#wereReset.has(device))) this.#wereReset.clear();
    const isSeen = (device: VirtioMem): boolean =>
      this.#budget.hasTables && device.hasDynamicMemslots && device.size > 0;
    const candidates = devices.filter((device) =>
      isShown === undefined ? !isSeen(device) : isSeen(device) && !isShown(device.backend.id),
    );
    const waiting = candidates.filter((each) => !this.#wereReset.has(each));
    const device = waiting.find(({ size }) => size > 0) ?? waiting[0] ?? candidates[0];
    if (device === undefined) return;
    this.#wereReset.add(device);
    device.systemReset();
  }

  /** Shows base RAM as the recording has it. */
  showBase(flat: readonly RecordedSection[]): void {
    const rows = flat.filter((row) => !this.isOfDevice(row));
    const base = rows.join(' ');
    if (base === this.#base) return;
    this.#base = base;
    const { topology, system } = this.memory;
    for (const region of this.#shown.splice(0)) system.removeSubregion(region);
    rows.forEach(([name, address, size, host], index) => {
      const target = this.#blocks.region(name);
      const offset = BigInt(host) - target.block!.hostAddress!;
      const alias = topology.createRegion({ name, kind: 'alias', target, offset, size: BigInt(size) });
      // pieces that adjoin are pieces in QEMU because they differ: ours do, too
      alias.setReadonly(index % 2 === 1);
      system.addSubregion(BigInt(address), alias, BASE_PRIORITY);
      this.#shown.push(alias);
    });
  }

  isOfDevice([, address]: RecordedSection): boolean {
    const { start, size } = this.memory.devices.window;
    return BigInt(address) >= start && BigInt(address) < start + size;
  }

  /** What a vhost device sees, in the recording's words. */
  get sections(): readonly string[] {
    return this.memory.observer.sections.map(
      ({ region, offsetWithinAddressSpace, size, offsetWithinRegion }) =>
        [region.name, offsetWithinAddressSpace, size, region.block!.hostAddress! + offsetWithinRegion].join(),
    );
  }

  /** After a migration: memslots that come and go without a request the recording has. */
  restore(flat: readonly RecordedSection[]): void {
    if (!this.#isIncoming) return;
    const shown = new Set(flat.map(([name, address]) => `${name} ${address}`));
    for (const device of this.#virtioMems) {
      const { memslots = 0, memslotSize = 0, size = 0 } = layoutOf(device);
      device.setRequestedSize(device.regionSize);
      for (let slot = 0; slot < memslots; slot += 1) {
        const address = Number(device.address) + slot * memslotSize;
        const blocks = Math.min(memslotSize, size - slot * memslotSize) / device.blockSize;
        const isWanted = shown.has(`${device.backend.id} ${address}`);
        setBlocks(device, address, blocks, isWanted);
      }
    }
  }

  get #virtioMems(): VirtioMem[] {
    return [...this.#plugged.values()].filter((device) => device instanceof VirtioMem);
  }

  #make(id: string, address: number, index: number): MemoryDevice {
    const count = this.#plugs.get(id) ?? 0;
    this.#plugs.set(id, count + 1);
    const { objects } = this.#recording;
    const made = objects.filter((object) => (object['id'] ?? '') === id && object['memdev'] !== undefined);
    const options = made[count] ?? made.at(-1);
    if (options === undefined) throw new Difference(`${id}: the recording has no such device`);
    const before = objects.slice(0, objects.indexOf(options));
    const memdev = before.findLast((object) => object['id'] === options['memdev']);
    if (memdev === undefined) throw new Difference(`${id}: the recording has no ${options['memdev']}`);
    const backend = this.#blocks.backend(memdev, this.#hostAddress(memdev['id']!, address, index));
    const wanted = BigInt(sizeOf(options['memaddr'] ?? (isOnPci(options) ? '0' : (options['addr'] ?? '0'))));
    if (options['type']!.startsWith('virtio-mem')) return this.#virtioMem(options, backend, wanted);
    // persistent memory on the PCI bus takes no socket
    const slots = options['type'] === 'virtio-pmem-pci' ? new DimmSlots(1) : this.memory.dimmSlots;
    const dimm = { ...(id === '' ? {} : { id }), backend, slots, address: wanted, ...slotOf(options) };
    return options['type'] === 'nvdimm'
      ? new Nvdimm({ ...dimm, labelSize: BigInt(sizeOf(options['label-size'] ?? '0')) })
      : new PcDimm(dimm);
  }

  #virtioMem(options: RecordedObject, backend: RamBackend, address: bigint): VirtioMem {
    const blockSize = options['block-size'];
    return new VirtioMem({
      ...(options['id'] === undefined ? {} : { id: options['id'] }),
      backend,
      requestedSize: sizeOf(options['requested-size'] ?? '0'),
      dynamicMemslots: options['dynamic-memslots'] === 'on',
      unpluggedInaccessible: options['unplugged-inaccessible'] !== 'off',
      address,
      isBusy: () => this.#isBusy,
      ...(blockSize === undefined ? {} : { blockSize: sizeOf(blockSize) }),
    });
  }

  /** Where QEMU has the first byte of a memory backend: as the next section of it that the recording shows tells. */
  #hostAddress(name: string, address: number, index: number): number {
    for (const event of this.#recording.events.slice(index)) {
      if (event.ev === 'mdev_unplug' && event.addr === address) break;
      if (event.ev !== 'commit') continue;
      const row = event.flat?.find(([of, at]) => of === name && at >= address);
      if (row !== undefined) return row[3] - (row[1] - address);
    }
    return 0x1000 * (index + 1); // nobody is ever told
  }

  #answerTo(
    { op, addr, nb_blocks: blocks = 0 }: RecordedVmemRequest,
    answered: number,
    isShown: (name: string) => boolean,
  ): number | undefined {
    if (op === 'unplug_all') return this.#unplugAll(isShown);
    if ((op !== 'plug' && op !== 'unplug') || addr === undefined) return undefined;
    const device = this.#virtioMems.find((each) => {
      const start = Number(each.address);
      return addr >= start && addr < start + each.regionSize;
    });
    if (device === undefined) return undefined;
    if (op === 'unplug') return device.unplug(addr, blocks);
    // The operator's changes are not among the events: the guest did what it was asked.
    const size = device.size + blocks * device.blockSize;
    const end = addr + blocks * device.blockSize - Number(device.address);
    if (answered === VirtioMemResponseType.NACK) device.setRequestedSize(device.size);
    else device.setRequestedSize(Math.min(device.regionSize, Math.max(device.requestedSize, size, end)));
    if (this.#isIncoming && device.stateOf(addr, blocks) !== VirtioMemState.UNPLUGGED)
      setBlocks(device, addr, blocks, false); // we had taken it for plugged
    return device.plug(addr, blocks);
  }

  /** It is recorded without its device, too. */
  #unplugAll(isShown: (name: string) => boolean): number | undefined {
    const full = this.#virtioMems.filter((device) => device.size > 0);
    const device =
      full.find(({ hasDynamicMemslots, backend }) => hasDynamicMemslots && !isShown(backend.id)) ??
      full.find(({ hasDynamicMemslots }) => !hasDynamicMemslots);
    return device?.unplugAll();
  }
}

/** `addr` of a PCI device is where it is on its bus. */
const isOnPci = ({ type = '' }: RecordedObject): boolean => type.endsWith('-pci');

const slotOf = ({ slot }: RecordedObject): { readonly slot?: number } =>
  slot === undefined ? {} : { slot: Number(slot) };

const layoutOf = (device: VirtioMem): { memslots?: number; memslotSize?: number; size?: number } =>
  device.dynamicMemslots === undefined ? {} : { ...device.dynamicMemslots.layout, size: device.regionSize };

/** Plugs all blocks of a range if none is, or unplugs all. */
function setBlocks(device: VirtioMem, address: number, blocks: number, isPlugged: boolean): void {
  const isMapped = device.stateOf(address, blocks) !== VirtioMemState.UNPLUGGED;
  if (isPlugged) {
    if (!isMapped) device.plug(address, blocks); // else some are, which is enough for the memslot
    return;
  }
  for (let block = 0; block < blocks; block += 1) {
    const at = address + block * device.blockSize;
    if (device.stateOf(at, 1) === VirtioMemState.PLUGGED) device.unplug(at, 1);
  }
}

/** `-m 512` is in MiB. */
const ramSizeOf = (text: string): number =>
  sizeOf(text) * (/^\d+$/.test(text) && Number(text) < MiB ? MiB : 1);
