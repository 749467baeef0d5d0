/**
 * What a plan is made for: a machine, and devices in the order in which they are plugged. As JSON:
 *
 *     { "memory": { "size": "512M", "maxmem": "600G", "slots": 4 },
 *       "devices": [
 *         { "driver": "vhost-user-fs", "id": "fs0", "maxMemSlots": 509 },
 *         { "driver": "virtio-mem", "id": "vm0", "size": "300G", "dynamicMemslots": true },
 *         { "driver": "pc-dimm", "size": "128M", "count": 2, "plugged": "running" } ] }
 *
 * Sizes and addresses are bytes, as numbers or as text with K, M, G or T, or hexadecimal.
 */
import { ConfigError } from '../../errors.ts';

/** When a device is plugged: on the command line, while the machine waits to be started, or while the guest runs. */
export const PLAN_PHASES = ['start', 'paused', 'running'] as const;
export type PlanPhase = (typeof PLAN_PHASES)[number];

interface Planned {
  readonly id: string;
  readonly plugged: PlanPhase;
}
export interface PlannedBackend extends Planned {
  readonly driver: 'vhost-user-fs';
  /** Whether the back-end has VHOST_USER_F_PROTOCOL_FEATURES. */
  readonly hasProtocolFeatures: boolean;
  /** Its answer to GET_MAX_MEM_SLOTS; undefined: it cannot add and remove single regions. */
  readonly maxMemSlots: number | undefined;
}
interface PlannedMemory extends Planned {
  readonly size: bigint;
  readonly address: bigint;
  /** Page size of its memory. */
  readonly pageSize: number;
}
export interface PlannedDimm extends PlannedMemory {
  readonly driver: 'pc-dimm' | 'nvdimm';
  readonly slot: number | undefined;
  readonly labelSize: bigint;
}
export interface PlannedVirtioMem extends PlannedMemory {
  readonly driver: 'virtio-mem';
  readonly blockSize: number | undefined;
  readonly dynamicMemslots: boolean;
}
export interface PlannedBalloon extends PlannedMemory {
  readonly driver: 'hv-balloon';
}
export type PlannedDevice = PlannedBackend | PlannedDimm | PlannedVirtioMem | PlannedBalloon;

export interface PlanConfig {
  /** RAM, one piece for each NUMA node that has memory of its own. */
  readonly ram: readonly bigint[];
  readonly maxmem: bigint | undefined;
  readonly dimmSlots: number;
  /** Memslots of the hypervisor; undefined: no limit. */
  readonly hypervisorSlots: number | undefined;
  readonly devices: readonly PlannedDevice[];
}

/** @throws {ConfigError} BAD_OPTION, naming the field */
export function parsePlan(text: string): PlanConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError('BAD_OPTION', 'the plan is not JSON', { cause });
  }
  const plan = new Fields('plan', json);
  const memory = plan.object('memory');
  const config: PlanConfig = {
    ram: memory.list('size').map((value, index) => bytesOf(value, `memory.size[${index}]`)),
    maxmem: memory.bytes('maxmem'),
    dimmSlots: memory.count('slots') ?? 0,
    hypervisorSlots: plan.count('hypervisorSlots'),
    devices: plan
      .list('devices')
      .flatMap((value, index) => devicesOf(new Fields(`devices[${index}]`, value), index)),
  };
  memory.end();
  plan.end();
  if (config.dimmSlots > 0 && config.maxmem === undefined)
    throw new ConfigError('BAD_OPTION', 'memory.slots: memory.maxmem is needed, too');
  assertInOrder(config.devices);
  return config;
}

function assertInOrder(devices: readonly PlannedDevice[]): void {
  const ids = new Set<string>();
  let phase = 0;
  for (const { id, plugged } of devices) {
    if (ids.has(id)) throw new ConfigError('BAD_OPTION', `two devices have the id ${id}`);
    ids.add(id);
    const next = PLAN_PHASES.indexOf(plugged);
    if (next < phase)
      throw new ConfigError(
        'BAD_OPTION',
        `${id}: plugged "${plugged}" after a device that is plugged "${PLAN_PHASES[phase]}"`,
      );
    phase = next;
  }
}

/** Makes the devices of one entry: one, or `count` alike. */
type Make = (fields: Fields, planned: Planned) => PlannedDevice;

const DRIVERS: Readonly<Record<PlannedDevice['driver'], Make>> = {
  'vhost-user-fs': (fields, planned) => ({
    ...planned,
    driver: 'vhost-user-fs',
    hasProtocolFeatures: fields.flag('protocolFeatures') ?? true,
    maxMemSlots: fields.count('maxMemSlots'),
  }),
  'pc-dimm': (fields, planned) => dimm(fields, planned, 'pc-dimm'),
  nvdimm: (fields, planned) => dimm(fields, planned, 'nvdimm'),
  'virtio-mem': (fields, planned) => ({
    ...memory(fields, planned),
    driver: 'virtio-mem',
    blockSize: fields.number('blockSize'),
    dynamicMemslots: fields.flag('dynamicMemslots') ?? false,
  }),
  'hv-balloon': (fields, planned) => ({ ...memory(fields, planned), driver: 'hv-balloon' }),
};

const isDriver = (name: unknown): name is keyof typeof DRIVERS =>
  typeof name === 'string' && Object.hasOwn(DRIVERS, name);

function devicesOf(fields: Fields, index: number): PlannedDevice[] {
  const driver = fields.take('driver');
  if (!isDriver(driver))
    throw new ConfigError(
      'BAD_OPTION',
      `devices[${index}].driver is ${JSON.stringify(driver)}; allowed: ${Object.keys(DRIVERS).join(', ')}`,
    );
  const plugged = fields.choice('plugged', PLAN_PHASES) ?? 'start';
  const count = fields.count('count') ?? 1;
  const id = fields.text('id') ?? `${driver}${index}`;
  const first = DRIVERS[driver](fields, { id, plugged });
  fields.end();
  return count === 1
    ? [first]
    : Array.from({ length: count }, (_, copy) => ({ ...first, id: `${id}.${copy}` }));
}

function memory(fields: Fields, planned: Planned): PlannedMemory {
  const size = fields.bytes('size');
  if (size === undefined || size === 0n) throw fields.wrong('size', 'a size is needed');
  return {
    ...planned,
    size,
    address: fields.bytes('address') ?? 0n,
    pageSize: fields.number('pageSize') ?? 4096,
  };
}

const dimm = (fields: Fields, planned: Planned, driver: PlannedDimm['driver']): PlannedDimm => ({
  ...memory(fields, planned),
  driver,
  slot: fields.count('slot'),
  labelSize: fields.bytes('labelSize') ?? 0n,
});

const UNITS: Readonly<Record<string, bigint>> = {
  '': 1n,
  K: 1n << 10n,
  M: 1n << 20n,
  G: 1n << 30n,
  T: 1n << 40n,
};

function bytesOf(value: unknown, where: string): bigint {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  const match = typeof value === 'string' ? /^(0x[0-9a-f]+|\d+)([KMGT]?)$/i.exec(value) : null;
  const bytes = match === null ? undefined : BigInt(match[1]!) * UNITS[match[2]!.toUpperCase()]!;
  if (bytes === undefined || bytes >= 1n << 53n)
    throw new ConfigError(
      'BAD_OPTION',
      `${where} is ${JSON.stringify(value)}; allowed: bytes, such as 512M or 0x100000000`,
    );
  return bytes;
}

/** The fields of an object, each of which must be asked for. */
class Fields {
  readonly #where: string;
  readonly #rest: Map<string, unknown>;

  constructor(where: string, value: unknown) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new ConfigError('BAD_OPTION', `${where} is not an object`);
    this.#where = where;
    this.#rest = new Map(Object.entries(value));
  }

  take(name: string): unknown {
    const value = this.#rest.get(name) ?? undefined;
    this.#rest.delete(name);
    return value;
  }

  object(name: string): Fields {
    return new Fields(name, this.take(name));
  }

  /** A list; a single value is a list of one. */
  list(name: string): readonly unknown[] {
    const value = this.take(name);
    if (value === undefined) throw this.wrong(name, 'it is missing');
    return Array.isArray(value) ? value : [value];
  }

  bytes(name: string): bigint | undefined {
    const value = this.take(name);
    return value === undefined ? undefined : bytesOf(value, `${this.#where}.${name}`);
  }

  number(name: string): number | undefined {
    const bytes = this.bytes(name);
    return bytes === undefined ? undefined : Number(bytes);
  }

  count(name: string): number | undefined {
    const value = this.take(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw this.wrong(name, 'a whole number is needed');
    return value;
  }

  flag(name: string): boolean | undefined {
    const value = this.take(name);
    if (value !== undefined && typeof value !== 'boolean') throw this.wrong(name, 'true or false is needed');
    return value;
  }

  text(name: string): string | undefined {
    const value = this.take(name);
    if (value !== undefined && typeof value !== 'string') throw this.wrong(name, 'a text is needed');
    return value;
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.text(name);
    const found = choices.find((choice) => choice === value);
    if (value !== undefined && found === undefined) throw this.wrong(name, `allowed: ${choices.join(', ')}`);
    return found;
  }

  /** All fields were asked for. */
  end(): void {
    const [unknown] = this.#rest.keys();
    if (unknown !== undefined) throw this.wrong(unknown, 'there is no such field');
  }

  wrong(name: string, text: string): ConfigError {
    return new ConfigError('BAD_OPTION', `${this.#where}.${name}: ${text}`);
  }
}
