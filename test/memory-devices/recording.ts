/**
 * Recordings of QEMU at the level of memory devices: the devices a machine was started with or got, the requests its guest made, and the
 * sections of guest memory that QEMU showed its vhost devices. Done again with our own devices.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { MemoryDeviceError } from '../../src/errors.ts';
import type { MemoryDevice } from '../../src/memory-devices/memory-device.ts';
import { vhostUserMemslotLimit } from '../../src/memory-devices/memslot-budget.ts';
import { PcDimm } from '../../src/memory-devices/pc-dimm.ts';
import { PcMemory } from '../../src/memory-devices/pc-memory.ts';
import { createRamBackend } from '../../src/memory-devices/ram-backend.ts';
import type { VhostSlotCounter } from '../../src/memory-devices/vhost-sections.ts';
import { VirtioMem } from '../../src/memory-devices/virtio-mem.ts';

interface Event {
  readonly ev: string;
  readonly dev?: number;
  readonly id?: string;
  readonly addr?: number;
  readonly op?: 'plug' | 'unplug' | 'unplug_all';
  readonly nb_blocks?: number;
  readonly type?: number;
  readonly flat?: readonly (readonly [string, number, number, number])[];
  readonly name?: string;
  readonly reply?: string;
  readonly u64?: string;
}

/** Properties of a device or of a memory backend, as texts. */
type Properties = Readonly<Record<string, string>>;

/** A hot-plug by QMP, and how it was answered. */
interface Hotplug {
  readonly properties: Properties;
  readonly error: string | undefined;
}

export interface Recording {
  readonly name: string;
  readonly events: readonly Event[];
  readonly backends: ReadonlyMap<string, bigint>;
  readonly devices: ReadonlyMap<string, Properties>;
  readonly memory: Properties;
  /** device_add of modules and device_del, in their order; undefined for a device_del. */
  readonly hotplugs: readonly (Hotplug | undefined)[];
}

/** Something that is not as QEMU had it. */
export interface Difference {
  readonly event: number;
  readonly seen: unknown;
  readonly expected: unknown;
}

export function readRecording(directory: string, name: string): Recording {
  const path = join(directory, name);
  const lines = (file: string): unknown[] =>
    gunzipSync(readFileSync(join(path, file)))
      .toString()
      .split('\n')
      .filter((line) => line !== '')
      .map((line): unknown => JSON.parse(line));
  const { qemu } = JSON.parse(readFileSync(join(path, 'cmdline.json'), 'utf8')) as {
    readonly qemu: string[];
  };
  const after = (option: string): Properties[] =>
    qemu.flatMap((argument, index) => (qemu[index - 1] === option ? [propertiesOf(argument)] : []));
  const commands = commandsIn(lines('qmp.jsonl.gz'));
  const backends = [...after('-object'), ...argumentsOf(commands, 'object-add')];
  const devices = [...after('-device'), ...argumentsOf(commands, 'device_add')];
  return {
    name,
    events: lines('events.jsonl.gz') as Event[],
    backends: new Map(backends.map((backend) => [backend.id!, bytesOf(backend.size ?? '0')])),
    devices: new Map(devices.flatMap((device) => (device.id === undefined ? [] : [[device.id, device]]))),
    memory: after('-m')[0]!,
    hotplugs: commands.flatMap(({ name, properties, error }) => {
      if (name === 'device_del') return [undefined];
      return name === 'device_add' && properties.driver === 'pc-dimm' ? [{ properties, error }] : [];
    }),
  };
}

interface Command {
  readonly name: string;
  readonly properties: Properties;
  readonly error: string | undefined;
}

function commandsIn(lines: readonly unknown[]): Command[] {
  const commands: Command[] = [];
  for (const line of lines as {
    readonly qmp?: { readonly execute: string; readonly arguments?: Record<string, unknown> };
    readonly qmp_reply?: { readonly error?: { readonly desc: string } };
  }[]) {
    const last = commands.at(-1);
    if (line.qmp !== undefined) {
      const properties = Object.entries(line.qmp.arguments ?? {}).map(([key, value]) => [key, String(value)]);
      commands.push({
        name: line.qmp.execute,
        properties: Object.fromEntries(properties) as Properties,
        error: undefined,
      });
    } else if (line.qmp_reply?.error !== undefined && last !== undefined) {
      commands[commands.length - 1] = { ...last, error: line.qmp_reply.error.desc };
    }
  }
  return commands;
}

const argumentsOf = (commands: readonly Command[], name: string): Properties[] =>
  commands.filter((command) => command.name === name).map(({ properties }) => properties);

/** `virtio-mem-pci,id=vm0,…`: the first word is the driver. */
function propertiesOf(argument: string): Properties {
  const words = argument.split(',').map((word) => word.split('='));
  return Object.fromEntries(
    words.map(([key, value], index) =>
      value === undefined && index === 0 ? ['driver', key] : [key, value ?? 'on'],
    ),
  ) as Properties;
}

function bytesOf(text: string): bigint {
  const units: Readonly<Record<string, bigint>> = { M: 1n << 20n, G: 1n << 30n };
  const unit = units[text.at(-1)!];
  return unit === undefined ? BigInt(text) : BigInt(text.slice(0, -1)) * unit;
}

/** Does a recording again. @returns what differs */
export function replay(recording: Recording): Difference[] {
  return new Replay(recording).run();
}

class Replay {
  readonly #recording: Recording;
  readonly #memory: PcMemory;
  readonly #plugged = new Map<string, MemoryDevice>();
  readonly #connected = new Map<number, VhostSlotCounter>();
  readonly #differences: Difference[] = [];
  /** Commits that are compared when what caused them is known: an unplug and a reset are recorded after theirs. */
  #uncompared: { readonly event: number; readonly flat: NonNullable<Event['flat']> }[] = [];
  #answer: number | undefined;
  #resets = 0;

  constructor(recording: Recording) {
    this.#recording = recording;
    const { size, maxmem = size, slots = '0' } = recording.memory;
    this.#memory = new PcMemory({
      ram: [bytesOf(size!)],
      maxmem: bytesOf(maxmem!),
      dimmSlots: Number(slots),
    });
  }

  run(): Difference[] {
    this.#recording.events.forEach((event, index) => {
      if (event.ev === 'msg') return;
      if (event.ev !== 'commit' && event.ev !== 'mdev_unplug' && event.ev !== 'vmem_reset') this.#compare();
      this.#apply(event, index);
    });
    this.#compare();
    return this.#differences;
  }

  #apply(event: Event, index: number): void {
    const { ev, addr } = event;
    if (ev === 'vhost_init') this.#connect(event.dev!);
    else if (ev === 'cleanup') this.#disconnect(event.dev!);
    else if (ev === 'mdev_pre_plug') this.#expect(index, Number(this.#plug(event.id!).address), addr);
    else if (ev === 'mdev_plug') this.#refusals(event.id!, index);
    else if (ev === 'mdev_unplug') this.#unplug(event.id!);
    else if (ev === 'vmem_reset') this.#reset();
    else if (ev === 'vmem_req') this.#answer = this.#request(event);
    else if (ev === 'vmem_resp') this.#expect(index, this.#answer, event.type);
    // The last commit of a device that has gone shows it nothing.
    else if (ev === 'commit' && this.#connected.has(event.dev!))
      this.#uncompared.push({ event: index, flat: event.flat! });
    if (ev === 'mdev_unplug' || ev === 'vmem_reset') this.#compare();
  }

  #expect(event: number, seen: unknown, expected: unknown): void {
    if (JSON.stringify(seen) !== JSON.stringify(expected)) this.#differences.push({ event, seen, expected });
  }

  /** The sections of memory devices, as a vhost device sees them. */
  #compare(): void {
    const backends = new Set([...this.#plugged.values()].map(({ backend }) => backend?.id));
    const seen = this.#memory.observer.sections
      .filter(({ region }) => backends.has(region.name))
      .map((section) => [
        section.region.name,
        Number(section.offsetWithinAddressSpace),
        Number(section.size),
      ]);
    for (const { event, flat } of this.#uncompared) {
      const ofDevices = flat.filter(([, address]) => BigInt(address) >= this.#memory.devices.window.start);
      this.#expect(
        event,
        seen,
        ofDevices.map(([name, address, size]) => [name, address, size]),
      );
    }
    this.#uncompared = [];
  }

  #connect(dev: number): void {
    const own = this.#recording.events.filter((event) => event.ev === 'msg' && event.dev === dev);
    const replyTo = (name: string): bigint | undefined => {
      const reply = own.find((event) => event.name === name)?.reply;
      return reply === undefined ? undefined : BigInt(reply);
    };
    const features = replyTo('GET_PROTOCOL_FEATURES');
    const canConfigure =
      features !== undefined && (features & (1n << BigInt(ProtocolFeature.CONFIGURE_MEM_SLOTS))) !== 0n;
    const limit = vhostUserMemslotLimit({
      hasProtocolFeatures: features !== undefined,
      maxMemSlots: canConfigure ? replyTo('GET_MAX_MEM_SLOTS') : undefined,
    });
    this.#connected.set(dev, this.#memory.connect(`fs${dev}`, limit));
  }

  #disconnect(dev: number): void {
    this.#memory.disconnect(this.#connected.get(dev)!);
    this.#connected.delete(dev);
  }

  #plug(id: string): MemoryDevice {
    const device = this.#make(this.#recording.devices.get(id)!);
    this.#memory.devices.add(device);
    this.#plugged.set(id, device);
    return device;
  }

  #make(properties: Properties): MemoryDevice {
    const { id, memdev, addr = '0' } = properties;
    const backend = createRamBackend(this.#memory.topology, {
      id: memdev!,
      size: this.#recording.backends.get(memdev!)!,
      block: { fd: 0 },
    });
    if (properties.driver === 'pc-dimm')
      return new PcDimm({ id: id!, backend, slots: this.#memory.dimmSlots, address: BigInt(addr) });
    const blockSize = properties['block-size'];
    return new VirtioMem({
      id: id!,
      backend,
      requestedSize: Number(properties['requested-size'] ?? 0),
      dynamicMemslots: /^(on|true)$/.test(properties['dynamic-memslots'] ?? 'off'),
      ...(blockSize === undefined ? {} : { blockSize: Number(bytesOf(blockSize)) }),
    });
  }

  #unplug(id: string): void {
    this.#memory.devices.unplug(this.#plugged.get(id)!);
    this.#plugged.delete(id);
  }

  get #virtioMems(): VirtioMem[] {
    return [...this.#plugged.values()].filter((device) => device instanceof VirtioMem);
  }

  /** A reset is not recorded with its device: they come in order of creation, all of them each time. */
  #reset(): void {
    const devices = this.#virtioMems;
    devices[this.#resets % devices.length]!.systemReset();
    this.#resets += 1;
  }

  #request({ op, addr = 0, nb_blocks: blocks = 0 }: Event): number {
    const device = this.#virtioMems.find((each) => {
      const start = Number(each.address);
      return addr >= start && addr < start + each.regionSize;
    })!;
    // The operator's changes are not among the events: the guest did what it was asked.
    if (op === 'plug')
      device.setRequestedSize(Math.max(device.requestedSize, device.size + blocks * device.blockSize));
    else if (device.requestedSize > device.size - blocks * device.blockSize)
      device.setRequestedSize(device.size - blocks * device.blockSize);
    return op === 'plug' ? device.plug(addr, blocks) : device.unplug(addr, blocks);
  }

  /** Modules that QEMU refused right after this one was plugged. */
  #refusals(id: string, index: number): void {
    const { hotplugs } = this.#recording;
    const at = hotplugs.findIndex((hotplug) => hotplug?.properties.id === id && hotplug.error === undefined);
    if (at < 0) return;
    for (let next = at + 1; hotplugs[next]?.error !== undefined; next += 1) {
      const { properties, error } = hotplugs[next]!;
      this.#expect(index, this.#refusalOf(properties), error);
    }
  }

  #refusalOf(properties: Properties): string | undefined {
    try {
      this.#memory.devices.prePlug(this.#make(properties));
      return undefined;
    } catch (error) {
      if (error instanceof MemoryDeviceError) return error.message;
      throw error;
    }
  }
}
