/**
 * The device thread: owns the vhost-user socket, the memory table and the share, and serves the vrings that no queue
 * thread does, in one blocking loop.
 *
 * Everything in it is synchronous and in order. Front-ends are served one after the other; the next one waits in the
 * listening socket's backlog. The main thread wakes the loop through the stop eventfd: a worker that waits in a system
 * call hears nothing else.
 */
import { parentPort, type TransferListItem, workerData } from 'node:worker_threads';
import { Errno } from '../../protocol/errno.ts';
import { ConfigError, ProtocolError } from '../errors.ts';
import { FuseServer } from '../fuse/server.ts';
import { GuestMemory } from '../guest-memory/guest-memory.ts';
import { EPOLLIN, EventLoop } from '../host/epoll.ts';
import { copyMemory, NativeMemory } from '../host/native-memory.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import { ThreadPulse } from '../host/thread-pulse.ts';
import { acceptUnix, MessageSocket } from '../host/unix-socket.ts';
import type { Log } from '../log.ts';
import { PassthroughFs } from '../passthrough/passthrough-fs.ts';
import { BackendSession } from '../vhost/backend.ts';
import { compileAsUsual, compileSoon } from './compile-soon.ts';
import { FsDevice } from './fs-device.ts';
import { createLogger } from './logger.ts';
import type { DaemonOptions } from './options.ts';
import type { QueueThreadSetup } from './queue-thread-messages.ts';
import { DaemonQueueThreads } from './queue-threads.ts';

/** What the main thread hands over, as a structured clone. The descriptors are lent. */
export interface DeviceThreadSetup {
  readonly options: DaemonOptions;
  readonly listenFd: number;
  readonly stopFd: number;
  /** Of all threads' `ThreadPulse`s. */
  readonly pulsesAddress: number;
}

/** Sent to the main thread. */
export type DeviceThreadReport =
  /** Instead of serving: what the operator must change. An exception loses its class on the way. */
  | { readonly kind: 'refused'; readonly code: ConfigError['code']; readonly message: string }
  /** A queue thread is wanted. Only the main thread hears of a thread's end, so it starts all. */
  | { readonly kind: 'startQueueThread'; readonly setup: QueueThreadSetup };

/** Milliseconds before a connection is tried again when this process is out of descriptors. */
const ACCEPT_RETRY_MS = 100;

class DeviceThread {
  readonly #setup: DeviceThreadSetup;
  readonly #log: Log;
  readonly #loop: EventLoop;
  readonly #memory: GuestMemory;
  readonly #device: FsDevice;
  readonly #queueThreads: DaemonQueueThreads | undefined;
  #session: BackendSession | undefined;
  #isStopping = false;
  #isAccepting = false;

  constructor(setup: DeviceThreadSetup, log: Log, owned: Cleanup) {
    const { options, pulsesAddress } = setup;
    this.#setup = setup;
    this.#log = log;
    const pulse = new ThreadPulse(NativeMemory.at(pulsesAddress, ThreadPulse.bytesFor(1)), 0);
    pulse.work();
    this.#loop = owned.use(new EventLoop(pulse));
    const fileSystem = owned.use(
      new PassthroughFs(options.share, options.queueThreads === 0 ? 'alone' : 'shared'),
    );
    // Each thread has its own, but what forbids it (a sysctl, a container) forbids it to all.
    if (fileSystem.inFlight === undefined) log.info({}, 'no_io_uring');
    // To another user it is no surprise. Root lacks what that needs in a user namespace, or a container with few capabilities.
    if (!fileSystem.actsAsUsers && process.geteuid?.() === 0)
      log.warn({ needs: 'CAP_SETUID, CAP_SETGID, setgroups' }, 'new_files_belong_to_root');
    const queueThreads =
      options.queueThreads === 0
        ? undefined
        : owned.use(new DaemonQueueThreads(setup, () => fileSystem.handover(), startQueueThread));
    this.#queueThreads = queueThreads;
    this.#memory = owned.use(new GuestMemory({ maxSlots: options.maxMemSlots, log, readers: queueThreads }));
    const server = new FuseServer({
      fileSystem,
      host: { allocate: (size) => NativeMemory.allocate(size), copy: copyMemory },
      guest: this.#memory,
      log,
      shared: queueThreads,
      pulse,
    });
    this.#device = new FsDevice(server, options.requestQueues, options.tag);
  }

  /** Serves until told to stop, or until the first front-end has gone if that is asked for. */
  run(): void {
    const { listenFd, stopFd, options } = this.#setup;
    this.#loop.add(stopFd, EPOLLIN, () => {
      this.#isStopping = true;
    });
    this.#accept(true);
    this.#log.info({ sharedDir: options.share.sharedDir, listen: options.listen, listenFd }, 'listening');
    while (!this.#isStopping) {
      const isPausing = this.#session === undefined && !this.#isAccepting;
      const wait = this.#session?.run() ?? (isPausing ? ACCEPT_RETRY_MS : -1);
      this.#loop.runOnce(this.#session?.closed ? 0 : wait);
      if (this.#session?.closed) this.#sessionEnded();
      else if (isPausing) this.#accept(true);
    }
    this.#session?.close();
    this.#log.info({}, 'stopped');
  }

  /** Watches the listening socket, or leaves the next front-end in its backlog. */
  #accept(isWanted: boolean): void {
    if (this.#isAccepting === isWanted) return;
    this.#isAccepting = isWanted;
    const { listenFd } = this.#setup;
    if (isWanted) this.#loop.add(listenFd, EPOLLIN, () => this.#onConnection());
    else this.#loop.remove(listenFd);
  }

  #onConnection(): void {
    const fd = acceptUnix(this.#setup.listenFd);
    if (fd === -Errno.EAGAIN) return;
    this.#accept(false);
    if (fd < 0) {
      this.#log.error({ errno: -fd }, 'accept_failed');
      return;
    }
    try {
      this.#session = new BackendSession({
        socket: new MessageSocket(new OwnedFd(fd)),
        device: this.#device,
        loop: this.#loop,
        memory: this.#memory,
        log: this.#log,
        pollMicros: this.#setup.options.pollMicros,
        queueThreads: this.#queueThreads,
      });
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#log.error({ code: error.code, reason: error.message }, 'connection_refused');
    }
  }

  #sessionEnded(): void {
    this.#session = undefined;
    if (this.#setup.options.exitOnDisconnect) this.#isStopping = true;
    else this.#accept(true);
  }
}

/** Which compiles soon when it serves. */
function startQueueThread(setup: QueueThreadSetup): void {
  compileAsUsual();
  report({ kind: 'startQueueThread', setup }, [setup.port]);
}

function report(message: DeviceThreadReport, transferred: readonly TransferListItem[] = []): void {
  parentPort?.postMessage(message, [...transferred]);
}

const setup = workerData as DeviceThreadSetup;
const log = createLogger(setup.options.logLevel);
try {
  using owned = new Cleanup();
  const thread = new DeviceThread(setup, log, owned);
  compileSoon();
  thread.run();
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  report({ kind: 'refused', code: error.code, message: error.message });
}
