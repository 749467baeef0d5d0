/** Signals to a command that has something to tidy up: noted, and asked for where it is safe to stop. So is that nobody reads its output. */
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
type Reason = (typeof SIGNALS)[number] | 'SIGPIPE';

export class Interruption implements Disposable {
  #signal: Reason | undefined;
  readonly #note = (signal: NodeJS.Signals): void => {
    this.#signal ??= SIGNALS.find((name) => name === signal);
  };
  /** Node ignores SIGPIPE, and says instead that writing has failed. */
  readonly #unread = (error: NodeJS.ErrnoException): void => {
    if (error.code === 'EPIPE') this.#signal ??= 'SIGPIPE';
  };
  readonly #atExit: (() => void)[] = [];

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#note);
    process.stdout.on('error', this.#unread);
  }

  get isWanted(): boolean {
    return this.#signal !== undefined;
  }

  /** As a shell has it for a process that a signal ended. */
  get exitStatus(): number {
    return this.#signal === undefined ? 0 : 128 + constants.signals[this.#signal];
  }

  /** Done when this is disposed, whatever happened. */
  onExit(tidy: () => void): void {
    this.#atExit.push(tidy);
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#note);
    process.stdout.off('error', this.#unread);
    for (const tidy of this.#atExit.splice(0)) tidy();
  }
}
