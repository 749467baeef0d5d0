/**
 * Another thread that writes a few octets of guest memory over and over, now this way and now that: a driver that changes
 * its mind between two looks of the device.
 *
 * It writes through the descriptor of the memory, not through a mapping, so it needs nothing but `node:fs`.
 */
import { Worker } from 'node:worker_threads';

export interface Race {
  /** A memfd; lent. */
  readonly fd: number;
  /** Where in it, in bytes. */
  readonly offset: number;
  /** What is written in turn; all of one length. */
  readonly states: readonly Uint8Array[];
}

const RUNNING = 1;
const STOP = 2;
const STOPPED = 3;
const START_MS = 5000;
/** Rounds of all states between two pauses, and how long those are. */
const BURST = 32;
const PAUSE_MS = 0.02;

export class RacingWriter implements Disposable {
  readonly #state = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker: Worker;
  #isStopped = false;

  /** Returns when it writes. */
  constructor(race: Race) {
    const workerData = { ...race, state: this.#state };
    this.#worker = new Worker(SOURCE, { eval: true, workerData });
    this.#worker.unref();
    Atomics.wait(this.#state, 0, 0, START_MS);
    if (Atomics.load(this.#state, 0) !== RUNNING) throw new Error('the racing thread did not start');
  }

  /** Returns when it writes no more. Idempotent. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    Atomics.store(this.#state, 0, STOP);
    Atomics.wait(this.#state, 0, STOP, START_MS);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

/** The whole thread. As a text, because a thread of TypeScript would have to be compiled first. */
const SOURCE = `
const { workerData } = require('node:worker_threads');
const { writeSync } = require('node:fs');
const { fd, offset, states, state } = workerData;
Atomics.store(state, 0, ${RUNNING});
Atomics.notify(state, 0);
// In bursts: on a busy machine a thread that never sleeps is the first to give way to the device it is to race with.
const pause = new Int32Array(new SharedArrayBuffer(4));
while (Atomics.load(state, 0) === ${RUNNING}) {
  for (let i = 0; i < ${BURST}; i += 1)
    for (const octets of states) writeSync(fd, octets, 0, octets.length, offset);
  Atomics.wait(pause, 0, 0, ${PAUSE_MS});
}
Atomics.store(state, 0, ${STOPPED});
Atomics.notify(state, 0);
`;
