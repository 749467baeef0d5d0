/**
 * Tells the operator of a thread that does not go on: mostly the host's file system does not answer it (a server that is
 * gone, a broken disk), or it waits for another thread that is in such a call.
 */
import { FuseOpcode } from '../../protocol/fuse.ts';
import type { ThreadPulse } from '../host/thread-pulse.ts';
import type { Log } from '../log.ts';

/** Milliseconds between looks: what is found in the same place twice is told. */
const LOOK_MS = 5000;

const NAMES = new Map<number, string>(Object.entries(FuseOpcode).map(([name, opcode]) => [opcode, name]));

interface Watched {
  readonly thread: string;
  readonly pulse: ThreadPulse;
  turns: number;
  since: number;
  isTold: boolean;
}

export class BlockedThreads implements Disposable {
  readonly #watched: readonly Watched[];
  readonly #log: Log;
  readonly #timer: NodeJS.Timeout;

  /** @param pulses of the device thread and the queue threads, in order */
  constructor(pulses: readonly ThreadPulse[], log: Log, lookMs = LOOK_MS) {
    this.#log = log;
    this.#watched = pulses.map((pulse, i) => {
      const thread = i === 0 ? 'device-thread' : `queue-thread ${i}`;
      return { thread, pulse, turns: 0, since: 0, isTold: false };
    });
    this.#timer = setInterval(() => this.#look(), lookMs).unref();
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = performance.now();
    for (const watched of this.#watched) {
      const { thread, pulse, isTold } = watched;
      const { turns } = pulse;
      const seconds = Math.round((now - watched.since) / 1000);
      if (turns !== watched.turns || !pulse.isWorking) {
        if (isTold) this.#log.info({ thread, seconds }, 'thread_goes_on');
        Object.assign(watched, { turns, since: now, isTold: false });
      } else if (!isTold) {
        // Of no request: it carries out a message, or waits for another thread.
        const request = NAMES.get(pulse.task);
        this.#log.warn({ thread, ...(request === undefined ? {} : { request }), seconds }, 'thread_blocked');
        watched.isTold = true;
      }
    }
  }
}
