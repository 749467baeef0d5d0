/**
 * `vhost-user tap`: stands between a front-end and a back-end, passes everything on, and writes what it saw.
 *
 * For each front-end that connects, it connects to the back-end. What it writes is what `decode` reads.
 */
import { closeSync, lstatSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import { EPOLLIN, EventLoop } from '../host/epoll.ts';
import { setOpenFilesLimit } from '../host/limits.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import { acceptUnix, connectUnix, listenUnix } from '../host/unix-socket.ts';
import { Conversation } from '../vhost/conversation.ts';
import { type ConversationRecord, formatRecord } from '../vhost/conversation-record.ts';
import { observationText } from '../vhost/conversation-text.ts';
import { Relay } from '../vhost/relay.ts';
import { describeFd } from './describe-fd.ts';
import { type TextOutput, standardOutput } from './text-output.ts';

export interface TapOptions {
  /** Where front-ends connect. A socket left behind there is replaced. */
  readonly listen: string;
  /** Where the back-end listens. */
  readonly connect: string;
  /** Where to write records, one JSON object a line; a file that is there is overwritten. */
  readonly jsonl?: string;
  /** Write readable text to the output; done anyway if no records are written. */
  readonly text?: boolean;
  /** What records are marked with. */
  readonly label?: string;
  /** End with the first connection. */
  readonly once?: boolean;
  /** Standard output unless told otherwise. */
  readonly output?: TextOutput;
  /** Ends the tap; without it, SIGINT and SIGTERM do. */
  readonly signal?: AbortSignal;
}

const BACKLOG = 16;
/** How long signals and output may wait. Messages never do. */
const TICK_MS = 50;
/** How long a front-end waits for a back-end that does not listen yet. */
const CONNECT_TIMEOUT_MS = 10_000;
const OPEN_FILES = 16_384;
/** With `once`: how long a back-end request channel may outlive its connection. */
const LINGER_MS = 1000;

/** @returns the exit status. @throws {ConfigError} if it cannot listen or write */
export async function runTap(options: TapOptions): Promise<number> {
  using owned = new Cleanup();
  const signal = options.signal ?? untilSignal();
  setOpenFilesLimit(OPEN_FILES);
  const log = owned.use(new TapLog(options));
  const tap = owned.use(new Tap(options, log));
  log.note(`listening on ${options.listen}`);
  while (!signal.aborted && !tap.isFinished) {
    tap.turn(TICK_MS);
    await nextTurn();
  }
  return 0;
}

/** A front-end whose back-end does not listen yet. */
interface Waiting {
  readonly front: OwnedFd;
  readonly conn: number;
  readonly until: number;
}

class Tap implements Disposable {
  readonly #options: TapOptions;
  readonly #log: TapLog;
  readonly #loop = new EventLoop();
  readonly #socket: OwnedFd;
  #relays: Relay[] = [];
  #waiting: Waiting[] = [];
  #connections = 0;
  #endsAt = Infinity;

  constructor(options: TapOptions, log: TapLog) {
    this.#options = options;
    this.#log = log;
    if (lstatSync(options.listen, { throwIfNoEntry: false })?.isSocket()) unlinkSync(options.listen);
    const fd = listenUnix(options.listen, { backlog: BACKLOG });
    if (fd < 0) throw new ConfigError('SYSTEM', `--listen ${options.listen}: ${errnoName(-fd)}`);
    this.#socket = new OwnedFd(fd);
    this.#loop.add(fd, EPOLLIN, () => this.#accept());
  }

  /** With `once`: a connection has been there, and none is left, or only a back-end channel nobody closes. */
  get isFinished(): boolean {
    const isIdle = this.#relays.length === 0 && this.#waiting.length === 0;
    return (
      (this.#options.once ?? false) && this.#connections > 0 && (isIdle || performance.now() > this.#endsAt)
    );
  }

  /** Passes on what there is; waits for it so many milliseconds. */
  turn(timeoutMs: number): void {
    this.#loop.runOnce(timeoutMs);
    if (this.#waiting.length > 0) this.#waiting = this.#waiting.filter((waiting) => !this.#connect(waiting));
    this.#relays = this.#relays.filter((relay) => !relay.isClosed);
    if (this.#options.once && this.#endsAt === Infinity && this.#relays.some((relay) => relay.hasEnded))
      this.#endsAt = performance.now() + LINGER_MS;
  }

  [Symbol.dispose](): void {
    for (const relay of this.#relays.splice(0)) relay.close();
    for (const { front } of this.#waiting.splice(0)) front.close();
    this.#loop.close();
    this.#socket.close();
    if (lstatSync(this.#options.listen, { throwIfNoEntry: false })?.isSocket())
      unlinkSync(this.#options.listen);
  }

  #accept(): void {
    const fd = acceptUnix(this.#socket.fd);
    if (fd < 0) return;
    const waiting = {
      front: new OwnedFd(fd),
      conn: this.#connections,
      until: performance.now() + CONNECT_TIMEOUT_MS,
    };
    this.#connections += 1;
    if (!this.#connect(waiting)) this.#waiting.push(waiting);
  }

  /** @returns true if there is nothing to wait for any more */
  #connect({ front, conn, until }: Waiting): boolean {
    const fd = connectUnix(this.#options.connect);
    if (fd < 0 && performance.now() < until) return false;
    if (fd < 0) {
      this.#log.event({ conn, event: 'error', reason: `connect to the back-end: ${errnoName(-fd)}` });
      front.close();
      return true;
    }
    this.#log.event({ conn, event: 'connect' });
    const relay = new Relay({
      front,
      back: new OwnedFd(fd),
      loop: this.#loop,
      describe: describeFd,
      onFrame: (chan, dir, { kind, octets, fds, reason }) =>
        kind === 'frame'
          ? this.#log.write({ kind: 'message', ...this.#log.next(conn), chan, dir, octets, fds })
          : this.#log.event({ conn, chan, dir, event: 'raw', octets, fds, ...(reason ? { reason } : {}) }),
      onEnd: (chan, dir, failure) =>
        this.#log.event({
          conn,
          chan,
          dir,
          event: failure === undefined ? 'eof' : 'error',
          ...(failure === undefined ? {} : { reason: failure }),
        }),
    });
    this.#relays.push(relay);
    return true;
  }
}

type EventFields = Omit<Extract<ConversationRecord, { kind: 'event' }>, 'kind' | 'n' | 't' | 'label'>;

/** Writes records as they come: a tap that is killed leaves all it saw. */
class TapLog implements Disposable {
  readonly #label: { readonly label?: string };
  readonly #file: number | undefined;
  readonly #text: TextOutput | undefined;
  readonly #conversation = new Conversation();
  readonly #startedAt = now();
  #n = 0;
  #hasFailed = false;

  constructor({ jsonl, text, label, output }: TapOptions) {
    this.#label = label === undefined ? {} : { label };
    this.#text = text || jsonl === undefined ? (output ?? standardOutput()) : undefined;
    try {
      this.#file = jsonl === undefined ? undefined : openSync(jsonl, 'w');
    } catch (cause) {
      throw new ConfigError('SYSTEM', `--jsonl ${jsonl} cannot be written`, { cause });
    }
  }

  /** What comes first in the next record. */
  next(conn: number): {
    readonly n: number;
    readonly t: number;
    readonly label?: string;
    readonly conn: number;
  } {
    const n = this.#n;
    this.#n += 1;
    return { n, t: now(), ...this.#label, conn };
  }

  event({ conn, ...fields }: EventFields): void {
    this.write({ kind: 'event', ...this.next(conn), ...fields });
  }

  write(record: ConversationRecord): void {
    if (this.#file !== undefined && !this.#hasFailed) {
      try {
        writeSync(this.#file, `${formatRecord(record)}\n`);
      } catch (error) {
        // Whoever talks through us has not failed: go on without a recording, and say so.
        this.#hasFailed = true;
        process.stderr.write(`vhost-user tap: no more records are written: ${String(error)}\n`);
      }
    }
    if (this.#text === undefined) return;
    const lines = observationText(this.#conversation.observe(record), this.#startedAt);
    this.#text.write(`${lines.join('\n')}\n`);
  }

  note(text: string): void {
    this.#text?.write(`${text}\n`);
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }
}

/** Seconds since the epoch, to the microsecond. */
const now = (): number => Number(((performance.timeOrigin + performance.now()) / 1000).toFixed(6));

function untilSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort());
  return controller.signal;
}
