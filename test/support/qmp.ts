/** A QMP client: commands answered in order, and events kept until somebody waits for them. */
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

class QmpError extends Error {
  override readonly name = 'QmpError';
}

interface Waiter {
  readonly matches: (event: QmpEvent) => boolean;
  readonly resolve: (event: QmpEvent) => void;
}

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class QmpClient {
  readonly #socket: Socket;
  readonly #pending: Pending[] = [];
  readonly #events: QmpEvent[] = [];
  readonly #waiters = new Set<Waiter>();
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket })
      .on('line', (line) => this.#onLine(line))
      .on('error', () => this.#onClose()); // it hands on the errors of the socket
    socket.on('close', () => this.#onClose());
    socket.on('error', () => this.#onClose());
  }

  /** Connects as soon as the socket is there and leaves negotiation mode. */
  static async connect(path: string, deadlineMs = 20_000): Promise<QmpClient> {
    const client = new QmpClient(await connectUnix(path, deadlineMs));
    await client.execute('qmp_capabilities');
    return client;
  }

  /** @throws {QmpError} with QEMU's own description when it refuses. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#isClosed) return Promise.reject(new QmpError(`${command}: QMP connection is closed`));
    return new Promise((resolve, reject) => {
      this.#pending.push({ resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  /** The next event of that name that matches: one that came already and nobody took, or the next to come. */
  async event(
    name: string,
    deadlineMs: number,
    matches: (event: QmpEvent) => boolean = () => true,
  ): Promise<QmpEvent> {
    const wanted = (event: QmpEvent): boolean => event.event === name && matches(event);
    const index = this.#events.findIndex(wanted);
    if (index >= 0) return this.#events.splice(index, 1)[0]!;
    let waiter: Waiter | undefined;
    const arrived = new Promise<QmpEvent>((resolve) => {
      waiter = { matches: wanted, resolve };
      this.#waiters.add(waiter);
    });
    try {
      return await withDeadline(arrived, deadlineMs, `QMP event ${name}`);
    } finally {
      if (waiter !== undefined) this.#waiters.delete(waiter);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #onLine(line: string): void {
    const message = JSON.parse(line) as {
      readonly event?: string;
      readonly data?: Record<string, unknown>;
      readonly error?: { readonly class: string; readonly desc: string };
      readonly return?: unknown;
    };
    if (message.event !== undefined) {
      this.#onEvent({ event: message.event, data: message.data ?? {} });
    } else if (message.error !== undefined) {
      this.#pending.shift()?.reject(new QmpError(message.error.desc));
    } else if ('return' in message) {
      this.#pending.shift()?.resolve(message.return);
    }
  }

  #onEvent(event: QmpEvent): void {
    for (const waiter of this.#waiters) {
      if (!waiter.matches(event)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(event);
      return;
    }
    this.#events.push(event);
  }

  #onClose(): void {
    this.#isClosed = true;
    for (const pending of this.#pending.splice(0)) pending.reject(new QmpError('QMP connection was closed'));
  }
}

/** Connects to a Unix socket that may not be there yet. */
export async function connectUnix(path: string, deadlineMs: number): Promise<Socket> {
  const end = Date.now() + deadlineMs;
  for (;;) {
    try {
      return await new Promise<Socket>((resolve, reject) => {
        const socket = createConnection(path, () => resolve(socket));
        socket.once('error', reject);
      });
    } catch (cause) {
      if (Date.now() > end) throw new Error(`no one listens on ${path} after ${deadlineMs} ms`, { cause });
      await sleep(50);
    }
  }
}

/** Rejects, naming what was awaited, when the promise takes longer than `ms`. */
export async function withDeadline<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
