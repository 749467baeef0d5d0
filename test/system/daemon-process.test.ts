/** The daemon as an operator meets it: exit status, messages, sockets, one front-end after another. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { listenUnix } from '../../src/host/unix-socket.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { REPOSITORY } from '../support/guest-kit.ts';

const PROGRAM = join(REPOSITORY, 'dist/src/cli/vhost-user-fs.js');
const O_RDWR = 2;
const GUEST = { baseSize: 1 << 22, slotSize: 1 << 20, slots: 1 };

let directory: string;
let socketPath: string;
let children: ChildProcess[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'daemon-'));
  socketPath = join(directory, 's');
  children = [];
  mkdirSync(join(directory, 'share'));
  writeFileSync(join(directory, 'share/hello'), 'hello');
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

interface Ended {
  readonly status: number | null;
  readonly stderr: string;
  readonly stdout: string;
}

const run = (...args: string[]): Ended =>
  spawnSync('node', [PROGRAM, ...args], { encoding: 'utf8', timeout: 20_000 });

function start(
  args: readonly string[],
  inherited?: number,
  stderr: number | 'ignore' = 'ignore',
): { child: ChildProcess; ended: Promise<number | null> } {
  const stdio = ['ignore', 'ignore', stderr, ...(inherited === undefined ? [] : [inherited])] as const;
  const child = spawn('node', [PROGRAM, `--shared-dir=${directory}/share`, ...args], { stdio: [...stdio] });
  children.push(child);
  return { child, ended: new Promise((resolve) => child.on('exit', resolve)) };
}

async function listening(): Promise<void> {
  const end = Date.now() + 10_000;
  while (!existsSync(socketPath)) {
    if (Date.now() > end) throw new Error('the daemon does not listen');
    await sleep(20);
  }
}

/**
 * A process that holds a lease of the file (fcntl(2), F_SETLEASE) and does not give it up when asked to: who opens the
 * file waits in the system call, 45 seconds unless somebody has changed that.
 */
async function holdLease(path: string): Promise<ChildProcess> {
  const program = `
    import { openSync } from 'node:fs';
    import { bind } from '${REPOSITORY}/dist/src/host/libc.js';
    process.on('SIGIO', () => undefined);
    setInterval(() => undefined, 1000);
    bind('fcntl', 'int', ['int', 'int', 'int64_t'])(openSync('${path}', 'r+'), 1024, 1);
    console.log('held');`;
  const child = spawn('node', ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

/** Mounts, looks a file up, and unmounts. */
function visit(): void {
  using machine = LoopbackMachine.start({ socket: socketPath, ...GUEST });
  const client = new VirtioFsClient(machine);
  expectAnswer(client.init(), 'INIT');
  expectAnswer(client.lookup(ROOT, 'hello'), 'LOOKUP');
}

describe('the daemon', () => {
  test('serves one front-end after the other, and SIGTERM ends it with status 0 and nothing left behind', async () => {
    const { child, ended } = start([`--socket-path=${socketPath}`]);
    await listening();
    visit();
    visit();
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect([existsSync(socketPath), existsSync(`${socketPath}.pid`)]).toEqual([false, false]);
  });

  test('ends with status 0 on SIGTERM while a front-end is connected', async () => {
    const { child, ended } = start([`--socket-path=${socketPath}`]);
    await listening();
    using machine = LoopbackMachine.start({ socket: socketPath, ...GUEST });
    expectAnswer(new VirtioFsClient(machine).init(), 'INIT');
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  });

  test('ends cleanly on a signal that comes as soon as it listens', async () => {
    const { child, ended } = start([`--socket-path=${socketPath}`]);
    const end = Date.now() + 10_000;
    while (!existsSync(socketPath) && Date.now() < end);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(existsSync(socketPath)).toBe(false);
  });

  test('takes signals that come together for one', async () => {
    const { child, ended } = start([`--socket-path=${socketPath}`]);
    await listening();
    for (let i = 0; i < 5; i += 1) {
      child.kill('SIGTERM');
      await sleep(1);
    }
    expect(await ended).toBe(0);
    expect(existsSync(socketPath)).toBe(false);
  });

  test.skipIf(spawnSync('unshare', ['--map-root-user', 'true']).status !== 0)(
    'says so when it is root and may not become the users of the guest',
    async () => {
      const log = join(directory, 'log');
      const args = ['--map-root-user', 'node', PROGRAM, `--shared-dir=${directory}/share`];
      const child = spawn('unshare', [...args, `--socket-path=${socketPath}`], {
        stdio: ['ignore', 'ignore', openSync(log, 'w')],
      });
      children.push(child);
      await vi.waitFor(() => expect(readFileSync(log, 'utf8')).toContain('"listening"'), 10_000);
      expect(readFileSync(log, 'utf8')).toMatch(
        /"needs":"CAP_SETUID, CAP_SETGID, setgroups".*"new_files_belong_to_root"/,
      );
    },
  );

  test('ends with its front-end when told to', async () => {
    const { ended } = start([`--socket-path=${socketPath}`, '--exit-on-disconnect']);
    await listening();
    visit();
    expect(await ended).toBe(0);
    expect(existsSync(socketPath)).toBe(false);
  });

  test('that hangs in a system call says so, and a second SIGTERM ends it with nothing left behind', async () => {
    const holder = await holdLease(join(directory, 'share/hello'));
    const log = join(directory, 'log');
    const { child, ended } = start([`--socket-path=${socketPath}`], undefined, openSync(log, 'w'));
    await listening();
    using machine = LoopbackMachine.start({ socket: socketPath, ...GUEST });
    const client = new VirtioFsClient(machine, 1, 100);
    expectAnswer(client.init(), 'INIT');
    const { nodeid } = expectAnswer(client.lookup(ROOT, 'hello'), 'LOOKUP');
    expect(() => client.open(nodeid, O_RDWR)).toThrow('no request was finished');
    await vi.waitFor(() => expect(readFileSync(log, 'utf8')).toContain('thread_blocked'), 12_000);
    expect(readFileSync(log, 'utf8')).toMatch(/"thread":"device-thread","request":"OPEN","seconds":\d+/);
    child.kill('SIGTERM');
    await sleep(1100);
    expect(child.exitCode).toBe(null);
    child.kill('SIGTERM');
    await ended;
    expect(child.signalCode).toBe('SIGKILL');
    expect([existsSync(socketPath), existsSync(`${socketPath}.pid`)]).toEqual([false, false]);
    holder.kill();
  }, 30_000);

  test('takes over a listening socket, and ends with its front-end as libvirt expects', async () => {
    const fd = listenUnix(socketPath, { backlog: 4 });
    const { ended } = start(['--fd=3'], fd);
    visit();
    expect(await ended).toBe(0);
    expect(existsSync(socketPath)).toBe(true);
  });

  test('logs JSON lines on stderr, one when it listens', async () => {
    const child = spawn('node', [PROGRAM, `--shared-dir=${directory}/share`, `--socket-path=${socketPath}`]);
    children.push(child);
    let log = '';
    child.stderr.on('data', (octets: Buffer) => (log += octets.toString()));
    await listening();
    visit();
    child.kill('SIGTERM');
    await new Promise((resolve) => child.on('exit', resolve));
    const events = log
      .trimEnd()
      .split('\n')
      .map((line): unknown => (JSON.parse(line) as { readonly msg: unknown }).msg);
    expect(events).toEqual(
      expect.arrayContaining(['listening', 'vhost_user_connected', 'fuse_init', 'stopped']),
    );
  });
});

describe('the command line', () => {
  test('of a share that is not there, or is no directory, is refused with status 2', () => {
    const missing = run('--shared-dir=/nonexistent', `--socket-path=${socketPath}`);
    expect(missing.status).toBe(2);
    expect(missing.stderr).toContain('/nonexistent');
    expect(run(`--shared-dir=${directory}/share/hello`, `--socket-path=${socketPath}`).status).toBe(2);
    expect(existsSync(socketPath)).toBe(false);
  });

  test('that asks for what is not supported yet is refused with status 2 by name', () => {
    const { status, stderr } = run('--shared-dir=/', `--socket-path=${socketPath}`, '--sandbox=namespace');
    expect(status).toBe(2);
    expect(stderr).toContain('--sandbox=namespace is not supported yet; allowed: --sandbox=none');
  });

  test('with fewer descriptors than a daemon needs is refused with status 2, whoever limits them', () => {
    const args = [
      '--shared-dir=/',
      `--socket-path=${socketPath}`,
      '--num-request-queues=2',
      '--queue-threads=2',
    ];
    const { status, stderr } = run(...args, '--rlimit-nofile=159');
    expect(status).toBe(2);
    expect(stderr).toContain('--rlimit-nofile 159: too few to serve with; allowed 160 to');
    const script = 'ulimit -n 159 && exec node "$@"';
    const limited = spawnSync('sh', ['-c', script, 'sh', PROGRAM, ...args, '--rlimit-nofile=0'], {
      encoding: 'utf8',
    });
    expect(limited.status).toBe(2);
    expect(limited.stderr).toContain('limit of open files is 159');
    expect(existsSync(socketPath)).toBe(false);
  });

  test('with an unknown flag or value is refused with status 2', () => {
    expect(run('--shared-dir=/', '--frobnicate').status).toBe(2);
    expect(run('--shared-dir=/', `--socket-path=${socketPath}`, '--max-mem-slots=0').status).toBe(2);
  });

  test.each(['--help', '--version', '--print-capabilities'])('%s prints and ends with status 0', (flag) => {
    const { status, stdout } = run(flag);
    expect(status).toBe(0);
    expect(stdout).not.toBe('');
  });

  test('of a second daemon on the same path is refused; the first one goes on', async () => {
    start([`--socket-path=${socketPath}`]);
    await listening();
    const second = run(`--shared-dir=${directory}/share`, `--socket-path=${socketPath}`);
    expect(second.status).toBe(2);
    expect(second.stderr).toContain('another daemon');
    visit();
    expect(readFileSync(`${socketPath}.pid`, 'utf8')).not.toBe('');
  });
});
