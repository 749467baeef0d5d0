/** A recorded session of QEMU with vhost-user back-ends: what happened in QEMU, and the messages, frame by frame where they were kept. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** Region name, guest address, size, host address. */
export type RecordedSection = readonly [string, number, number, number];

interface RecordedRegion {
  readonly guest_phys_addr: string;
  readonly memory_size: string;
  readonly userspace_addr: string;
  readonly mmap_offset: string;
}

export interface RecordedMessage {
  readonly ev: 'msg';
  readonly dev: number;
  readonly n: number;
  readonly name: string;
  readonly need_reply: boolean;
  readonly u64?: string;
  readonly index?: number;
  readonly num?: number;
  readonly flags?: number;
  readonly log_guest_addr?: string;
  readonly mmap_size?: string;
  readonly region?: RecordedRegion;
  readonly regions?: readonly RecordedRegion[];
  readonly fds?: readonly string[];
  readonly reply?: string | Readonly<Record<string, number | string>>;
}

export interface RecordedCommit {
  readonly ev: 'commit';
  readonly dev: number;
  readonly started: number;
  readonly changed: number;
  readonly flat?: readonly RecordedSection[];
  readonly regions?: readonly RecordedSection[];
}

export type RecordedEvent =
  | RecordedMessage
  | RecordedCommit
  | { readonly ev: 'vhost_init' | 'start' | 'stop' | 'cleanup'; readonly dev: number }
  | {
      readonly ev: 'mdev_plug' | 'mdev_pre_plug' | 'mdev_unplug';
      readonly id: string | null;
      readonly addr: number;
    }
  | RecordedVmemRequest
  | { readonly ev: 'vmem_resp'; readonly type: number }
  | { readonly ev: 'vmem_reset' | 'other' };

export interface RecordedVmemRequest {
  readonly ev: 'vmem_req';
  readonly op: string;
  readonly addr?: number;
  readonly nb_blocks?: number;
}

export interface RecordedFd {
  readonly kind: string;
  readonly ino?: number;
  readonly id?: number;
}

/** A frame of the front-end, and what the back-end answered. */
export interface RecordedFrame {
  readonly name: string;
  readonly hex: string;
  readonly fds: readonly RecordedFd[];
  readonly answers: readonly string[];
  /** The back-end closes the connection after it. */
  readonly isLast: boolean;
}

export interface Recording {
  readonly path: string;
  readonly events: readonly RecordedEvent[];
  /** Frames by their number, for each connection; empty if only events were kept. */
  readonly conversations: readonly ReadonlyMap<number, RecordedFrame>[];
  /** QEMU's arguments. */
  readonly qemu: readonly string[];
  /** What was made by QEMU's arguments and later, in that order: `memory-backend-memfd,id=mem0,…`. */
  readonly objects: readonly RecordedObject[];
  /** QEMU itself died at the end. */
  readonly isCrash: boolean;
}

/** Options of an object or a device; the first, which names what it is, as `type`. Those of objects QEMU refused to make are not listed. */
export type RecordedObject = Readonly<Record<string, string>>;

/** All directories that hold a recording, below these. */
export function findRecordings(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return [];
    if (existsSync(join(path, 'events.jsonl.gz'))) return [path];
    return findRecordings(
      readdirSync(path)
        .sort()
        .map((name) => join(path, name)),
    );
  });
}

export function loadRecording(path: string): Recording {
  const events = withoutRefused(lines<RecordedEvent>(join(path, 'events.jsonl.gz')));
  const logs = readdirSync(path).filter((name) => /^messages.*\.jsonl\.gz$/.test(name));
  const conversations = logs.sort().flatMap((name) => conversationsOf(lines<LogLine>(join(path, name))));
  const qemu = argumentsOf(path);
  return { path, events, conversations, qemu, objects: objectsOf(path, qemu), isCrash: hasCrashed(path) };
}

/** A device may be given an address and then be refused for another reason: that never was. */
const withoutRefused = (events: readonly RecordedEvent[]): RecordedEvent[] =>
  events.map((event, index) => {
    if (event.ev !== 'mdev_pre_plug') return event;
    const next = events.slice(index + 1).find(({ ev }) => ev.startsWith('mdev_'));
    const isPlugged = next?.ev === 'mdev_plug' && next.addr === event.addr;
    return isPlugged ? event : { ev: 'other' };
  });

interface LogLine {
  readonly n: number;
  readonly conn: number;
  readonly event?: string;
  readonly chan?: string;
  readonly dir?: string;
  readonly name?: string;
  readonly hex?: string;
  readonly fds?: readonly RecordedFd[];
}

const lines = <T>(path: string): T[] =>
  gunzipSync(readFileSync(path))
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as T);

function conversationsOf(log: readonly LogLine[]): ReadonlyMap<number, RecordedFrame>[] {
  return [...new Set(log.map(({ conn }) => conn))].map((conn) => {
    const frames = new Map<number, RecordedFrame & { answers: string[]; isLast: boolean }>();
    let latest: { answers: string[]; isLast: boolean } | undefined;
    for (const line of log) {
      if (line.conn !== conn || (line.chan !== 'main' && line.event === undefined)) continue;
      if ((line.event === 'eof' || line.event === 'error') && line.chan === 'main') {
        if (line.dir === 'be>fe' && latest !== undefined) latest.isLast = true;
        break; // who closes first; the other end follows
      }
      if (line.event !== undefined) continue;
      if (line.dir === 'be>fe') latest?.answers.push(line.hex!);
      else {
        const frame = {
          name: line.name!,
          hex: line.hex!,
          fds: line.fds ?? [],
          answers: [],
          isLast: false,
        };
        frames.set(line.n, frame);
        latest = frame;
      }
    }
    return frames;
  });
}

function argumentsOf(path: string): readonly string[] {
  const { qemu } = JSON.parse(readFileSync(join(path, 'cmdline.json'), 'utf8')) as {
    readonly qemu: readonly string[];
  };
  return qemu;
}

/** Options of every -object and -device, then of every object-add and device_add, as text. */
function objectsOf(path: string, qemu: readonly string[]): RecordedObject[] {
  const log = join(path, 'qmp.jsonl.gz');
  return [
    ...optionsAfter(qemu, '-object', '-device'),
    ...(existsSync(log) ? createdIn(lines<unknown>(log)) : []),
  ];
}

/** The options that stand after one of these: `-m size=1G,slots=4`. The first may go without its name, which is `type` then. */
export const optionsAfter = (qemu: readonly string[], ...names: string[]): RecordedObject[] =>
  qemu
    .filter((_, index) => names.includes(qemu[index - 1] ?? ''))
    .map((text) =>
      text.startsWith('{')
        ? optionsIn(JSON.parse(text) as object)
        : Object.fromEntries(
            text
              .split(',')
              .map((option, index) =>
                optionOf(index === 0 && !option.includes('=') ? `type=${option}` : option),
              ),
          ),
    );

const optionOf = (option: string): [string, string] => {
  const at = option.indexOf('=');
  return at < 0 ? [option, 'on'] : [option.slice(0, at), option.slice(at + 1)];
};

/** Options as JSON, in the words of a command line. */
const optionsIn = (given: object): RecordedObject =>
  Object.fromEntries(
    Object.entries(given).map(([key, value]) => [
      key === 'driver' || key === 'qom-type' ? 'type' : key,
      value === true ? 'on' : value === false ? 'off' : String(value),
    ]),
  );

/** What commands created; one that is answered with an error created nothing. */
function createdIn(log: readonly unknown[]): RecordedObject[] {
  const created: RecordedObject[] = [];
  let latest: readonly RecordedObject[] = [];
  for (const line of log) {
    const { qmp_reply: reply } = line as { readonly qmp_reply?: { readonly error?: unknown } };
    if (reply === undefined) {
      created.push(...latest);
      latest = createdBy(line);
    } else if (reply.error !== undefined) latest = [];
  }
  return [...created, ...latest];
}

/** Commands that create something, wherever in a line of the log they stand. */
function createdBy(line: unknown): RecordedObject[] {
  if (typeof line !== 'object' || line === null) return [];
  const { execute, arguments: given } = line as { readonly execute?: string; readonly arguments?: object };
  if ((execute === 'device_add' || execute === 'object-add') && given !== undefined) {
    return [optionsIn(given)];
  }
  return Object.values(line).flatMap(createdBy);
}

function hasCrashed(path: string): boolean {
  const file = join(path, 'result.json');
  if (!existsSync(file)) return false;
  const { qemu_exit: codes } = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly qemu_exit?: readonly number[];
  };
  return codes?.some((code) => code !== 0) ?? false;
}
