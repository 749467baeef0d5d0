/**
 * A real QEMU guest: base memory, virtio-mem, vhost-user-fs devices, a console to run commands on, and QMP.
 *
 * Two of QEMU's trace events are recorded, so that the messages it sent are counted by QEMU, not by the daemon.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runLog } from './daemon.ts';
import { GuestConsole, type CommandResult } from './guest-console.ts';
import { TestProcess } from './processes.ts';
import { commandLine, type GuestOptions } from './qemu-arguments.ts';
import { QmpClient } from './qmp.ts';

/** Lines of the guest's kernel log that fail a test. Lockup warnings do not: a busy host causes them. */
const KERNEL_ERROR = /BUG:(?! soft lockup)|WARNING:|Oops|Kernel panic|general protection|Bad page|I\/O error/;
const BOOT_DEADLINE_MS = 120_000;

export class Guest {
  readonly qmp: QmpClient;
  readonly console: GuestConsole;
  readonly process: TestProcess;
  readonly #directory: string;
  readonly #tracePath: string;
  readonly #consolePath: string;
  #boots = 1;

  private constructor(parts: {
    readonly qmp: QmpClient;
    readonly console: GuestConsole;
    readonly process: TestProcess;
    readonly directory: string;
    readonly name: string;
  }) {
    this.qmp = parts.qmp;
    this.console = parts.console;
    this.process = parts.process;
    this.#directory = parts.directory;
    this.#tracePath = runLog(`${parts.name}.trace`);
    this.#consolePath = runLog(`${parts.name}.console`);
  }

  static async boot(options: GuestOptions): Promise<Guest> {
    const directory = mkdtempSync(join(tmpdir(), 'vhost-user-'));
    const process = new TestProcess(commandLine(options, directory), runLog(`${options.name}.qemu`));
    const ended = process.exited.then(() => Promise.reject(new Error('QEMU ended')));
    ended.catch(() => undefined); // it ends at last, when nobody waits
    try {
      const console = await Promise.race([GuestConsole.connect(join(directory, 'control.sock')), ended]);
      const qmp = await Promise.race([QmpClient.connect(join(directory, 'qmp.sock')), ended]);
      const guest = new Guest({ qmp, console, process, directory, name: options.name });
      await Promise.race([console.ready(1, BOOT_DEADLINE_MS), ended]);
      return guest;
    } catch (cause) {
      await process.stop();
      rmSync(directory, { recursive: true, force: true });
      const kernelLog = tail(runLog(`${options.name}.console`));
      throw new Error(`the guest did not boot.\nQEMU: ${process.log.slice(-2000)}\nguest: ${kernelLog}`, {
        cause,
      });
    }
  }

  /** Output of a shell command in the guest. @throws when it exits with another status than 0. */
  async run(command: string, deadlineMs?: number): Promise<string> {
    const { status, output } = await this.try(command, deadlineMs);
    if (status !== 0) throw new Error(`guest command '${command}' exits with ${status}:\n${output}`);
    return output;
  }

  try(command: string, deadlineMs?: number): Promise<CommandResult> {
    return this.console.run(command, deadlineMs);
  }

  async mount(tag: string, directory = '/mnt'): Promise<void> {
    await this.run(`mkdir -p ${directory} && mount -t virtiofs ${tag} ${directory}`);
  }

  /** Makes the guest forget the files it knows, so that the daemon may close them. */
  async dropCaches(): Promise<void> {
    await this.run('sync; echo 3 >/proc/sys/vm/drop_caches; sleep 0.5');
  }

  /** Restarts the guest from within, as its own `reboot` does, and waits until it is up again. */
  async reboot(): Promise<void> {
    this.#boots++;
    this.console.run('sync; reboot -f').catch(() => undefined); // its answer never comes
    await this.console.ready(this.#boots, BOOT_DEADLINE_MS);
  }

  /** Asks virtio-mem for a size, and waits until the guest has come as far as that. */
  async resize(bytes: number, deadlineMs = 120_000): Promise<void> {
    await this.qmp.execute('qom-set', {
      path: '/machine/peripheral/vm0',
      property: 'requested-size',
      value: bytes,
    });
    const end = Date.now() + deadlineMs;
    for (;;) {
      const size = await this.pluggedSize();
      if (size === bytes) return;
      if (Date.now() > end) throw new Error(`virtio-mem stays at ${size} when asked for ${bytes}`);
      await sleep(50);
    }
  }

  async pluggedSize(): Promise<number> {
    return (await this.qmp.execute('qom-get', {
      path: '/machine/peripheral/vm0',
      property: 'size',
    })) as number;
  }

  /** Guest physical address and size of the memory devices. */
  async memoryDevices(): Promise<readonly { readonly start: number; readonly size: number }[]> {
    const devices = (await this.qmp.execute('query-memory-devices')) as readonly {
      readonly data: {
        readonly memaddr?: number;
        readonly addr?: number;
        readonly size: number;
        readonly 'max-size'?: number;
      };
    }[];
    return devices.map(({ data }) => ({
      start: data.memaddr ?? data.addr ?? 0,
      size: data['max-size'] ?? data.size,
    }));
  }

  /** How many vhost-user messages of that number QEMU has sent, by its own trace. */
  sentMessages(request: number): number {
    const trace = readFileSync(this.#tracePath, 'utf8');
    return trace.split('\n').filter((line) => line.startsWith(`vhost_user_write req:${request} `)).length;
  }

  /** Lines of the kernel log that mean trouble in the guest. */
  kernelErrors(): string[] {
    return readFileSync(this.#consolePath, 'utf8')
      .split('\n')
      .filter((line) => KERNEL_ERROR.test(line));
  }

  /** What QEMU itself complained about, from a refused memory table to a lost back-end. */
  qemuErrors(): string[] {
    return this.process.log
      .split('\n')
      .filter((line) => line.startsWith('qemu-system') && !line.includes('terminating on signal'));
  }

  async close(): Promise<void> {
    this.console.close();
    this.qmp.close();
    await this.process.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function tail(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8').slice(-3000) : 'no output';
}
