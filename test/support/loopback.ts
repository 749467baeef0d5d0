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

/** A back-end that runs in `turn`. */
export class InProcessBackend implements Disposable {
  readonly session: BackendSession;
  readonly server: FuseServer;
  /** The memory table, mapped. */
  readonly memory: GuestMemory;
  /** The front-end's end of the connection; who takes it owns it. */
  readonly socket: OwnedFd;
  readonly #loop: EventLoop;
  readonly #owned = new Cleanup();

  constructor(fileSystem: FileSystem, { maxMemSlots = 509, requestQueues = 1 } = {}) {
    const [theirs, ours] = socketPair();
    this.socket = theirs;
    this.#loop = this.#owned.use(new EventLoop());
    this.memory = this.#owned.use(new GuestMemory({ maxSlots: maxMemSlots }));
    this.server = new FuseServer({
      fileSystem,
      host: { allocate: (size) => NativeMemory.allocate(size), copy: copyMemory },
      guest: this.memory,
    });
    this.session = this.#owned.use(
      new BackendSession({
        socket: new MessageSocket(ours),
        device: new FsDevice(this.server, requestQueues, 'paper'),
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

export const startMachine = (
  backend: InProcessBackend,
  options: Omit<LoopbackOptions, 'socket' | 'wait'>,
): LoopbackMachine => LoopbackMachine.start({ ...options, socket: backend.socket, wait: backend.turn });
