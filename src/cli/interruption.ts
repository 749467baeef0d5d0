/** SIGINT and SIGTERM of a command that has something to tidy up: noted, and asked for where it is safe to stop. */
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interruption implements Disposable {
  #signal: (typeof SIGNALS)[number] | undefined;
  readonly #note = (signal: NodeJS.Signals): void => {
    this.#signal ??= SIGNALS.find((name) => name === signal);
  };
  readonly #atExit: (() => void)[] = [];

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#note);
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
    for (const tidy of this.#atExit.splice(0)) tidy();
  }
}
