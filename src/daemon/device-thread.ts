/**
 * The device thread: owns the vhost-user socket, the memory table, the vrings and the share, in one blocking loop.
 *
 * Everything in it is synchronous and in order. Front-ends are served one after the other; the next one waits in the
 * listening socket's backlog. The main thread wakes the loop through the stop eventfd: a worker that waits in a system
 * call hears nothing else.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Errno } from '../../protocol/errno.ts';
import { ConfigError, ProtocolError } from '../errors.ts';
import { FuseServer } from '../fuse/server.ts';
import { GuestMemory } from '../guest-memory/guest-memory.ts';
import { EPOLLIN, EventLoop } from '../host/epoll.ts';
import { copyMemory, NativeMemory } from '../host/native-memory.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import { acceptUnix, MessageSocket } from '../host/unix-socket.ts';
import type { Log } from '../log.ts';
import { PassthroughFs } from '../passthrough/passthrough-fs.ts';
import { BackendSession } from '../vhost/backend.ts';
import { FsDevice } from './fs-device.ts';
import { createLogger } from './logger.ts';
import type { DaemonOptions } from './options.ts';

/** What the main thread hands over, as a structured clone. The descriptors are lent. */
export interface DeviceThreadSetup {
  readonly options: DaemonOptions;
  readonly listenFd: number;
  readonly stopFd: number;
}

/** Sent to the main thread instead of serving: what the operator must change. An exception loses its class on the way. */
export type DeviceThreadReport = Pick<ConfigError, 'code' | 'message'>;

/** Milliseconds before a connection is tried again when this process is out of descriptors. */
const ACCEPT_RETRY_MS = 100;

class DeviceThread {
  readonly #setup: DeviceThreadSetup;
  readonly #log: Log;
  readonly #loop: EventLoop;
  readonly #memory: GuestMemory;
  readonly #device: FsDevice;
  #session: BackendSession | undefined;
  #isStopping = false;
  #isAccepting = false;

  constructor(setup: DeviceThreadSetup, log: Log, owned: Cleanup) {
    const { options } = setup;
    this.#setup = setup;
    this.#log = log;
    this.#loop = owned.use(new EventLoop());
    this.#memory = owned.use(new GuestMemory({ maxSlots: options.maxMemSlots, log }));
    const fileSystem = owned.use(new PassthroughFs(options.share));
    const server = new FuseServer({
      fileSystem,
      host: { allocate: (size) => NativeMemory.allocate(size), copy: copyMemory },
      guest: this.#memory,
      log,
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

const setup = workerData as DeviceThreadSetup;
const log = createLogger(setup.options.logLevel);
try {
  using owned = new Cleanup();
  new DeviceThread(setup, log, owned).run();
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  parentPort?.postMessage({ code: error.code, message: error.message } satisfies DeviceThreadReport);
}
