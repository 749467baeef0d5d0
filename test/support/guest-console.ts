/** The control port of the guest: shell commands in, their output and exit status out (the protocol is in guest/init). */
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { connectUnix, withDeadline } from './qmp.ts';

export interface CommandResult {
  readonly status: number;
  /** Standard output and standard error together. */
  readonly output: string;
}

export class GuestConsole {
  readonly #socket: Socket;
  readonly #running = new Map<
    string,
    { resolve: (result: CommandResult) => void; reject: (e: Error) => void }
  >();
  #readyCount = 0;
  #onReady: (() => void) | undefined;
  #lastId = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (line) => this.#onLine(line));
    socket.on('close', () => this.#onClose('the guest console was closed'));
    socket.on('error', () => this.#onClose('the guest console failed'));
  }

  static async connect(path: string, deadlineMs = 20_000): Promise<GuestConsole> {
    return new GuestConsole(await connectUnix(path, deadlineMs));
  }

  /** Resolves when the guest has booted `boots` times since the console was connected. */
  async ready(boots: number, deadlineMs: number): Promise<void> {
    const end = Date.now() + deadlineMs;
    while (this.#readyCount < boots) {
      const next = new Promise<void>((resolve) => {
        this.#onReady = resolve;
      });
      await withDeadline(next, Math.max(1, end - Date.now()), `boot ${boots} of the guest`);
    }
  }

  /** Runs a shell command. Commands run at the same time, each in a process of its own. */
  run(command: string, deadlineMs = 60_000): Promise<CommandResult> {
    const id = String(++this.#lastId);
    const result = new Promise<CommandResult>((resolve, reject) => {
      this.#running.set(id, { resolve, reject });
    });
    this.#socket.write(`${id} ${Buffer.from(command).toString('base64')}\n`);
    return withDeadline(result, deadlineMs, `guest command '${command.slice(0, 200)}'`);
  }

  close(): void {
    this.#socket.destroy();
  }

  #onLine(line: string): void {
    if (line === 'ready') {
      this.#readyCount++;
      this.#fail('the guest was booted again');
      this.#onReady?.();
      return;
    }
    const [id = '', status = '', output = ''] = line.split(' ');
    this.#running
      .get(id)
      ?.resolve({ status: Number(status), output: Buffer.from(output, 'base64').toString() });
    this.#running.delete(id);
  }

  #onClose(reason: string): void {
    this.#fail(reason);
  }

  #fail(reason: string): void {
    for (const command of this.#running.values()) command.reject(new Error(reason));
    this.#running.clear();
  }
}
