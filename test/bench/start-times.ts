/** What a back-end costs before it does anything: time from spawn to the first reply, and memory once it is mounted. */
import { readFileSync } from 'node:fs';
import { type BackendCommand, SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import { expectAnswer, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { GiB, MiB } from '../../src/units.ts';
import { medians, ratios } from './measure.ts';
import { MEMORY, type PeerName, processorMicros } from './peer.ts';
import type { Figure } from './result.ts';

const ROUNDS = 5;
const LARGE = 64 * GiB;

type Samples = { [peer in PeerName]?: number[] };

export async function startTimes(commands: ReadonlyMap<PeerName, BackendCommand>): Promise<Figure[]> {
  const time: Samples = {};
  const cpu: Samples = {};
  const memory: Samples = {};
  const large: Samples = {};
  for (let round = 0; round < ROUNDS; round += 1)
    for (const [name, command] of commands) {
      const { ms, micros, kib, largeKib } = await once(command);
      (time[name] ??= []).push(ms);
      (cpu[name] ??= []).push(micros / 1000);
      (memory[name] ??= []).push(kib / 1024);
      (large[name] ??= []).push(largeKib / 1024);
    }
  return [
    figure('start to first reply', 'ms', time),
    figure('start to first reply, processor time', 'ms', cpu),
    figure('resident memory, mounted', 'MiB', memory),
    figure('resident memory, with 64 GiB of guest RAM', 'MiB', large),
  ];
}

interface Started {
  readonly ms: number;
  /** Processor time. */
  readonly micros: number;
  readonly kib: number;
  /** With the large slot. */
  readonly largeKib: number;
}

async function once(command: BackendCommand): Promise<Started> {
  const began = performance.now();
  const backend = await SpawnedBackend.start(command, MEMORY);
  try {
    const options = { socket: backend.socketPath, baseSize: 16 * MiB, slotSize: LARGE, slots: 1 };
    using machine = LoopbackMachine.start(options);
    expectAnswer(new VirtioFsClient(machine).init(), 'FUSE_INIT');
    const ms = performance.now() - began;
    const micros = processorMicros(backend.pid);
    const kib = residentKib(backend.pid);
    machine.plug(0);
    return { ms, micros, kib, largeKib: residentKib(backend.pid) };
  } finally {
    await backend.stop();
  }
}

/** Resident memory without the guest's: what is shared with it counts for the guest. */
function residentKib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return of('RssAnon') + of('RssFile');
}

const figure = (name: string, unit: string, of: Samples): Figure => ({
  group: 'start',
  name,
  unit,
  value: medians(of),
  ratio: ratios(of, (ours, theirs) => theirs / ours),
});
