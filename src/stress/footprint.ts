/** What a back-end's process holds, as /proc shows it: guest memory it has mapped, descriptors it has open. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface Footprint {
  /** Mappings of files like those the machine hands out (memfds), and their bytes. */
  readonly mappings: number;
  readonly bytes: number;
  /** Descriptors of such files. */
  readonly memfds: number;
  readonly eventfds: number;
  readonly sockets: number;
  /** All other descriptors: files it serves, timers, whatever it needs for itself. */
  readonly others: number;
}

/** Descriptors of its own that a back-end may keep for later, such as that of a file it was asked for. */
const CACHED = 8;

/** @returns undefined if the process is gone, or may not be looked at */
export function footprintOf(pid: number): Footprint | undefined {
  try {
    const guest = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').filter(isGuestMemory);
    const links = readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`));
    const count = (start: string): number => links.filter((link) => link.startsWith(start)).length;
    const [memfds, eventfds, sockets] = [count('/memfd:'), count('anon_inode:[eventfd]'), count('socket:')];
    return {
      mappings: guest.length,
      bytes: guest.reduce((sum, line) => sum + sizeOf(line), 0),
      memfds,
      eventfds,
      sockets,
      others: links.length - memfds - eventfds - sockets,
    };
  } catch (error) {
    if (error instanceof Error && 'code' in error) return undefined;
    throw error;
  }
}

/** @returns what a process holds that it did not hold before; empty if that is nothing */
export function surplus(before: Footprint, now: Footprint): string {
  return FIELDS.filter(([name]) => now[name] > before[name] + (name === 'others' ? CACHED : 0))
    .map(([name, what]) => `${what} ${now[name]}, before ${before[name]}`)
    .join('; ');
}

/** No guest memory: what a process may hold that was disconnected. Descriptors of its own are its own affair. */
export const NO_MEMORY: Footprint = {
  mappings: 0,
  bytes: 0,
  memfds: 0,
  eventfds: Infinity,
  sockets: Infinity,
  others: Infinity,
};

const FIELDS = [
  ['mappings', 'mappings of guest memory'],
  ['bytes', 'bytes of guest memory'],
  ['memfds', 'descriptors of guest memory'],
  ['eventfds', 'eventfds'],
  ['sockets', 'sockets'],
  ['others', 'other descriptors'],
] as const satisfies readonly (readonly [keyof Footprint, string])[];

/**
 * Which process has guest memory mapped: one of those named, or a descendant of one. A back-end may have put itself
 * into a sandbox of its own by a fork.
 */
export function findMapper(pids: readonly number[]): number | undefined {
  const seen = new Set<number>();
  const waiting = pids.filter((pid) => pid > 0);
  for (let pid = waiting.shift(); pid !== undefined; pid = waiting.shift()) {
    if (seen.has(pid)) continue;
    seen.add(pid);
    if ((footprintOf(pid)?.mappings ?? 0) > 0) return pid;
    waiting.push(...childrenOf(pid));
  }
  return undefined;
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return []; // it has gone, or the kernel does not tell
  }
}

/** A descriptor may be closed while the list is read. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

const isGuestMemory = (line: string): boolean => line.includes(' /memfd:');

/** Of a line of /proc/PID/maps. */
function sizeOf(line: string): number {
  const [, start = '0', end = '0'] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
  return Number.parseInt(end, 16) - Number.parseInt(start, 16);
}
