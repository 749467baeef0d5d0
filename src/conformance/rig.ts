/** What a case has in its hands: connections to the back-end, memory, rings, and a clock. Owns all of it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { errnoName } from '../../protocol/errno.ts';
import { createEventfd } from '../host/eventfd.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import { waitReadable } from '../host/poll.ts';
import type { BackendFacts, BackendUnderTest } from './backend.ts';
import { type Clock, startClock } from './clock.ts';
import type { Device } from './device.ts';
import { Guest, type GuestOptions } from './guest.ts';
import { Link } from './link.ts';
import { negotiate, type NegotiateOptions } from './negotiate.ts';
import { SharedMemory } from './shared-memory.ts';
import { Trace } from './trace.ts';
import { died } from './verdict.ts';

/** How long a back-end that hung up is watched for its end: one that is about to end, and one that should not. */
const ENDING_MS = 500;
const SURPRISE_MS = 50;

let rigs = 0;
const nextNumber = (): number => (rigs += 1);

export interface RigOptions {
  readonly backend: BackendUnderTest;
  readonly facts: BackendFacts;
  readonly device: Device;
  /** How long one answer may take. */
  readonly timeoutMs: number;
  /** How long the case may take. */
  readonly caseTimeoutMs: number;
}

export class Rig implements Disposable {
  readonly facts: BackendFacts;
  readonly device: Device;
  readonly clock: Clock;
  readonly trace = new Trace();
  readonly #backend: BackendUnderTest;
  readonly #owned = new Cleanup();
  readonly #never: OwnedFd;
  readonly #number = nextNumber();
  #link: Link | undefined;
  #guest: Guest | undefined;

  constructor({ backend, facts, device, timeoutMs, caseTimeoutMs }: RigOptions) {
    this.#backend = backend;
    this.facts = facts;
    this.device = device;
    this.clock = startClock(timeoutMs, caseTimeoutMs, backend.wait ?? waitReadable);
    this.#never = this.#owned.use(ownedFd(createEventfd(), 'eventfd'));
  }

  /** The connection used last; made at its first use. */
  get link(): Link {
    return (this.#link ??= this.#connect());
  }

  /** The back-end's process, if it is known. */
  get pid(): number | undefined {
    return this.#backend.pid;
  }

  /** Closes the connection at hand and makes another. */
  reconnect(): Link {
    const isFirst = this.#link === undefined;
    this.#link?.close();
    this.trace.note('-- a new connection');
    return (this.#link = this.#connect(!isFirst && !this.facts.reconnects));
  }

  /** Features, protocol features, ownership. */
  negotiate(options: NegotiateOptions = {}): Link {
    negotiate(this.link, this.facts, options);
    return this.link;
  }

  /**
   * A back-end may give a connection up, and end if it does so with every connection. It must not crash.
   *
   * @throws {CaseEnd} `dead`
   */
  checkEnding(): void {
    const hasHungUp = this.#link?.hasEnded() ?? false;
    const ending = (): string | undefined => this.#backend.ending();
    if (hasHungUp && this.pid !== undefined)
      this.becomes(() => ending() !== undefined, this.facts.reconnects ? SURPRISE_MS : ENDING_MS);
    const how = ending();
    if (how !== undefined && (this.facts.reconnects || how.startsWith('signal')))
      died(`the back-end ended: ${how}`);
  }

  /** A guest on the connection at hand; nothing is sent yet. */
  guest(options: GuestOptions = {}): Guest {
    const { link, facts, device, clock, trace } = this;
    this.#guest = this.#owned.use(new Guest({ link, facts, device, clock, trace }, options));
    return this.#guest;
  }

  /** The guest that was made last on the connection at hand. */
  get lastGuest(): Guest | undefined {
    return this.#guest?.link === this.#link ? this.#guest : undefined;
  }

  /** A guest whose rings are started and enabled. */
  startGuest(options: GuestOptions = {}): Guest {
    return this.guest(options).start();
  }

  /** Lets time pass, for what must not happen. Keep it short. */
  pause(ms: number): void {
    this.clock.check();
    const endsAt = performance.now() + ms;
    for (let left = ms; left > 0; left = endsAt - performance.now())
      this.clock.wait(this.#never.fd, Math.ceil(left));
  }

  /** Zeroed memory with a descriptor of its own. */
  memory(size: number, name = 'conform'): SharedMemory {
    return this.own(new SharedMemory(size, name));
  }

  /** A name for a memfd that no other case uses: what one left behind is not blamed on the next. */
  label(what: string): string {
    return `conform-${what}-${this.#number}-`;
  }

  /** Whether it becomes true within a while; asked again and again. */
  becomes(claim: () => boolean, withinMs = 200): boolean {
    const endsAt = performance.now() + withinMs;
    for (;;) {
      if (claim()) return true;
      if (performance.now() > endsAt) return false;
      this.pause(2);
    }
  }

  /** Lent. */
  eventfd(): number {
    return this.own(ownedFd(createEventfd(), 'eventfd')).fd;
  }

  /** Disposed with the rig. */
  own<T extends Disposable>(value: T): T {
    return this.#owned.use(value);
  }

  /** Descriptors of the back-end's process that refer to memfds called so. Needs `process`. */
  backendHolds(name: string): number {
    return this.backendFds().filter((link) => link.startsWith(`/memfd:${name}`)).length;
  }

  /** What the descriptors of the back-end's process refer to. Needs `process`. */
  backendFds(): readonly string[] {
    const directory = `/proc/${this.pid}/fd`;
    return readdirSync(directory).flatMap((fd) => {
      try {
        return [readlinkSync(`${directory}/${fd}`)];
      } catch {
        return []; // closed in between
      }
    });
  }

  /** Bytes of memfds whose name starts so that the back-end's process has mapped. Needs `process`. */
  backendMapped(name: string): number {
    const lines = readFileSync(`/proc/${this.pid}/maps`, 'utf8').split('\n');
    return lines
      .filter((line) => line.includes(`/memfd:${name}`))
      .reduce((total, line) => {
        const [, start = '', end = ''] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
        return total + Number.parseInt(end, 16) - Number.parseInt(start, 16);
      }, 0);
  }

  [Symbol.dispose](): void {
    this.#link?.close();
    this.#owned[Symbol.dispose]();
  }

  #connect(isOneShot = false): Link {
    return this.#owned.use(new Link(this.#backend.connect(isOneShot), this.clock, this.trace));
  }
}

function ownedFd(fd: number, what: string): OwnedFd {
  if (fd < 0) throw new RangeError(`${what}: ${errnoName(-fd)}`);
  return new OwnedFd(fd);
}
