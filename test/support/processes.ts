/** Processes a test starts: never outlive it, and their output is kept in a file. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { withDeadline } from './qmp.ts';

const KILLED_WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL'];

export interface ExitState {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class TestProcess {
  readonly logPath: string;
  readonly exited: Promise<ExitState>;
  readonly #child: ChildProcess;
  #state: ExitState | undefined;

  /**
   * Starts `command`, its output going to `logPath`. It dies with this process whatever happens: setpriv asks the
   * kernel to kill it with its parent.
   */
  constructor(command: readonly string[], logPath: string) {
    this.logPath = logPath;
    mkdirSync(dirname(logPath), { recursive: true });
    const log = openSync(logPath, 'w');
    const [program = '', ...words] = [...KILLED_WITH_PARENT, ...command];
    this.#child = spawn(program, words, { stdio: ['ignore', log, log] });
    closeSync(log);
    this.exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#state = { code, signal };
        resolve(this.#state);
      });
      this.#child.once('error', () => resolve({ code: 127, signal: null }));
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get isAlive(): boolean {
    return this.#state === undefined;
  }

  get log(): string {
    return readFileSync(this.logPath, 'utf8');
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isAlive) this.#child.kill(signal);
  }

  /** Ends it: SIGTERM, and SIGKILL when that is not obeyed in time. */
  async stop(deadlineMs = 10_000): Promise<ExitState> {
    this.signal('SIGTERM');
    try {
      return await withDeadline(this.exited, deadlineMs, `end of ${this.#child.spawnargs.join(' ')}`);
    } catch {
      this.signal('SIGKILL');
      return this.exited;
    }
  }
}
