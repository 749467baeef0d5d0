/**
 * The main thread of the served process: options, signals, exit status. It never touches guest memory.
 *
 *     starting ──listening──▶ serving ──SIGTERM, SIGINT──▶ stopping ──thread ends──▶ exit 0
 *        │                       └──front-end gone, --exit-on-disconnect──▶ exit 0
 *        └──ConfigError──▶ exit 2          thread fails ──▶ exit 1 (2: a share that cannot be opened)
 */
import { errnoName } from '../../protocol/errno.ts';
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import { ConfigError } from '../errors.ts';
import { createEventfd, signalEventfd } from '../host/eventfd.ts';
import { openFilesLimit, setOpenFilesLimit } from '../host/limits.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import { NativeMemory } from '../host/native-memory.ts';
import { exitNow } from '../host/process-exit.ts';
import { ThreadPulse } from '../host/thread-pulse.ts';
import { BlockedThreads } from './blocked-threads.ts';
import { Listener } from './listener.ts';
import { createLogger } from './logger.ts';
import type { DaemonOptions } from './options.ts';
import { ThreadGroup } from './thread-group.ts';

const DEFAULT_OPEN_FILES = 1_000_000;
/** Descriptors that a daemon cannot start without: half as many are open then, the others while code is loaded. */
const OPEN_FILES = 128;
const OPEN_FILES_PER_THREAD = 16;
/** Milliseconds after a signal in which another one means the same. */
const PATIENCE_MS = 1000;
const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Serves until told to stop.
 *
 * @returns the process's exit status
 * @throws {ConfigError} if the share or the socket cannot be opened; nothing has been served then
 */
export async function runDaemon(options: DaemonOptions): Promise<number> {
  const log = createLogger(options.logLevel);
  limitOpenFiles(options);
  using stop = new OwnedFd(createEventfd());
  const paths = new Cleanup();
  let stoppingSince: number | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    stoppingSince ??= performance.now();
    log.info({ signal }, 'stopping');
    // A thread that hangs in a system call cannot be stopped from here: another signal ends everything. Not one that
    // comes with the first: timeout(1), npm and a terminal signal a process and its group.
    if (performance.now() - stoppingSince > PATIENCE_MS) {
      // Even that may not end it, as long as the system call hangs. The next daemon finds the path free.
      paths[Symbol.dispose]();
      process.kill(process.pid, 'SIGKILL');
    }
    signalEventfd(stop.fd);
  };
  // Before there is a path to leave behind.
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
  try {
    const listener = paths.use(Listener.open(options.listen));
    return await serve(options, log, { listener, stopFd: stop.fd });
  } finally {
    paths[Symbol.dispose]();
    for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
  }
}

interface Serving {
  /** Lent. */
  readonly listener: Listener;
  readonly stopFd: number;
}

async function serve(options: DaemonOptions, log: Logger, { listener, stopFd }: Serving): Promise<number> {
  const onStuck = (): void => {
    listener.close();
    exitNow(1);
  };
  const count = 1 + options.queueThreads;
  // As long as the process: threads look there until the end.
  const memory = NativeMemory.allocate(ThreadPulse.bytesFor(count));
  const pulses = Array.from({ length: count }, (_, thread) => new ThreadPulse(memory, thread));
  using _watch = new BlockedThreads(pulses, log);
  const threads = new ThreadGroup({ log, stopFd, onStuck });
  return await threads.run({ options, listenFd: listener.fd, stopFd, pulsesAddress: memory.address });
}

/** The share takes its budget of descriptors from the limit this leaves in force. */
function limitOpenFiles({ openFilesLimit: wanted, queueThreads }: DaemonOptions): void {
  const least = OPEN_FILES + OPEN_FILES_PER_THREAD * queueThreads;
  const most = Number(readFileSync('/proc/sys/fs/nr_open', 'utf8'));
  const allowed = `allowed ${least} to ${most}`;
  if (wanted !== 0 && (wanted ?? least) < least)
    throw new ConfigError('BAD_OPTION', `--rlimit-nofile ${wanted}: too few to serve with; ${allowed}`);
  const result =
    wanted === 0 ? openFilesLimit() : setOpenFilesLimit(wanted ?? Math.min(DEFAULT_OPEN_FILES, most));
  if (result < 0)
    throw new ConfigError('BAD_OPTION', `--rlimit-nofile ${wanted}: ${errnoName(-result)}; ${allowed}`);
  if (result < least)
    throw new ConfigError('SYSTEM', `the limit of open files is ${result}, as ulimit -n says; ${allowed}`);
}
