/**
 * A queue thread: serves some request queues of a share that the device thread has opened, in one blocking loop.
 *
 * The device thread owns socket and memory table; it asks, this thread answers between turns. Identity
 * (user, groups, umask, capabilities) is the thread's own.
 */
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { ProtocolError } from '../errors.ts';
import { MOUNT_STATE_SIZE, MountState } from '../fuse/mount-state.ts';
import { FuseServer } from '../fuse/server.ts';
import { GuestMemoryView } from '../guest-memory/guest-memory-view.ts';
import { SharedRegions } from '../guest-memory/shared-regions.ts';
import { EPOLLIN, EventLoop } from '../host/epoll.ts';
import { drainEventfd, signalEventfd } from '../host/eventfd.ts';
import { copyMemory, NativeMemory } from '../host/native-memory.ts';
import { Cleanup } from '../host/owned-fd.ts';
import { ThreadPulse } from '../host/thread-pulse.ts';
import { TurnGate } from '../host/turn-gate.ts';
import type { Log } from '../log.ts';
import { PassthroughFs } from '../passthrough/passthrough-fs.ts';
import { RingServer } from '../vhost/ring-server.ts';
import { compileSoon } from './compile-soon.ts';
import { FsDevice } from './fs-device.ts';
import { createLogger } from './logger.ts';
import type { Question, QuestionAnswer, QueueThreadSetup } from './queue-thread-messages.ts';

class QueueThread {
  readonly #setup: QueueThreadSetup;
  readonly #loop: EventLoop;
  readonly #rings: RingServer;
  #isQuitting = false;

  constructor(setup: QueueThreadSetup, log: Log, owned: Cleanup) {
    const { options, thread, threads, indexes } = setup;
    this.#setup = setup;
    const pulses = NativeMemory.at(setup.pulsesAddress, ThreadPulse.bytesFor(threads));
    const pulse = new ThreadPulse(pulses, thread);
    this.#loop = owned.use(new EventLoop(pulse));
    const gateMemory = NativeMemory.at(setup.gateAddress, TurnGate.bytesFor(threads));
    const gate = new TurnGate(gateMemory, threads, thread);
    const memory = new GuestMemoryView(SharedRegions.at(setup.regionsAddress, options.maxMemSlots));
    const server = new FuseServer({
      fileSystem: owned.use(PassthroughFs.attach(setup.share)),
      host: { allocate: (size) => NativeMemory.allocate(size), copy: copyMemory },
      guest: memory,
      log,
      shared: {
        state: new MountState(NativeMemory.at(setup.mountAddress, MOUNT_STATE_SIZE)),
        gate,
      },
      pulse,
    });
    this.#rings = owned.use(
      new RingServer({
        device: new FsDevice(server, options.requestQueues, options.tag),
        loop: this.#loop,
        memory,
        log,
        pollMicros: options.pollMicros,
        indexes,
        gate,
      }),
    );
  }

  /** Serves until told to quit. */
  run(): void {
    const { wakeFd } = this.#setup;
    this.#loop.add(wakeFd, EPOLLIN, () => {
      drainEventfd(wakeFd);
      this.#answerAll();
    });
    while (!this.#isQuitting) this.#loop.runOnce(this.#rings.turn());
  }

  #answerAll(): void {
    const { port, answerFd } = this.#setup;
    for (;;) {
      const received: { readonly message: Question } | undefined = receiveMessageOnPort(port);
      if (received === undefined) return;
      if (received.message.kind === 'quit') {
        this.#isQuitting = true;
        return;
      }
      port.postMessage(this.#answer(received.message));
      signalEventfd(answerFd);
    }
  }

  #answer(question: Exclude<Question, { kind: 'quit' }>): QuestionAnswer {
    try {
      return { kind: 'done', value: this.#carryOut(question) };
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return { kind: 'refused', code: error.code, reason: error.message };
    }
  }

  #carryOut(question: Exclude<Question, { kind: 'quit' }>): number {
    if (question.kind === 'ring') return this.#rings.carryOut(question.command);
    this.#rings.settle();
    return 0;
  }
}

const setup = workerData as QueueThreadSetup;
{
  using owned = new Cleanup();
  const log = createLogger(setup.options.logLevel);
  const thread = new QueueThread(setup, log, owned);
  log.info({ thread: setup.thread, queues: setup.indexes }, 'queue_thread_started');
  compileSoon();
  thread.run();
}
// The answer to `quit`: nothing of the share is used any more.
setup.port.postMessage({ kind: 'done', value: 0 } satisfies QuestionAnswer);
signalEventfd(setup.answerFd);
setup.port.close();
