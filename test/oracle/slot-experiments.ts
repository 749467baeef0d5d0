/**
 * The slot experiments made with real QEMU, done again with our own devices: each row of a `matrix/*.jsonl` file names devices that
 * were plugged, and says what QEMU did and counted.
 *
 * What a row does not say about the machine is the same in its whole group and stands in the table below.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryDeviceError } from '../../src/errors.ts';
import { vhostUserMemslotLimit } from '../../src/memory-devices/memslot-budget.ts';
import { PcDimm } from '../../src/memory-devices/pc-dimm.ts';
import { PcMemory, type PcMemoryOptions, type PcPhase } from '../../src/memory-devices/pc-memory.ts';
import { createRamBackend } from '../../src/memory-devices/ram-backend.ts';
import { VirtioMem } from '../../src/memory-devices/virtio-mem.ts';
import type { VhostSlotCounter } from '../../src/memory-devices/vhost-sections.ts';

export interface Counters {
  readonly limit: number;
  readonly used: number;
  readonly required: number;
  readonly dm_used: number;
  readonly reserved: number;
  readonly free: number;
}

interface Placed {
  readonly memslots?: number;
  readonly memslot_size?: number | null;
  readonly addr: number;
}

/** A row as it stands in the file. Which fields it has depends on its group. */
export interface Row {
  readonly group: string;
  readonly qemu: string;
  readonly case?: string;
  readonly ram?: string;
  readonly order?: string;
  readonly device?: string;
  readonly size?: number;
  readonly hint?: number | null;
  readonly region?: number;
  readonly memslots?: number;
  readonly dynamic?: boolean;
  readonly dimms?: number;
  readonly fit?: number;
  readonly dimms_fit?: number;
  readonly numa_nodes?: number;
  readonly configure_mem_slots?: boolean;
  readonly limit?: number;
  readonly limits?: readonly number[];
  readonly backend_max?: number | null;
  readonly started?: boolean;
  readonly got?: Placed | string | null;
  readonly error?: string | null;
  readonly error_fs1?: string | null;
  readonly error_vm?: string | null;
  readonly stderr?: readonly string[];
  readonly counters?: Counters;
}

/** What our own machine did, in the words of the row. */
type Outcome = { readonly [field in keyof Row]?: unknown };

/** A row done again. */
export interface Verdict {
  readonly row: Row;
  /** Where it stands: file and line. */
  readonly place: string;
  /** What differs; empty: nothing. */
  readonly differences: readonly string[];
  /** QEMU 10.0.2 only: the row shows its counter bug, and why. */
  readonly knownBug?: string;
}

const MIB = 1 << 20;
const GIB = 2 ** 30;
const DIMM_SIZE = 128 * MIB;

/** All rows of all `*.jsonl` files in these directories, done again. */
export function runExperiments(directories: readonly string[]): Verdict[] {
  return directories.flatMap((directory) =>
    readdirSync(directory)
      .filter((name) => name.endsWith('.jsonl'))
      .sort()
      .flatMap((name) => runFile(join(directory, name))),
  );
}

function runFile(path: string): Verdict[] {
  const rows = readFileSync(path, 'utf8')
    .split('\n')
    .map((line, index) => ({ line, place: `${path}:${index + 1}` }))
    .filter(({ line }) => line.trim() !== '')
    .map(({ line, place }) => ({ row: JSON.parse(line) as Row, place }));
  return experimentsIn(rows).flatMap((steps) => {
    const outcomes = outcomesOf(steps.map(({ row }) => row));
    return steps.map(({ row, place }, index) => judge(row, place, outcomes[index]!));
  });
}

interface PlacedRow {
  readonly row: Row;
  readonly place: string;
}

/** Rows that name the same case are steps of one experiment, in their order; any other row is an experiment by itself. */
function experimentsIn(rows: readonly PlacedRow[]): readonly (readonly PlacedRow[])[] {
  const experiments = new Map<string, PlacedRow[]>();
  for (const step of rows) {
    const { case: name, group, qemu, backend_max: max } = step.row;
    const key = name === undefined ? step.place : `${qemu} ${group} ${name} ${max}`;
    const steps = experiments.get(key);
    if (steps === undefined) experiments.set(key, [step]);
    else steps.push(step);
  }
  return [...experiments.values()];
}

function judge(row: Row, place: string, outcome: Outcome | string): Verdict {
  if (typeof outcome === 'string') return { row, place, differences: [outcome] };
  const compared = Object.entries(outcome).filter(([field]) => field in row);
  if (compared.length === 0) return { row, place, differences: ['the row says nothing that is known here'] };
  const differences = compared
    .filter(([field, ours]) => JSON.stringify(ours) !== JSON.stringify(expected(row, field)))
    .map(
      ([field, ours]) =>
        `${field}: QEMU ${JSON.stringify(expected(row, field))}, here ${JSON.stringify(ours)}`,
    );
  const bug = differences.length > 0 ? counterBug(row) : undefined;
  return bug === undefined ? { row, place, differences } : { row, place, differences: [], knownBug: bug };
}

/** A field of the row, in one form: counters in our order, error texts without the command line before them. */
function expected(row: Row, field: string): unknown {
  if (field === 'counters' && row.counters !== undefined) {
    const { limit, used, required, dm_used, reserved, free } = row.counters;
    return { limit, used, required, dm_used, reserved, free };
  }
  if (field === 'stderr')
    return (row.stderr ?? []).slice(0, 1).map((line) => line.replace(/^-device \S+: /, ''));
  return Reflect.get(row, field) as unknown;
}

/** QEMU 10.0.2 has one counter of used memslots for all back-ends, and subtracts from a limit without looking whether that is possible. */
function counterBug(row: Row): string | undefined {
  if (row.qemu !== '10.0.2') return undefined;
  const { counters } = row;
  if (counters !== undefined && counters.limit < counters.used)
    return `10.0.2: ${counters.used} memslots used of ${counters.limit}, and the rest wraps around`;
  return row.group === 'stale' ? '10.0.2: the counter is zeroed when any vhost device goes' : undefined;
}

// The machine.

interface Machine {
  readonly memory: PcMemory;
  dimms: number;
}

function machine(
  options: Partial<PcMemoryOptions> & { readonly space: number; readonly phase?: PcPhase },
): Machine {
  const ram = options.ram ?? [BigInt(512 * MIB)];
  const size = ram.reduce<bigint>((sum, piece) => sum + (typeof piece === 'bigint' ? piece : piece.size), 0n);
  const memory = new PcMemory({ ...options, ram, maxmem: size + BigInt(options.space) });
  memory.setPhase(options.phase ?? 'created');
  return { memory, dimms: 0 };
}

/** The text of a refusal, or null. */
function refusal(attempt: () => void): string | null {
  try {
    attempt();
    return null;
  } catch (error) {
    if (error instanceof MemoryDeviceError) return error.message;
    throw error;
  }
}

const limitOf = (max: number | null | undefined): number =>
  vhostUserMemslotLimit({ maxMemSlots: max ?? undefined });

const connect = ({ memory }: Machine, name: string, max: number | null | undefined): VhostSlotCounter =>
  memory.connect(name, limitOf(max));

interface VirtioMemShape {
  readonly size: number;
  readonly dynamic?: boolean;
  readonly blockSize?: number;
  readonly address?: number | null | undefined;
  readonly id?: string;
}

function addVirtioMem({ memory }: Machine, shape: VirtioMemShape): VirtioMem {
  const { id = 'vm0' } = shape;
  const device = new VirtioMem({
    id,
    backend: createRamBackend(memory.topology, { id: `${id}m`, size: BigInt(shape.size), block: { fd: 0 } }),
    dynamicMemslots: shape.dynamic ?? true,
    address: BigInt(shape.address ?? 0),
    ...(shape.blockSize === undefined ? {} : { blockSize: shape.blockSize }),
  });
  memory.devices.add(device);
  return device;
}

function addDimm(machine: Machine, size = DIMM_SIZE, address = 0): PcDimm {
  const { memory } = machine;
  const id = `d${machine.dimms}`;
  const device = new PcDimm({
    id,
    backend: createRamBackend(memory.topology, { id: `${id}m`, size: BigInt(size), block: { fd: 0 } }),
    slots: memory.dimmSlots,
    address: BigInt(address),
  });
  memory.devices.add(device);
  machine.dimms += 1;
  return device;
}

/** Plugs modules until one is refused. */
function fillWithDimms(machine: Machine): { readonly fit: number; readonly error: string | null } {
  for (let fit = 0; ; fit += 1) {
    const error = refusal(() => addDimm(machine));
    if (error !== null) return { fit, error };
  }
}

function countersOf({ memory: { budget, observer } }: Machine): Counters {
  const [first] = budget.consumers;
  return {
    limit: budget.limit,
    used: first === undefined ? observer.used : Math.max(...budget.consumers.map(({ used }) => used)),
    required: budget.required,
    dm_used: budget.mapped,
    reserved: budget.reserved,
    free: budget.free,
  };
}

const placedOf = (device: VirtioMem): Placed => ({
  memslots: device.dynamicMemslots === undefined ? 0 : device.memslots(),
  memslot_size: device.dynamicMemslots?.layout.memslotSize ?? null,
  addr: Number(device.address),
});

// The groups.

/** What is done for a row, by its group. A text: the row is not understood. */
const GROUPS: { readonly [group: string]: (row: Row) => Outcome } = {
  maxslots: (row) => commandLine(row),
  order: (row) => commandLine(row),
  dimms: (row) => {
    const made = machine({ space: 256 * DIMM_SIZE, dimmSlots: 256 });
    if (row.counters !== undefined) connect(made, 'fs0', row.backend_max);
    made.memory.setPhase('paused');
    return { ...fillWithDimms(made), ...(row.counters === undefined ? {} : { counters: countersOf(made) }) };
  },
  after_bios_dimms: (row) => {
    const made = machine({ space: 256 * DIMM_SIZE, dimmSlots: 256 });
    connect(made, 'fs0', row.backend_max);
    made.memory.setPhase('booted');
    return { ...fillWithDimms(made), counters: countersOf(made) };
  },
  dimms_vmem: (row) => {
    const made = machine({ space: row.region! + 256 * DIMM_SIZE, dimmSlots: 256 });
    connect(made, 'fs0', row.backend_max);
    made.memory.setPhase('paused');
    const device = addVirtioMem(made, { size: row.region! });
    const { fit, error } = fillWithDimms(made);
    return { got: placedOf(device), dimms_fit: fit, error, counters: countersOf(made) };
  },
  dimms_first: (row) => {
    const made = machine({ space: 600 * GIB, dimmSlots: 256 });
    connect(made, 'fs0', row.backend_max ?? 509);
    made.memory.setPhase('paused');
    for (let i = 0; i < row.dimms!; i += 1) addDimm(made);
    let got: Placed | null = null;
    const error = refusal(() => (got = placedOf(addVirtioMem(made, { size: row.region ?? 300 * GIB }))));
    return { error, got, counters: countersOf(made) };
  },
  late_fs: (row) => {
    const made = machine({ space: row.region!, phase: 'paused' });
    const device = addVirtioMem(made, { size: row.region! });
    const error = refusal(() => connect(made, 'fs0', row.backend_max));
    return { memslots: device.memslots(), error, counters: countersOf(made) };
  },
  late_fs_static: (row) => {
    const made = machine({ space: row.region ?? GIB, phase: 'paused' });
    addVirtioMem(made, { size: row.region ?? GIB, dynamic: row.dynamic! });
    const error = refusal(() => connect(made, 'fs0', row.backend_max));
    return { error, counters: countersOf(made) };
  },
  late_fs_dimms: (row) => lateFsAfterDimms(row, 'paused'),
  after_bios: (row) => lateFsAfterDimms(row, 'booted'),
  // A second back-end that is refused leaves no trace.
  stale: (row) => {
    const made = machine({ space: 256 * DIMM_SIZE, dimmSlots: 256 });
    connect(made, 'fs0', row.backend_max ?? row.limit);
    made.memory.setPhase('paused');
    refusal(() => connect(made, 'fs1', 0));
    return { ...fillWithDimms(made), counters: countersOf(made) };
  },
  two_fs: (row) => twoBackends(row),
  ramblocks: (row) => {
    const ram = Array.from({ length: row.numa_nodes! }, () => BigInt(64 * MIB));
    const made = machine({ space: GIB, ram });
    return backendOnCommandLine(made, row.configure_mem_slots === true ? row.limit! : undefined);
  },
  // The back-end of this row has no protocol features, hence no memslots.
  share_on: () => {
    const made = machine({ space: GIB });
    const error = refusal(() => made.memory.connect('fs0', 0));
    return { started: error === null, stderr: error === null ? [] : [error] };
  },
  nomaxmem_vmem: () => {
    const made = machine({ space: 0 });
    const error = refusal(() => addVirtioMem(made, { size: GIB }));
    return { started: error === null, stderr: error === null ? [] : [error] };
  },
};

/** What happened in each row of one experiment. */
function outcomesOf(rows: readonly Row[]): readonly (Outcome | string)[] {
  const first = rows[0]!;
  try {
    if (first.device !== undefined) return plugInTurn(rows);
    const run = GROUPS[first.group];
    return rows.map((row) => run?.(row) ?? `experiments of the group '${row.group}' are not known`);
  } catch (error) {
    return rows.map(
      () => `it cannot be done here: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** A back-end and a virtio-mem device that takes all the space, in this order or the other, before the machine runs. */
function commandLine(row: Row): Outcome {
  const made = machine({ space: row.region! });
  let got: Placed | null = null;
  const plugs: { readonly [name: string]: () => void } = {
    fs: () => connect(made, 'fs0', row.backend_max),
    vmem: () => (got = placedOf(addVirtioMem(made, { size: row.region! }))),
  };
  const error = refusal(() => {
    for (const name of row.order!.split(',')) plugs[name]!();
  });
  return {
    started: error === null,
    got: error === null ? got : null,
    stderr: error === null ? [] : [error],
    counters: countersOf(made),
  };
}

function backendOnCommandLine(made: Machine, max: number | undefined): Outcome {
  const error = refusal(() => connect(made, 'fs0', max));
  return { started: error === null, stderr: error === null ? [] : [error] };
}

function lateFsAfterDimms(row: Row, phase: PcPhase): Outcome {
  const made = machine({ space: 256 * DIMM_SIZE, dimmSlots: 256, phase });
  for (let i = 0; i < row.dimms!; i += 1) addDimm(made);
  const error = refusal(() => connect(made, 'fs0', row.backend_max));
  return { error, counters: countersOf(made) };
}

/** Two back-ends, a virtio-mem device of 16 GiB, modules until one is refused. */
function twoBackends(row: Row): Outcome {
  const made = machine({ space: 16 * GIB + 16 * DIMM_SIZE, dimmSlots: 16 });
  let got: Placed | null = null;
  connect(made, 'fs0', row.limits![0]);
  const errorFs1 = refusal(() => connect(made, 'fs1', row.limits![1]));
  made.memory.setPhase('paused');
  const errorVm = refusal(() => (got = placedOf(addVirtioMem(made, { size: 16 * GIB }))));
  const { fit, error } = fillWithDimms(made);
  return { error_fs1: errorFs1, got, error_vm: errorVm, dimms: fit, error, counters: countersOf(made) };
}

/** Devices plugged one after the other into a paused machine: `d` modules, `v` virtio-mem, `s` without dynamic memslots, `b` in 1 GiB blocks. */
function plugInTurn(rows: readonly Row[]): Outcome[] {
  const first = rows[0]!;
  const modules = rows.filter(({ device }) => device!.startsWith('d')).length;
  const made = machine({
    space: spaceOf(rows, modules),
    dimmSlots: modules,
    ...(first.ram === undefined ? {} : { ram: [BigInt(bytesOf(first.ram))] }),
  });
  connect(made, 'fs0', first.group === 'align' ? 509 : first.backend_max);
  made.memory.setPhase('paused');
  return rows.map((row) => {
    const isText = first.group === 'align';
    let got: Placed | string | null = null;
    const error = refusal(() => {
      if (row.device!.startsWith('d')) {
        const { address } = addDimm(made, row.size, row.hint ?? 0);
        got = isText ? `0x${address.toString(16)}` : { addr: Number(address) };
        return;
      }
      const device = addVirtioMem(made, {
        id: row.device!,
        size: row.size!,
        address: row.hint,
        dynamic: !row.device!.startsWith('s'),
        ...(row.device!.startsWith('b') ? { blockSize: GIB } : {}),
      });
      got = isText ? `0x${device.address.toString(16)}` : placedOf(device);
    });
    return { got, error, counters: countersOf(made) };
  });
}

/** maxmem − RAM of an experiment: a refusal names it, or the name of the experiment does ("100G of 400G"), or all devices just fit. */
function spaceOf(rows: readonly Row[], modules: number): number {
  for (const { error } of rows) {
    const total = /total space for memory devices (0x[0-9a-f]+)/.exec(error ?? '')?.[1];
    if (total !== undefined) return Number(total);
    const window = /usable range for memory devices \[0x[0-9a-f]+:(0x[0-9a-f]+)\]/.exec(error ?? '')?.[1];
    if (window !== undefined) return Number(window) - modules * GIB;
  }
  const named = / of ([\d.]+[MG])/.exec(rows[0]!.case ?? '')?.[1];
  return named === undefined ? rows.reduce((sum, { size }) => sum + size!, 0) : bytesOf(named);
}

const bytesOf = (text: string): number => Number.parseFloat(text) * (text.endsWith('G') ? GIB : MIB);
