/** Front-end and back-end in one thread: whenever the front-end would wait, the back-end has its turn. */
import { FsDevice } from '../../src/daemon/fs-device.ts';
import type { FileSystem } from '../../src/fuse/file-system.ts';
import { FuseServer } from '../../src/fuse/server.ts';
import { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { EventLoop } from '../../src/host/epoll.ts';
import { copyMemory, NativeMemory } from '../../src/host/native-memory.ts';
import { Cleanup, type OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { SILENT_LOG } from '../../src/log.ts';
import { LoopbackMachine, type LoopbackOptions } from '../../src/machine/loopback-machine.ts';
import { BackendSession } from '../../src/vhost/backend.ts';
import type { VhostDevice } from '../../src/vhost/device.ts';

/** A back-end of any device that runs in `turn`. */
export class InProcessDevice implements Disposable {
  readonly session: BackendSession;
  /** The memory table, mapped. */
  readonly memory: GuestMemory;
  /** The front-end's end of the connection; who takes it owns it. */
  readonly socket: OwnedFd;
  readonly #loop: EventLoop;
  readonly #owned = new Cleanup();

  constructor(createDevice: (memory: GuestMemory) => VhostDevice, maxMemSlots = 509) {
    const [theirs, ours] = socketPair();
    this.socket = theirs;
    this.#loop = this.#owned.use(new EventLoop());
    this.memory = this.#owned.use(new GuestMemory({ maxSlots: maxMemSlots }));
    this.session = this.#owned.use(
      new BackendSession({
        socket: new MessageSocket(ours),
        device: createDevice(this.memory),
        loop: this.#loop,
        memory: this.memory,
        log: SILENT_LOG,
      }),
    );
  }

  /** Serves what there is, without waiting. */
  readonly turn = (): void => {
    this.session.run();
    this.#loop.runOnce(0);
    this.session.run();
  };

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}

/** A back-end of a file system that runs in `turn`. */
export class InProcessBackend implements Disposable {
  readonly server: FuseServer;
  readonly session: BackendSession;
  readonly memory: GuestMemory;
  readonly socket: OwnedFd;
  readonly turn: () => void;
  readonly #device: InProcessDevice;

  constructor(fileSystem: FileSystem, { maxMemSlots = 509, requestQueues = 1 } = {}) {
    const servers: FuseServer[] = [];
    this.#device = new InProcessDevice((guest) => {
      const host = { allocate: (size: number) => NativeMemory.allocate(size), copy: copyMemory };
      const server = new FuseServer({ fileSystem, host, guest });
      servers.push(server);
      return new FsDevice(server, requestQueues, 'paper');
    }, maxMemSlots);
    this.server = servers[0]!;
    this.session = this.#device.session;
    this.memory = this.#device.memory;
    this.socket = this.#device.socket;
    this.turn = this.#device.turn;
  }

  [Symbol.dispose](): void {
    this.#device[Symbol.dispose]();
  }
}

export const startMachine = (
  backend: InProcessBackend,
  options: Omit<LoopbackOptions, 'socket' | 'wait'>,
): LoopbackMachine => LoopbackMachine.start({ ...options, socket: backend.socket, wait: backend.turn });
